//! What does a profile of this token look like? TOML of what was seen; what was not is written as not known.
//! This module never writes down a return code that it did not see or that PKCS#11 leaves open.

use std::fmt::Write;

use crate::kek::profile::{OaepHash, WrapMethod};

/// What a draft says.
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) product: String,
    /// Where every fact comes from.
    pub(super) source: String,
    pub(super) library: String,
    pub(super) os_locking: bool,
    pub(super) reserved: String,
    pub(super) env: Vec<String>,
    pub(super) pin_source: String,
    /// The most sessions; 0: no limit found.
    pub(super) max: u32,
    pub(super) session_source: String,
    pub(super) hang_after_ms: u32,
    pub(super) calls_source: String,
    /// Each with its source.
    pub(super) tables: Vec<(WrapMethod, String)>,
    pub(super) bad_input: Vec<u64>,
    pub(super) ambiguous: Vec<u64>,
    pub(super) reported: Vec<&'static str>,
    pub(super) settable: Vec<&'static str>,
}

impl Draft {
    /// A draft that says nothing but where the library is: what a probe starts from.
    pub(super) fn blank(library: &str, os_locking: bool, reserved: &str, env: Vec<String>, table: WrapMethod) -> Self {
        let source = || "a guess to begin with".to_owned();
        Self {
            id: "unknown".into(),
            product: "a token without a profile".into(),
            source: source(),
            library: library.into(),
            os_locking,
            reserved: reserved.into(),
            env,
            pin_source: source(),
            max: 0,
            session_source: source(),
            hang_after_ms: PATIENT_MS,
            calls_source: source(),
            tables: vec![(table, source())],
            bad_input: Vec::new(),
            ambiguous: Vec::new(),
            reported: Vec::new(),
            settable: Vec::new(),
        }
    }

    /// The profile.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.head(&mut text);
        for (table, source) in &self.tables {
            wrap(&mut text, table, source);
        }
        self.tail(&mut text);
        text
    }

    fn head(&self, out: &mut String) {
        let Self { id, product, source, library, os_locking, reserved, .. } = self;
        line(
            out,
            "# A draft by `keyward hsm probe`: what was seen on one token on one day. Read it before you use it.\n",
        );
        line(out, "schema = 1");
        for (key, value) in [("id", id), ("product", product)] {
            line(out, &format!("{key} = {}", quoted(value)));
        }
        line(out, "verified = \"live\"\n\n[module]");
        line(out, &format!("paths = [{}]\nos_locking = {os_locking}", quoted(library)));
        line(out, &format!("reserved = {}\nenv = {}", quoted(reserved), texts(&self.env)));
        line(out, &format!("source = {}\n", quoted(source)));
        line(out, &format!("[slot]\nselect = [\"label\", \"serial\"]\nsource = {}\n", quoted(source)));
        line(out, "[login]\nuser = \"user\"\npin_shape = \"free\"\npin_min = 0\npin_max = 0\nlockout_after = 0");
        line(out, &format!("source = {}\n", quoted(&self.pin_source)));
        let pool = match (self.os_locking, self.max) {
            (false, _) => 1,
            (true, 0) => POOL,
            (true, max) => POOL.min(max.saturating_sub(1)).max(1),
        };
        line(out, &format!("[session]\nread_write = true\nmax = {}\npool = {pool}\nidle_drop_s = 0", self.max));
        line(out, &format!("source = {}\n", quoted(&self.session_source)));
        line(out, &format!("[calls]\nhang_after_ms = {}\nstart_after_ms = {START_MS}", self.hang_after_ms));
        line(out, &format!("source = {}\n", quoted(&self.calls_source)));
    }

    fn tail(&self, out: &mut String) {
        let (bad_input, ambiguous) = (numbers(&self.bad_input), numbers(&self.ambiguous));
        line(out, &format!("[errors]\nbad_input = {bad_input}\nambiguous = {ambiguous}\nbusy = []"));
        line(out, "session = [0x60, 0x82, 0x90, 0x91, 0xb0, 0xb3, 0x101]\nreinit = [0x190]\ndenied = [0x68]");
        line(out, "gone = [0xe0, 0xe1]\npin_stop = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x102]");
        let codes = "bad_input and ambiguous: answers to changed wraps and wrong contexts";
        let standard = "the rest as PKCS#11 2.40, section 5.1, has it, not seen; other codes are not known";
        line(out, &format!("source = {}\n", quoted(&format!("{}; {codes}; {standard}", self.source))));
        line(out, &format!("[attributes]\nreported = {}\nsettable = {}", texts(&self.reported), texts(&self.settable)));
        line(out, &format!("source = {}\n", quoted(&format!("{}, of keys that it made", self.source))));
        line(
            out,
            "[setup]\nsteps = [\"put the PIN into a file with mode 0600 and name it in keyward.toml\", \"keyward kek create\"]",
        );
        line(out, "source = \"keyward; how a token of this product is initialised is not known here\"");
    }
}

