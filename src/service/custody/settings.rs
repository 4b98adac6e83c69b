//! What do custodians approve when they approve settings? What changes of them, by name, on top of what was approved before,
//! and with a change of the rules the rules themselves.

use crate::audit::Event;
use crate::control::custody::NewSettings;
use crate::control::guarded::Guarded;
use crate::keyring::documents::{DocumentWrite, SETTINGS, kek_name, roster_name, separation_name};
use crate::policy::roster::Roster;

use super::super::{Code, Refusal};
use super::desk::{Custody, settings_body};
use super::execute::Deed;
use super::found::check;
use super::revoke::next;

/// What is written for it; a refusal of what does not lead where it says, or to rules that nobody could go on with.
pub(super) fn deed(new: &NewSettings, custody: &Custody, id: &str) -> Result<Deed, Refusal> {
    let settings = Guarded::of(custody.settings_known()).with(&new.changes);
    let digest = hex::encode(settings.digest());
    if settings.digest() != new.digest {
        let why =
            format!("changes leads from the approved settings to the digest {digest}, not to the one of settings");
        return Err(Refusal::because(Code::MalformedRequest, why));
    }
    let expect = custody.settings_generation;
    let mut writes = vec![DocumentWrite { name: SETTINGS.to_owned(), expect, body: settings_body(&settings, id) }];
    let mut facts = vec![("settings", digest)];
    if let Some(rules) = new.rules.as_ref().filter(|rules| rules.digest() != custody.separation.digest()) {
        let roster = Roster { separation: rules.digest(), ..next(&custody.roster, id) };
        let mut problems = rules.check_roster(&roster);
        problems.extend(rules.check_margin(&roster));
        check(problems)?;
        facts.push(("roster", hex::encode(roster.digest())));
        facts.push(("separation", hex::encode(rules.digest())));
        writes.push(DocumentWrite { name: roster_name(roster.generation), expect: 0, body: roster.canonical() });
        // Rules that were in force before are there already.
        if !custody.has_rules(&rules.digest()) {
            let name = separation_name(&rules.digest());
            writes.push(DocumentWrite { name, expect: 0, body: rules.text().to_owned() });
        }
    }
    if let Some((kek, version)) = new.admits.as_ref().filter(|(kek, version)| !custody.has_admitted(kek, *version)) {
        facts.push(("kek", kek.to_string()));
        facts.push(("kek_key_version", version.to_string()));
        let body = format!("{{\"ceremony\":\"{id}\",\"schema\":1}}");
        writes.push(DocumentWrite { name: kek_name(kek, *version), expect: 0, body });
    }
    Ok(Deed::new(Event::SettingsApproved, writes, facts))
}
