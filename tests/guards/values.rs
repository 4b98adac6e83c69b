//! Can what rewraps values say what they are? The one place where plaintext is looked at is read here, token by token.

use std::fs;

use crate::assert_none;
use crate::source::{Source, root};

/// Where both keys are held: one line may look, and nothing that is public gives away more than sealed bytes.
const KEYS: &str = "src/keyring/transfer.rs";
/// What works with them.
const WORK: &[&str] = &["src/operations/rewrap.rs", "src/service/rewrap.rs", "src/server/wire/rewrap.rs"];
/// Plaintext, and keys that give it or take it.
const TELLING: &[&str] = &["SecretBytes", "OpeningKey", "SealingKey", "expose", "unlock_opening", "to_open"];
/// What a function that is public may not give back.
const NEVER_GIVEN: &[&str] = &["SecretBytes", "OpeningKey", "SealingKey", "Vec", "Box", "String", "u8"];

#[test]
fn what_rewraps_values_names_no_plaintext() {
    let read = |path: &str| Source::new(path, &fs::read_to_string(root().join(path)).unwrap());
    let mut breaches = given_away(&read(KEYS));
    for path in WORK {
        breaches.extend(named(&read(path)));
    }
    assert_none("rewrapping", &breaches);
    let looks = read(KEYS).shipped_tokens().iter().filter(|token| token.text == "expose").count();
    assert_eq!(looks, 1, "{KEYS} looks at plaintext where it seals it anew, and nowhere else");
}

#[test]
fn a_function_that_gives_plaintext_or_a_key_away_is_noticed() {
    let keys = fs::read_to_string(root().join(KEYS)).unwrap();
    for leak in [
        "pub fn peek(&self) -> SecretBytes { loop {} }",
        "pub async fn key(&self) -> Option<&OpeningKey<'_>> { None }",
        "pub(crate) fn bytes(&self) -> Result<Vec<u8>, CryptoError> { loop {} }",
    ] {
        let found = given_away(&Source::new(KEYS, &format!("{keys}\nimpl RewrapKey<'_> {{ {leak} }}")));
        assert_eq!(found.len(), 1, "{leak}: {found:?}");
    }
    assert_eq!(named(&Source::new(WORK[0], "fn x(key: OpeningKey<'_>) { key.expose() }")).len(), 2);
}

/// Public functions whose result could hold plaintext or a key alone.
fn given_away(file: &Source) -> Vec<String> {
    let tokens = file.shipped_tokens();
    let mut breaches = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = &tokens[at.saturating_sub(6)..at];
        let is_public = before.iter().rev().take_while(|t| !["}", "{", ";"].contains(&t.text)).any(|t| t.text == "pub");
        if token.text != "fn" || !is_public {
            continue;
        }
        let head = || tokens[at..].iter().take_while(|t| t.text != "{");
        let result = head().collect::<Vec<_>>();
        // The last arrow of the head is the function's own.
        let arrow = result.iter().rposition(|t| t.text == "->");
        let given = arrow.map_or(&[][..], |arrow| &result[arrow..]);
        if let Some(what) = given.iter().find(|t| NEVER_GIVEN.contains(&t.text)) {
            breaches.push(format!("{}: a public function gives {} away", file.place(token.at), what.text));
        }
    }
    breaches
}

fn named(file: &Source) -> Vec<String> {
    let tokens = file.shipped_tokens();
    let telling = tokens.iter().filter(|token| TELLING.contains(&token.text));
    telling.map(|token| format!("{}: names {}", file.place(token.at), token.text)).collect()
}
