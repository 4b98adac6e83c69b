//! Who signs, and with which keys? The roster: a document that only genesis, ceremonies and the revocation of a credential
//! change. This module never decides whose signature counts, and reads no store.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Wall;
use crate::crypto::sha256;
use crate::identity::sshsig::SshKey;
use crate::names::PrincipalName;

use super::json;

/// Everybody who signs. Fields are public: a roster is a claim until its digest is that of the one in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// The store's id, hexadecimal.
    pub store: String,
    /// `production` or `development`.
    pub environment: String,
    /// 1 at genesis; every change adds one.
    pub generation: u64,
    /// The digest of the roster before; None at genesis.
    pub previous: Option<[u8; 32]>,
    /// The digest of the separation file that it was checked against.
    pub separation: [u8; 32],
    /// `genesis`, `revocation`, or the id of a ceremony.
    pub made_by: String,
    /// Sorted by person, each once.
    pub members: Vec<Member>,
}

/// A person on the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub person: PrincipalName,
    /// Since when on the roster.
    pub since: Wall,
    /// Until when somebody confirms that the person still belongs there.
    pub recertify_by: Wall,
    /// SHA-256 of the text of duties that the person acknowledged.
    pub acknowledgement: [u8; 32],
    /// The person's keys; a revoked one stays, so that it is never enrolled again.
    pub credentials: Vec<Credential>,
}

/// A key of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The key.
    pub key: SshKey,
    /// Since when it is on the roster.
    pub enrolled: Wall,
    /// What ended it.
    pub revoked: Option<Revocation>,
}

/// The end of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: Wall,
    /// Why, in words.
    pub reason: String,
    /// By whom.
    pub by: PrincipalName,
}

/// A text that is no roster: it was edited, or written by a newer keyward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Written for a newer keyward.
    #[error("the roster has schema {0}, this version reads schema {SCHEMA}: use a newer keyward")]
    Schema(u64),
    /// Not what `canonical` writes.
    #[error("not a roster: {0}")]
    Malformed(String),
}

impl Roster {
    /// Reads the canonical form and nothing else.
    pub fn parse(canonical: &str) -> Result<Self, RosterError> {
        if canonical.len() > MOST_BYTES {
            return Err(malformed("it is longer than 1 MiB"));
        }
        let value = json::read(canonical).map_err(malformed)?;
        match value.get("schema").and_then(Value::as_u64) {
            Some(SCHEMA) => {}
            Some(newer) if newer > SCHEMA => return Err(RosterError::Schema(newer)),
            _ => return Err(malformed("it has no schema that this version knows")),
        }
        let roster = RawRoster::deserialize(&value).map_err(malformed)?.read()?;
        if roster.canonical() == canonical { Ok(roster) } else { Err(malformed("it is not written as rosters are")) }
    }

    /// Its one form as text, which the digest is of.
    pub fn canonical(&self) -> String {
        json::canonical(&json!({
            "schema": SCHEMA,
            "store": self.store,
            "environment": self.environment,
            "generation": self.generation,
            "previous": self.previous.map(hex::encode).unwrap_or_default(),
            "separation": hex::encode(self.separation),
            "made_by": self.made_by,
            "members": self.members.iter().map(Member::value).collect::<Vec<_>>(),
        }))
    }

    /// SHA-256("keyward/roster/v1" 00 || canonical).
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[b"keyward/roster/v1\0", self.canonical().as_bytes()])
    }

    /// The entry of a person.
    pub fn member(&self, person: &PrincipalName) -> Option<&Member> {
        self.members.iter().find(|member| member.person == *person)
    }

    /// Everybody with a key that is not revoked.
    pub fn active(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_active())
    }

    /// What a founding member signs.
    pub fn statement(digest: &[u8; 32], person: &PrincipalName) -> String {
        format!("keyward/roster/v1\n{}\n{person}\n", hex::encode(digest))
    }

    /// Whose key it is: the first entry. [`Roster::holders`] says whether it is the only one.
    pub fn holder<'a>(&'a self, key: &'a SshKey) -> Option<(&'a Member, &'a Credential)> {
        self.holders(key).next()
    }

    /// Every entry of a key; a roster that was checked has one at most.
    pub fn holders<'a>(&'a self, key: &'a SshKey) -> impl Iterator<Item = (&'a Member, &'a Credential)> {
        let of = move |member: &'a Member| {
            member.credentials.iter().filter(|held| held.key == *key).map(move |held| (member, held))
        };
        self.members.iter().flat_map(of)
    }

    /// Whether it is of a store where keys in files count, and where nothing real is kept.
    pub fn is_rehearsal(&self) -> bool {
        self.environment != "production"
    }
}

