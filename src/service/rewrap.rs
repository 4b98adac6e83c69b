//! How does a rewrapping of values pass through policy? What is in the old place and, where a value takes a new one, what may
//! be put there are both decided; a group of items that is denied fails alone.
//!
//! Rewrapping gives no plaintext away, and must not become a way to it: a value is not moved to where its mover could open
//! it, out of a place where it could not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::keyring::KeyringView;
use crate::names::{Context, KeyringName, Purpose};
use crate::operations::rewrap::{IntoPlace, PermittedRewrap, Rewrap, RewrapItem, Rewrapped};
use crate::operations::{self, ItemError};
use crate::policy::{Action, Ask, Denial, DenialReason, Permit, Policy};

use super::account::Account;
use super::data::{Located, item_refusal, refused, relevant};
use super::{Answer, Asker, Code, Refusal, Service};

/// What became of one value, as the caller is told.
pub struct RewrappedValue {
    /// `kw1.`...: the same text again if it is unchanged.
    pub sealed: String,
    /// Whether it was in its place and under the active version before.
    pub unchanged: bool,
}

impl Service {
    pub(super) async fn rewrap(
        &self,
        mut rewrap: Rewrap,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        account.purpose = rewrap.purpose;
        let located = self.locate(&mut rewrap.items, RewrapItem::version).await?;
        self.note_subjects(both_places(&located, &rewrap), account)?;
        account.items_digest = Some(operations::items_digest(rewrap.values()));
        let mut permitted = self.authorise_rewrapping(&located, &rewrap, asker, account).await.inspect_err(|_| {
            for (view, version) in located.iter().flatten() {
                account.item(&view.name, Some(*version), Some(ItemError::Denied));
            }
        })?;
        permitted.retain(|one| self.passes(&one.permit, true, &one.places, &mut rewrap.items));
        let needs = rewrap.needs(&self.keyrings, &permitted).await;
        self.make_partitions(needs, asker, account).await?;
        let results = rewrap.execute(&self.keyrings, &permitted).await;
        for (at, result) in located.iter().zip(&results) {
            match (at, result.as_ref().err().copied()) {
                (Some((view, version)), failed) => account.item(&view.name, Some(*version), failed),
                (None, Some(error)) => account.orphan(error),
                (None, None) => {}
            }
        }
        say(&rewrap, &results, account);
        Ok(Answer::ValuesRewrapped(results.into_iter().map(answer).collect()))
    }

