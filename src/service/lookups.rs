//! What becomes of a look-up key? It is made, gets a next version, or loses one; by the same path as every change.

use crate::audit::Event;
use crate::control;
use crate::keyring::life::Step;
use crate::keyring::{Change, LookupChange, LookupVerb as Verb};
use crate::names::{KeyringName, LookupName};
use crate::policy::Action;

use super::account::Account;
use super::change::Asked;
use super::data::unavailable;
use super::{Answer, AskLookup, Asker, Code, LookupVerb, Refusal, Service, StepKey};

impl Service {
    pub(super) async fn lookup(
        &self,
        asked: AskLookup,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let AskLookup { keyring, name, verb } = asked;
        account.keyring(&keyring);
        let event = event_of(verb);
        let mut facts = vec![("lookup", name.to_string())];
        let verb = match verb {
            LookupVerb::Create => Verb::Create,
            LookupVerb::Rotate { trigger, expect } => {
                facts.push(("trigger", trigger.code().to_owned()));
                Verb::Rotate { trigger, expect }
            }
            LookupVerb::Retire { reason, version } => {
                let step = self.retiring(&keyring, &name, version, asker, account).await?;
                return self.step(StepKey { reason, ..step }, asker, account).await;
            }
        };
        let authority = self.authority(Action::LookupRotate, Some(&keyring), asker, account)?;
        let change = Change::Lookup(LookupChange { keyring, name, verb });
        self.change(Asked { event, change, version: None, facts }, &authority, asker, account).await
    }

    /// The step that retires a version. Only whoever may see the keyring hears what it has: anybody else is denied as for
    /// one that is not there.
    async fn retiring(
        &self,
        keyring: &KeyringName,
        name: &LookupName,
        version: Option<u32>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<StepKey, Refusal> {
        let _may = self.permit(Action::KeyDeactivate, Some(keyring), asker, account)?;
        let view = self.keyrings.find(keyring).await.map_err(|error| unavailable(&error))?;
        let none = || Refusal::because(Code::NoSuchKey, format!("the keyring {keyring} has no look-up key {name}"));
        let view = view.ok_or_else(none)?;
        let found = control::retiring(view.lookup(name).ok_or_else(none)?, version);
        let found = found.map_err(|why| Refusal::because(Code::KeyState, why))?;
        let reason = found.version.reason;
        Ok(StepKey { keyring: keyring.clone(), version: found.version.id, step: Step::Deactivate, reason })
    }
}

/// The event of a verb.
pub(super) const fn event_of(verb: LookupVerb) -> Event {
    match verb {
        LookupVerb::Create => Event::LookupCreated,
        LookupVerb::Rotate { .. } => Event::LookupRotated,
        LookupVerb::Retire { .. } => Event::KeyDeactivated,
    }
}
