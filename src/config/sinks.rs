//! `[[sink]]` becomes a receiver of the log's records.

use std::time::Duration;

use crate::client::{Address, FetchUrl, Trust};
use crate::sinks::{FileSettings, Format, HttpKind, HttpSettings, NatsSettings, Settings, SyslogSettings, Target};

use super::problems::Found;
use super::raw::RawSink;
use super::sections::{absolute, time};
use super::units;

/// Longer than a broken connection stays unnoticed.
const SETTLE: Duration = Duration::from_secs(10);

pub(super) fn sinks(raw: &[RawSink], found: &mut Found) -> Option<Vec<Settings>> {
    let mut all: Vec<Option<Settings>> = Vec::new();
    for (number, raw) in raw.iter().enumerate() {
        let path = raw.name.as_ref().map_or_else(|| format!("sink[{number}]"), |name| format!("sink.{name}"));
        let sink = sink(&path, raw, found);
        let names = all.iter().flatten().map(|known| &known.name);
        if sink.as_ref().is_some_and(|sink| names.into_iter().any(|name| *name == sink.name)) {
            found.add(&path, "stands twice", "each sink saves its position under a name of its own");
        }
        all.push(sink);
    }
    all.into_iter().collect()
}

fn sink(path: &str, raw: &RawSink, found: &mut Found) -> Option<Settings> {
    const KINDS: &str = "write type = \"file\", \"syslog\", \"http\", \"splunk\" or \"nats\"";
    let name = found.need(&format!("{path}.name"), raw.name.as_ref(), "give it a name, as in \"siem\"");
    let name = name.and_then(|name| found.check(&format!("{path}.name"), name.parse(), ""));
    let format = raw.format.as_deref().unwrap_or("native");
    let format = found.check::<Format, _>(&format!("{path}.format"), format.parse(), FORMATS);
    let kind = found.need(&format!("{path}.type"), raw.kind.as_deref(), KINDS);
    let kind = kind.filter(|kind| {
        let known = ["file", "syslog", "http", "splunk", "nats"].contains(kind);
        if !known {
            found.add(format!("{path}.type"), "is not a kind of sink", KINDS);
        }
        known
    });
    let target = match kind {
        Some("file") => file(path, raw, found).map(Target::File),
        Some("syslog") => syslog(path, raw, found).map(Target::Syslog),
        Some("nats") => nats(path, raw, found).map(Target::Nats),
        Some(kind) => http(path, kind, raw, found).map(Target::Http),
        None => None,
    };
    if let Some(kind) = kind {
        unused(path, kind, raw, found);
    }
    Some(Settings { name: name?, format: format?, target: target? })
}

const FORMATS: &str = "write \"native\", \"ocsf\", \"cef\", \"ecs\" or \"fhir\"";

/// A setting that belongs to another kind of sink would be believed to do something.
fn unused(path: &str, kind: &str, raw: &RawSink, found: &mut Found) {
    let given = [
        ("path", raw.path.is_some(), ["file"].as_slice()),
        ("rotate", raw.rotate.is_some(), &["file"]),
        ("keep", raw.keep.is_some(), &["file"]),
        ("address", raw.address.is_some(), &["syslog", "nats"]),
        ("subject", raw.subject.is_some(), &["nats"]),
        ("settle", raw.settle.is_some(), &["syslog"]),
        ("url", raw.url.is_some(), &["http", "splunk"]),
        ("token_file", raw.token_file.is_some(), &["http", "splunk", "nats"]),
        ("acknowledge", raw.acknowledge.is_some(), &["splunk"]),
        ("ca_file", raw.ca_file.is_some(), &["syslog", "http", "splunk", "nats"]),
        ("certificate", raw.certificate.is_some(), &["syslog", "http", "splunk", "nats"]),
        ("key", raw.key.is_some(), &["syslog", "http", "splunk", "nats"]),
    ];
    for (field, _, of) in given.iter().filter(|(_, given, of)| *given && !of.contains(&kind)) {
        found.add(format!("{path}.{field}"), format!("belongs to a sink of type {}", of.join(" or ")), "remove it");
    }
}

