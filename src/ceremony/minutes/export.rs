//! Whose keys were whose, and who could be what? The export of the roster: every generation from genesis on, each naming the
//! one before it, and every separation of duties that they were checked against (CER-21).

use std::sync::Arc;

use serde::Deserialize;

use crate::clock::Wall;
use crate::names::PrincipalName;
use crate::policy::approval::{namespace, verify_founding};
use crate::policy::roster::{Credential, Roster};
use crate::policy::separation::Separation;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    schema: u64,
    store: String,
    environment: String,
    rosters: Vec<String>,
    genesis: Vec<Founder>,
    separations: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Founder {
    person: String,
    signature: String,
}

/// An export whose chain holds.
pub(super) struct Export {
    rosters: Vec<Roster>,
    separations: Vec<Arc<Separation>>,
}

impl Export {
    /// Reads an export and checks it from the founders' signatures on.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err("it is longer than 64 MiB".to_owned());
        }
        let raw: Raw = serde_json::from_str(text).map_err(|error| format!("it is not readable: {error}"))?;
        if raw.schema != 1 {
            return Err(format!("its schema is {} and this version reads 1: use a newer keyward", raw.schema));
        }
        let parsed: Result<Vec<Roster>, _> = raw.rosters.iter().map(|text| Roster::parse(text)).collect();
        let rosters = parsed.map_err(|error| error.to_string())?;
        let genesis = rosters.first().ok_or("it holds no roster")?;
        chain(&rosters, &raw)?;
        let founders = raw.genesis.into_iter().map(|Founder { person, signature }| {
            person.parse::<PrincipalName>().map(|person| (person, signature)).map_err(|error| error.to_string())
        });
        let founders: Vec<(PrincipalName, String)> = founders.collect::<Result<_, _>>()?;
        verify_founding(genesis, &founders, namespace(!genesis.is_rehearsal())).map_err(|all| all.join("; "))?;
        let loaded: Result<Vec<_>, _> = raw.separations.iter().map(|text| Separation::load(text)).collect();
        Ok(Self { separations: loaded.map_err(|error| error.to_string())?, rosters })
    }

    /// The roster with this digest.
    pub(super) fn roster(&self, digest: &str) -> Option<&Roster> {
        self.rosters.iter().find(|roster| hex::encode(roster.digest()) == digest)
    }

    /// The separation of duties with this digest.
    pub(super) fn separation(&self, digest: &str) -> Option<&Separation> {
        self.separations.iter().map(Arc::as_ref).find(|one| hex::encode(one.digest()) == digest)
    }

    /// Whether a key was revoked by then, in whichever generation that stands.
    pub(super) fn is_revoked(&self, fingerprint: &str, at: Wall) -> bool {
        let members = self.rosters.iter().flat_map(|roster| &roster.members);
        let mut credentials = members.flat_map(|member| &member.credentials);
        let ended = |one: &Credential| one.revoked.as_ref().is_some_and(|revoked| revoked.at <= at);
        credentials.any(|one| ended(one) && one.key.fingerprint() == fingerprint)
    }

    /// What everybody who was there at genesis read aloud.
    pub(super) fn genesis(&self) -> Option<[u8; 32]> {
        self.rosters.first().map(Roster::digest)
    }
}

/// Every generation names the one before it, and all are of one store.
fn chain(rosters: &[Roster], raw: &Raw) -> Result<(), String> {
    let mut previous = None;
    for (roster, generation) in rosters.iter().zip(1_u64..) {
        if roster.generation != generation || roster.previous != previous {
            return Err(format!("generation {generation} does not follow from the one before it"));
        }
        if roster.store != raw.store || roster.environment != raw.environment {
            return Err(format!("generation {generation} is of another store or environment"));
        }
        previous = Some(roster.digest());
    }
    Ok(())
}

/// Thousands of generations.
const MOST_BYTES: usize = 64 * 1024 * 1024;