    /// The permits of each group of items that share keyring and policy-relevant contexts. If nothing at all is
    /// permitted, the whole request is denied, as for opening.
    async fn authorise_rewrapping(
        &self,
        located: &[Located],
        rewrap: &Rewrap,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Vec<PermittedRewrap>, Refusal> {
        let policy = asker.policy;
        let mut groups: BTreeMap<Moves<'_>, (&Option<String>, Vec<usize>)> = BTreeMap::new();
        for (place, (at, item)) in located.iter().zip(&rewrap.items).enumerate() {
            let (Some((view, _)), Ok(item)) = (at, item) else { continue };
            let of = |context| relevant(policy.context_keys(), context);
            let moves = (&view.name, of(&item.context), item.new_context.as_ref().map(of));
            groups.entry(moves).or_insert((&view.partition_key, Vec::new())).1.push(place);
        }
        let (mut permitted, mut denied) = (Vec::with_capacity(groups.len()), None);
        for (moves, (partition_key, places)) in groups {
            match self.permits(policy, &moves, rewrap.purpose, asker) {
                Ok((permit, into)) => {
                    permitted.push(PermittedRewrap { permit, into, places, partition_key: partition_key.clone() });
                }
                Err(denial) => denied = Some(denial),
            }
            // A move asks some dozens of questions: a thousand of them must not hold others up.
            tokio::task::yield_now().await;
        }
        let asked = rewrap.items.iter().any(Result::is_ok);
        match denied {
            Some(denial) if permitted.is_empty() => return Err(refused(&denial, account)),
            Some(denial) => account.denial = Some(denial.reason),
            None if permitted.is_empty() && asked => return Err(Code::Denied.into()),
            None => {}
        }
        Ok(permitted)
    }

    /// To rewrap here; and for another place to rewrap and to seal there.
    fn permits(
        &self,
        policy: &Policy,
        (keyring, old, new): &Moves<'_>,
        purpose: Option<Purpose>,
        asker: &Asker<'_>,
    ) -> Result<(Permit, Option<IntoPlace>), Denial> {
        let decide = |action, pairs, purpose| policy.decide(&self.ask(action, Some(keyring), pairs, purpose, asker));
        let permit = decide(Action::Rewrap, old, purpose)?;
        let Some(new) = new else { return Ok((permit, None)) };
        let into = IntoPlace { rewrap: decide(Action::Rewrap, new, purpose)?, seal: decide(Action::Seal, new, None)? };
        if old != new {
            // What no purpose opens now may open tomorrow: then nobody knows today what the move would widen.
            if policy.may_change(&self.ask(Action::Open, Some(keyring), new, purpose, asker)) {
                return Err(Denial { reason: DenialReason::NoPermit });
            }
            let open = |pairs, (purpose, grant)| {
                policy.decide(&Ask { grant, ..self.ask(Action::Open, Some(keyring), pairs, Some(purpose), asker) })
            };
            // A grant may be given tomorrow: the move must widen nothing under any.
            let grants = policy.grants(&self.ask(Action::Open, Some(keyring), new, purpose, asker));
            for reason in Purpose::ALL.iter().flat_map(|purpose| grants.iter().map(|grant| (*purpose, *grant))) {
                if open(new, reason).is_ok() {
                    let _may_open_it_already = open(old, reason)?;
                }
            }
        }
        Ok((permit, Some(into)))
    }
}

/// Items that policy cannot tell apart: the keyring, what it looks at of the old place, and of the new one if there is one.
type Moves<'a> = (&'a KeyringName, Pairs<'a>, Option<Pairs<'a>>);
type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// The places that the request is about: those where values are and those where they are to be.
fn both_places<'a>(
    located: &'a [Located],
    rewrap: &'a Rewrap,
) -> impl Iterator<Item = Option<(&'a Arc<KeyringView>, &'a Context)>> {
    let known = located.iter().zip(&rewrap.items).filter_map(|(at, item)| Some((at.as_ref()?, item.as_ref().ok()?)));
    known.flat_map(|((view, _), item)| {
        [Some((view, &item.context)), item.new_context.as_ref().map(|context| (view, context))]
    })
}

/// What the record says beyond the counts by the versions that values were under.
fn say(rewrap: &Rewrap, results: &[Result<Rewrapped, ItemError>], account: &mut Account) {
    let (mut anew, mut unchanged, mut moved, mut versions) = (0_u32, 0_u32, 0_u32, BTreeSet::new());
    for (item, done) in rewrap.items.iter().zip(results) {
        match done {
            Ok(Rewrapped::Unchanged(_)) => unchanged = unchanged.saturating_add(1),
            Ok(Rewrapped::Anew { version, .. }) => {
                anew = anew.saturating_add(1);
                let takes_another_place = item.as_ref().is_ok_and(|item| item.new_context.is_some());
                moved = moved.saturating_add(u32::from(takes_another_place));
                versions.insert(*version);
            }
            Err(_) => {}
        }
    }
    for (fact, count) in [("rewrapped", anew), ("unchanged", unchanged), ("moved", moved)] {
        if count > 0 {
            account.facts.push((fact, count.to_string()));
        }
    }
    if anew > 0 {
        let texts = results.iter().flatten().map(|done| done.text().as_bytes());
        account.facts.push(("sealed_digest", hex::encode(operations::items_digest(texts))));
        let named: Vec<String> = versions.iter().take(MOST_VERSIONS).map(ToString::to_string).collect();
        account.facts.push(("to_version", named.join(",")));
    }
}

/// A fact has room for so many versions; the values of a request that come under more belong to more keyrings.
const MOST_VERSIONS: usize = 15;

fn answer(result: Result<Rewrapped, ItemError>) -> Result<RewrappedValue, Refusal> {
    match result {
        Ok(Rewrapped::Unchanged(sealed)) => Ok(RewrappedValue { sealed, unchanged: true }),
        Ok(Rewrapped::Anew { text, .. }) => Ok(RewrappedValue { sealed: text, unchanged: false }),
        Err(error) => Err(item_refusal(error)),
    }
}