fn file(path: &str, raw: &RawSink, found: &mut Found) -> Option<FileSettings> {
    let at = |field: &str| format!("{path}.{field}");
    let file = found.need(&at("path"), raw.path.as_ref(), "name the file that grows");
    let file = file.map(|file| absolute(&at("path"), file, found));
    let rotate = raw.rotate.as_deref().unwrap_or("256MiB");
    let rotate = found.check(&at("rotate"), units::bytes(rotate), "write a size, as in \"256MiB\"");
    Some(FileSettings { path: file?, rotate: rotate?, keep: raw.keep.unwrap_or(0) })
}

fn syslog(path: &str, raw: &RawSink, found: &mut Found) -> Option<SyslogSettings> {
    let at = |field: &str| format!("{path}.{field}");
    let address = found.need(&at("address"), raw.address.as_ref(), "write host:port; RFC 5425 has port 6514");
    let address = address.and_then(|address| found.check(&at("address"), address.parse(), "write host:port"));
    let settle = time(&at("settle"), raw.settle.as_deref(), SETTLE, found);
    if settle.is_some_and(|settle| settle < SETTLE) {
        found.add(at("settle"), "is less than 10 s", "a broken connection is noticed within 8 s, and not sooner");
    }
    let trust = trust(path, raw, true, found);
    Some(SyslogSettings { address: address?, trust: trust?, settle: settle? })
}

fn nats(path: &str, raw: &RawSink, found: &mut Found) -> Option<NatsSettings> {
    let at = |field: &str| format!("{path}.{field}");
    let address = found.need(&at("address"), raw.address.as_ref(), "write host:port; NATS has port 4222");
    let address: Option<Address> = address.and_then(|one| found.check(&at("address"), one.parse(), "write host:port"));
    let subject = found.need(&at("subject"), raw.subject.as_ref(), "name the subject, as in \"keyward.audit\"");
    let fine = |subject: &&String| {
        subject
            .split('.')
            .all(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)))
    };
    if subject.is_some_and(|subject| !fine(&subject)) {
        found.add(at("subject"), "is not a subject", "write words of letters, digits, `-` and `_` between dots");
    }
    // Whoever is on the way could read who did what, and acknowledge what was never stored.
    let tls = raw.ca_file.is_some() || address.as_ref().is_some_and(|address| !address.is_loopback());
    let trust = trust(path, raw, tls, found);
    Some(NatsSettings { address: address?, trust: trust?, subject: subject.filter(fine)?.clone() })
}

fn http(path: &str, kind: &str, raw: &RawSink, found: &mut Found) -> Option<HttpSettings> {
    let at = |field: &str| format!("{path}.{field}");
    let hint = "write an https URL, or http to 127.0.0.1 or [::1]";
    let url = found.need(&at("url"), raw.url.as_ref(), hint);
    let url: Option<FetchUrl> = url.and_then(|url| found.check(&at("url"), url.parse(), hint));
    if kind == "splunk" && raw.token_file.is_none() {
        found.add(at("token_file"), "is missing", "name the file of the token of the event collector");
    }
    let trust = trust(path, raw, url.as_ref().is_some_and(FetchUrl::is_tls), found);
    let kind = match (kind, raw.acknowledge) {
        ("splunk", Some(true)) => HttpKind::SplunkAcknowledged,
        ("splunk", _) => HttpKind::Splunk,
        _ => HttpKind::Lines,
    };
    Some(HttpSettings { kind, url: url?, trust: trust? })
}

