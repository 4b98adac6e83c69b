//! Whose word makes a checkpoint one to rely on? A policy file of C2SP tlog-policy: logs, witnesses, groups, and the quorum.
//! Parsing is pure and strict.

use std::collections::BTreeSet;

use super::cosign::CosignerKey;
use super::note::VerifierKey;

/// Logs, witnesses and groups of a policy, each, at most.
const MOST: usize = 64;
/// Bytes of a policy at most.
const MOST_BYTES: usize = 256 * 1024;

/// Who must have cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessPolicy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<Member>,
}

/// One witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its name in the policy.
    pub name: String,
    /// Its key.
    pub key: CosignerKey,
    /// Its submission prefix.
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    at_least: usize,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TrustError {
    /// Where.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

impl WitnessPolicy {
    /// Reads a policy.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        if text.len() > MOST_BYTES {
            return Err(TrustError { line: 1, why: format!("the policy has more than {MOST_BYTES} bytes") });
        }
        let mut reader = Reader::default();
        let mut last = 0;
        for (line, text) in (1..).zip(text.split('\n')) {
            reader.line(text).map_err(|why| TrustError { line, why })?;
            last = line;
        }
        let Reader { logs, witnesses, groups, quorum, .. } = reader;
        let quorum = quorum.ok_or(TrustError { line: last, why: "there is no quorum line".to_owned() })?;
        Ok(Self { logs, witnesses, groups, quorum })
    }

    /// The logs that it names.
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// The witnesses that it names, in its order.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether witnesses are enough, of which `has` says whether they cosigned.
    pub fn satisfied(&self, has: &dyn Fn(usize) -> bool) -> bool {
        self.quorum.is_none_or(|quorum| self.holds(quorum, has))
    }

    /// Which witnesses cosigned a note, and when; and whether they are enough.
    pub fn cosigned(&self, note: &str) -> (Vec<(&str, u64)>, bool) {
        let times: Vec<Option<u64>> = self.witnesses.iter().map(|witness| witness.key.cosigned(note)).collect();
        let enough = self.satisfied(&|at| times.get(at).is_some_and(Option::is_some));
        let named = self.witnesses.iter().zip(&times);
        (named.filter_map(|(witness, time)| time.map(|time| (witness.name.as_str(), time))).collect(), enough)
    }

    fn holds(&self, member: Member, has: &dyn Fn(usize) -> bool) -> bool {
        match member {
            Member::Witness(at) => has(at),
            // A group names only what stands above it, so that this ends.
            Member::Group(at) => self.groups.get(at).is_some_and(|group| {
                group.members.iter().filter(|member| self.holds(**member, has)).count() >= group.at_least
            }),
        }
    }
}

#[derive(Default)]
struct Reader {
    logs: Vec<VerifierKey>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<Option<Member>>,
    /// Names that are members already.
    taken: BTreeSet<String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.bytes().any(|byte| byte == 0x7f || byte < b' ' && byte != b'\t') {
            return Err("it holds a control character".to_owned());
        }
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key, rest @ ..] if rest.len() < 2 => self.log(key),
            ["witness", name, key, rest @ ..] if rest.len() < 2 => self.witness(name, key, rest.first().copied()),
            ["group", name, least, members @ ..] if !members.is_empty() => self.group(name, least, members),
            ["quorum", name] => self.quorum(name),
            [word, ..] if ["log", "witness", "group", "quorum"].contains(word) => {
                Err(format!("{word} has too few or too many words"))
            }
            [word, ..] => Err(format!("{word} is not log, witness, group or quorum")),
        }
    }

    fn log(&mut self, key: &str) -> Result<(), String> {
        let key = VerifierKey::parse(key).ok_or("the key of the log is none of Ed25519 (type 01)")?;
        if self.logs.iter().any(|known| known.public() == key.public()) {
            return Err("the key of the log stands twice".to_owned());
        }
        self.logs.push(key);
        few(self.logs.len())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), String> {
        self.free(name)?;
        let key = CosignerKey::parse(key).ok_or("the key of the witness is none of Ed25519 cosignatures (type 04)")?;
        if self.witnesses.iter().any(|known| known.key.public() == key.public()) {
            return Err("the key of the witness stands twice".to_owned());
        }
        self.witnesses.push(Witness { name: name.to_owned(), key, url: url.map(str::to_owned) });
        few(self.witnesses.len())
    }

    fn group(&mut self, name: &str, least: &str, members: &[&str]) -> Result<(), String> {
        self.free(name)?;
        let of = members.len();
        let at_least = match least {
            "all" => of,
            "any" => 1,
            number => {
                let number = super::note::decimal(number).and_then(|number| usize::try_from(number).ok());
                number
                    .filter(|number| (1..=of).contains(number))
                    .ok_or(format!("{least} is not all, any or 1 to {of}"))?
            }
        };
        let members = members.iter().map(|member| self.member(member)).collect::<Result<_, _>>()?;
        self.groups.push(Group { name: name.to_owned(), at_least, members });
        few(self.groups.len())
    }

    fn member(&mut self, name: &str) -> Result<Member, String> {
        let found = self.find(name).ok_or(format!("{name} stands on no line above"))?;
        if self.taken.insert(name.to_owned()) { Ok(found) } else { Err(format!("{name} is a member already")) }
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        let member = match name {
            "none" => None,
            name => Some(self.find(name).ok_or(format!("{name} stands on no line above"))?),
        };
        match self.quorum.replace(member) {
            None => Ok(()),
            Some(_) => Err("there is a second quorum line".to_owned()),
        }
    }

    fn find(&self, name: &str) -> Option<Member> {
        let witness = self.witnesses.iter().position(|known| known.name == name).map(Member::Witness);
        witness.or_else(|| self.groups.iter().position(|known| known.name == name).map(Member::Group))
    }

    fn free(&self, name: &str) -> Result<(), String> {
        if name == "none" || self.find(name).is_some() {
            return Err(format!("the name {name} is taken"));
        }
        Ok(())
    }
}