impl Member {
    /// Whether at least one credential is not revoked.
    pub fn is_active(&self) -> bool {
        self.credentials.iter().any(|credential| credential.revoked.is_none())
    }

    fn value(&self) -> Value {
        json!({
            "person": self.person.as_str(),
            "since": self.since.0,
            "recertify_by": self.recertify_by.0,
            "acknowledgement": hex::encode(self.acknowledgement),
            "credentials": self.credentials.iter().map(Credential::value).collect::<Vec<_>>(),
        })
    }
}

impl Credential {
    fn value(&self) -> Value {
        let mut value = json!({ "key": self.key.line(), "enrolled": self.enrolled.0 });
        if let (Some(revoked), Value::Object(members)) = (&self.revoked, &mut value) {
            let end = json!({ "at": revoked.at.0, "reason": revoked.reason, "by": revoked.by.as_str() });
            members.insert("revoked".to_owned(), end);
        }
        value
    }
}

/// Times are microseconds since 1970, digests hexadecimal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoster {
    #[serde(rename = "schema")]
    _schema: u64,
    store: String,
    environment: String,
    generation: u64,
    previous: String,
    separation: String,
    made_by: String,
    members: Vec<RawMember>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    person: String,
    since: u64,
    recertify_by: u64,
    acknowledgement: String,
    credentials: Vec<RawCredential>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCredential {
    key: String,
    enrolled: u64,
    revoked: Option<RawRevocation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRevocation {
    at: u64,
    reason: String,
    by: String,
}

impl RawRoster {
    fn read(self) -> Result<Roster, RosterError> {
        let members = self.members.into_iter().map(RawMember::read).collect::<Result<Vec<_>, _>>()?;
        if !members.is_sorted_by(|one, next| one.person < next.person) {
            return Err(malformed("its members are not sorted by person, each once"));
        }
        if !matches!(&*self.environment, "production" | "development") {
            return Err(malformed("its environment is neither production nor development"));
        }
        let previous = if self.previous.is_empty() { None } else { Some(digest(&self.previous)?) };
        if self.generation == 0 || (self.generation == 1) != previous.is_none() {
            return Err(malformed("only generation 1 has no roster before it"));
        }
        Ok(Roster {
            store: self.store,
            environment: self.environment,
            generation: self.generation,
            previous,
            separation: digest(&self.separation)?,
            made_by: self.made_by,
            members,
        })
    }
}

impl RawMember {
    fn read(self) -> Result<Member, RosterError> {
        Ok(Member {
            person: self.person.parse().map_err(malformed)?,
            since: Wall(self.since),
            recertify_by: Wall(self.recertify_by),
            acknowledgement: digest(&self.acknowledgement)?,
            credentials: self.credentials.into_iter().map(RawCredential::read).collect::<Result<_, _>>()?,
        })
    }
}

impl RawCredential {
    fn read(self) -> Result<Credential, RosterError> {
        let revoked = match self.revoked {
            Some(raw) => {
                let by = raw.by.parse().map_err(malformed)?;
                Some(Revocation { at: Wall(raw.at), reason: raw.reason, by })
            }
            None => None,
        };
        let key = SshKey::parse(&self.key).map_err(malformed)?;
        Ok(Credential { key, enrolled: Wall(self.enrolled), revoked })
    }
}

fn digest(text: &str) -> Result<[u8; 32], RosterError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| malformed("a digest is not 64 hexadecimal digits"))?;
    Ok(digest)
}

fn malformed(what: impl ToString) -> RosterError {
    RosterError::Malformed(what.to_string())
}

const SCHEMA: u64 = 1;
/// Of the text: thousands of members with keys.
const MOST_BYTES: usize = 1 << 20;