fn trust(path: &str, raw: &RawSink, tls: bool, found: &mut Found) -> Option<Trust> {
    let at = |field: &str| format!("{path}.{field}");
    let mut file = |field: &str, given: &Option<String>| given.as_ref().map(|file| absolute(&at(field), file, found));
    let (ca_file, token_file) = (file("ca_file", &raw.ca_file), file("token_file", &raw.token_file));
    let identity = (file("certificate", &raw.certificate), file("key", &raw.key));
    let hint = "name the PEM file of the authority that vouches for it; the system's are not asked";
    match (tls, ca_file.is_some()) {
        (true, false) => found.add(at("ca_file"), "is missing", hint),
        (false, true) => found.add(at("ca_file"), "has no use without https", "remove it"),
        (true, true) | (false, false) => {}
    }
    let identity = match identity {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            found.add(at("certificate"), "and key stand together", "give both, or none");
            None
        }
    };
    Some(Trust { ca_file, token_file, identity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::RawConfig;

    fn read(text: &str) -> Result<Vec<Settings>, String> {
        let raw: RawConfig = toml::from_str(text).unwrap();
        let mut found = Found::default();
        let sinks = sinks(&raw.sink, &mut found);
        found.finish(sinks).map_err(|problems| problems.to_string())
    }

    const FILE: &str = "[[sink]]\nname = \"a\"\ntype = \"file\"\npath = \"/var/log/a\"\n";
    const SYSLOG: &str =
        "[[sink]]\nname = \"b\"\ntype = \"syslog\"\naddress = \"siem.example:6514\"\nca_file = \"/ca.pem\"\n";
    const SPLUNK: &str = "[[sink]]\nname = \"c\"\ntype = \"splunk\"\nurl = \"https://siem.example/services/collector/event\"\n\
        ca_file = \"/ca.pem\"\ntoken_file = \"/token\"\nacknowledge = true\n";

    const NATS: &str = "[[sink]]\nname = \"d\"\ntype = \"nats\"\naddress = \"127.0.0.1:4222\"\nsubject = \"keyward.audit\"\nformat = \"ocsf\"\n";

    #[test]
    fn each_kind_is_read() {
        let all = read(&format!("{FILE}{SYSLOG}{SPLUNK}{NATS}")).unwrap();
        let kinds: Vec<&str> = all.iter().map(|sink| sink.target.kind()).collect();
        assert_eq!(kinds, ["file", "syslog", "splunk", "nats"]);
        assert_eq!(all[3].format, Format::Ocsf);
        assert_eq!(all[0].format, Format::Native);
        assert!(matches!(&all[2].target, Target::Http(http) if http.kind == HttpKind::SplunkAcknowledged));
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn each_problem_names_its_setting() {
        for (text, problem) in [
            (format!("{FILE}{FILE}"), "sink.a: stands twice"),
            (FILE.replace("name = \"a\"\n", ""), "sink[0].name: is missing"),
            (FILE.replace("\"a\"", "\"A b\""), "sink.A b.name: "),
            (FILE.replace("\"file\"", "\"kafka\""), "sink.a.type: is not a kind of sink"),
            (FILE.replace("/var", "var"), "sink.a.path: is not an absolute path"),
            (format!("{FILE}url = \"https://x/\"\n"), "sink.a.url: belongs to a sink of type http or splunk"),
            (format!("{FILE}format = \"csv\"\n"), "sink.a.format: is not a format"),
            (NATS.replace("127.0.0.1", "nats.example"), "sink.d.ca_file: is missing"),
            (NATS.replace("keyward.audit", "keyward.*"), "sink.d.subject: is not a subject"),
            (NATS.replace("subject = \"keyward.audit\"\n", ""), "sink.d.subject: is missing"),
            (format!("{SYSLOG}subject = \"a\"\n"), "sink.b.subject: belongs to a sink of type nats"),
            (SYSLOG.replace(":6514", ""), "sink.b.address: is not a host and a port"),
            (SYSLOG.replace("ca_file = \"/ca.pem\"\n", ""), "sink.b.ca_file: is missing"),
            (format!("{SYSLOG}settle = \"9s\"\n"), "sink.b.settle: is less than 10 s"),
            (format!("{SYSLOG}key = \"/k\"\n"), "sink.b.certificate: and key stand together"),
            (SPLUNK.replace("https", "http"), "sink.c.url: is plain http to another machine"),
            (SPLUNK.replace("token_file = \"/token\"\n", ""), "sink.c.token_file: is missing"),
        ] {
            let said = read(&text).unwrap_err();
            assert!(said.contains(problem), "{problem}: {said}");
        }
    }
}