fn few(many: usize) -> Result<(), String> {
    if many > MOST { Err(format!("there are more than {MOST}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Origin;

    fn key(number: u8) -> String {
        CosignerKey::new(Origin::parse(&format!("w{number}.example")).unwrap(), [number; 32]).to_text()
    }

    fn six() -> String {
        let mut text = "# two houses\n\n".to_owned();
        for (number, name) in (1..).zip(["X1", "X2", "X3", "Y1", "Y2", "Y3"]) {
            text += &format!("witness {name}\t{}  https://{name}.example/\n", key(number));
        }
        text + "group X 2 X1 X2 X3\ngroup Y any Y1 Y2 Y3\ngroup both all X Y\nquorum both\n"
    }

    /// The example of the published format.
    #[test]
    fn two_of_one_house_and_one_of_the_other_are_enough() {
        let policy = WitnessPolicy::parse(&six()).unwrap();
        assert_eq!(policy.witnesses().len(), 6);
        assert_eq!(policy.witnesses()[0].url.as_deref(), Some("https://X1.example/"));
        for (who, enough) in [
            (vec![0, 1, 3], true),
            (vec![0, 2, 5], true),
            (vec![0, 1, 2], false),
            (vec![0, 3, 4, 5], false),
            (vec![], false),
        ] {
            assert_eq!(policy.satisfied(&|at| who.contains(&at)), enough, "{who:?}");
        }
        let none = WitnessPolicy::parse("quorum none").unwrap();
        assert!(none.satisfied(&|_| false));
    }

    #[test]
    fn each_mistake_names_its_line() {
        let (one, two) = (key(1), key(2));
        for (text, line, why) in [
            (String::new(), 1, "no quorum line"),
            ("quorum a".to_owned(), 1, "stands on no line above"),
            ("quorum none\nquorum none".to_owned(), 2, "second quorum"),
            ("witness a\nquorum none".to_owned(), 1, "too few"),
            ("witness a rubbish\nquorum none".to_owned(), 1, "type 04"),
            (format!("witness none {one}\nquorum none"), 1, "is taken"),
            (format!("witness a {one}\nwitness a {two}\nquorum a"), 2, "is taken"),
            (format!("witness a {one}\nwitness b {one}\nquorum a"), 2, "stands twice"),
            (format!("witness a {one}\ngroup g 2 a\nquorum g"), 2, "1 to 1"),
            (format!("witness a {one}\ngroup g 0 a\nquorum g"), 2, "1 to 1"),
            (format!("witness a {one}\ngroup g any a a\nquorum g"), 2, "a member already"),
            (format!("witness a {one}\ngroup g any h\nquorum g"), 2, "no line above"),
            ("log rubbish\nquorum none".to_owned(), 1, "type 01"),
            ("policy\nquorum none".to_owned(), 1, "is not log"),
            ("quorum\u{7} none".to_owned(), 1, "control character"),
        ] {
            let error = WitnessPolicy::parse(&text).unwrap_err();
            assert!(error.line == line && error.why.contains(why), "{text}: {error}");
        }
    }
}