fn wrap(out: &mut String, table: &WrapMethod, source: &str) {
    line(out, &format!("[[wrap]]\nmethod = {}\nmechanism = {:#x}", quoted(table.name()), table.mechanism()));
    match table {
        WrapMethod::AesGcm { max_plain, generate, .. } => {
            line(out, &format!("iv = {}\nmax_plain = {max_plain}", quoted(table.variant().unwrap_or_default())));
            optional(out, &[("generate", *generate)]);
        }
        WrapMethod::AesKwp { generate, .. } | WrapMethod::AesKw { generate, .. } => {
            optional(out, &[("generate", *generate)]);
        }
        WrapMethod::AesCbcHmac { mac_mechanism, mac_key_type, generate, mac_generate, .. } => {
            let mac = [("mac_mechanism", Some(*mac_mechanism)), ("mac_key_type", Some(*mac_key_type))];
            optional(out, &mac);
            optional(out, &[("generate", *generate), ("mac_generate", *mac_generate)]);
        }
        WrapMethod::RsaOaep { hash, mac_mechanism, mac_key_type, bits, generate, mac_generate, .. } => {
            let hash = if *hash == OaepHash::Sha1 { "sha1" } else { "sha256" };
            line(out, &format!("hash = {}\nbits = {bits}", quoted(hash)));
            optional(out, &[("mac_mechanism", *mac_mechanism), ("mac_key_type", *mac_key_type)]);
            optional(out, &[("generate", *generate), ("mac_generate", *mac_generate)]);
        }
        WrapMethod::UnwrapGetattr { value_len, readable, generate, .. } => {
            line(out, &format!("value_len = {value_len}\nreadable = {readable}"));
            optional(out, &[("generate", *generate)]);
        }
    }
    line(out, &format!("source = {}\n", quoted(source)));
}

fn optional(out: &mut String, fields: &[(&str, Option<u64>)]) {
    for (key, number) in fields {
        if let Some(number) = number {
            line(out, &format!("{key} = {number:#x}"));
        }
    }
}

fn line(out: &mut String, text: &str) {
    // Writing into a String cannot fail.
    let _written = writeln!(out, "{text}");
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn texts<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

fn numbers(numbers: &[u64]) -> String {
    let written: Vec<String> = numbers.iter().map(|number| format!("{number:#x}")).collect();
    format!("[{}]", written.join(", "))
}

/// Before anything is known of a token's speed.
const PATIENT_MS: u32 = 30_000;
const START_MS: u32 = 60_000;
/// What a draft dares to ask for.
const POOL: u32 = 4;

#[cfg(test)]
mod tests {
    use crate::kek::probe::candidates;
    use crate::kek::profile::Profile;

    use super::*;

    #[test]
    fn every_candidate_is_a_table_that_a_profile_may_hold() {
        for group in candidates::all(&[]) {
            for table in group.tables {
                let mut draft = Draft::blank("/x.so", true, "a \"b\" \\c", vec!["X".into()], table.clone());
                draft.product = "it's \"odd\" \\ #".into();
                let profile = Profile::parse(&draft.text()).unwrap();
                let expected = toml::Value::String("a guess to begin with".into());
                assert_eq!(profile.product, draft.product);
                assert_eq!(profile.module.reserved, draft.reserved);
                assert_eq!(
                    (profile.wrap[0].full_name(), profile.wrap[0].mechanism()),
                    (table.full_name(), table.mechanism())
                );
                assert!(draft.text().contains(&expected.to_string()));
            }
        }
    }

    #[test]
    fn a_draft_for_a_library_that_may_not_lock_or_has_few_sessions_asks_for_no_more() {
        let table = || candidates::all(&[]).remove(0).tables.remove(0);
        let pool = |os_locking, max| {
            let draft = Draft { max, ..Draft::blank("/x.so", os_locking, "", Vec::new(), table()) };
            Profile::parse(&draft.text()).unwrap().session.pool
        };
        assert_eq!((pool(false, 0), pool(true, 0), pool(true, 3), pool(true, 2)), (1, 4, 2, 1));
    }
}
