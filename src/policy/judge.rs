//! What does Cedar say to one request? Builds the request, evaluates the slice, and reads the answer.
//! Anything that cannot be evaluated is a no: this module never turns an error into a yes.

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, EntityUid, PolicyId, Request, Response, RestrictedExpression,
    Schema,
};

use crate::clock::Wall;
use crate::identity::{PrincipalKind, Proof};
use crate::names::{KeyringName, PrincipalName, Purpose};

use super::action::Resource;
use super::documents::Documents;
use super::schema::Entities;
use super::slices::{Slice, Slices};
use super::{Action, Ask, DenialReason, GrantKind, PolicyError};

/// Everything that an answer may depend on. Not a Principal: a table test asks without one, and gets no Permit.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) name: &'a PrincipalName,
    pub(super) kind: PrincipalKind,
    pub(super) proof: &'a Proof,
    pub(super) action: Action,
    pub(super) keyring: Option<&'a KeyringName>,
    pub(super) pairs: &'a [(&'a str, &'a str)],
    pub(super) purpose: Option<Purpose>,
    pub(super) grant: Option<GrantKind>,
    pub(super) now: Wall,
}

impl<'a> Query<'a> {
    pub(super) const fn of(ask: &Ask<'a>) -> Self {
        Self {
            name: ask.principal.name(),
            kind: ask.principal.kind(),
            proof: ask.principal.proof(),
            action: ask.action,
            keyring: ask.keyring,
            pairs: ask.pairs,
            purpose: ask.purpose,
            grant: ask.grant,
            now: ask.now,
        }
    }
}

/// The loaded set, ready to answer.
pub(super) struct Judge {
    slices: Slices,
    entities: Entities,
    authorizer: Authorizer,
    context_keys: Vec<String>,
}

impl Judge {
    pub(super) fn new(
        documents: &Documents,
        schema: &Schema,
        principals: &[(PrincipalName, PrincipalKind)],
        context_keys: &[String],
    ) -> Result<Self, PolicyError> {
        let entities = Entities::new()?;
        let slices = Slices::new(&documents.set, schema, &entities, principals)?;
        Ok(Self { slices, entities, authorizer: Authorizer::new(), context_keys: context_keys.to_vec() })
    }

    /// Whether the answer holds for this instant only.
    pub(super) fn looks_at_time(&self, query: &Query<'_>) -> bool {
        let rule = query.action.excepts().map(|action| Query { action, ..*query });
        std::iter::once(*query).chain(rule).any(|query| self.slice(&query).is_some_and(|slice| slice.looks_at_time))
    }

    /// Whether another grant may bring another answer.
    pub(super) fn looks_at_grant(&self, query: &Query<'_>) -> bool {
        let rule = query.action.excepts().map(|action| Query { action, ..*query });
        std::iter::once(*query).chain(rule).any(|query| self.slice(&query).is_some_and(|slice| slice.looks_at_grant))
    }

    /// Whether a `no` may be a yes at another time, or by another proof of the same principal.
    pub(super) fn may_change(&self, query: &Query<'_>) -> bool {
        self.slice(query).is_some_and(|slice| slice.permits && (slice.looks_at_time || slice.looks_at_proof))
    }

    /// Whether a `permit` could apply to an action of a principal.
    pub(super) fn may_permit(&self, kind: PrincipalKind, name: &PrincipalName, action: Action) -> bool {
        self.slices.find(kind, name, action).is_some_and(|slice| slice.permits)
    }

    pub(super) fn decide(&self, query: &Query<'_>) -> Result<(), DenialReason> {
        self.explain(query, |_| ())
    }

    /// Decides, and shows the policies that decided.
    pub(super) fn explain(&self, query: &Query<'_>, mut by: impl FnMut(&PolicyId)) -> Result<(), DenialReason> {
        // A fixed rule, not a policy: whoever opens says why.
        if query.action.opens() && query.purpose.is_none() {
            return Err(DenialReason::PurposeMissing);
        }
        if let Some(action) = query.action.excepts() {
            self.one(&Query { action, ..*query }, &mut by)?;
        }
        self.one(query, &mut by)
    }

    fn one(&self, query: &Query<'_>, by: &mut dyn FnMut(&PolicyId)) -> Result<(), DenialReason> {
        let slice = self.slice(query).ok_or(DenialReason::NoPermit)?;
        let response = self.evaluate(slice, query).ok_or(DenialReason::EvaluationError)?;
        let diagnostics = response.diagnostics();
        diagnostics.reason().for_each(&mut *by);
        // Cedar skips a policy that fails; a skipped `forbid` would be a yes.
        let mut errors = diagnostics.errors().peekable();
        if errors.peek().is_some() {
            errors.for_each(|AuthorizationError::PolicyEvaluationError(error)| by(error.policy_id()));
            return Err(DenialReason::EvaluationError);
        }
        match response.decision() {
            Decision::Allow => Ok(()),
            Decision::Deny if diagnostics.reason().next().is_some() => Err(DenialReason::Forbidden),
            Decision::Deny => Err(DenialReason::NoPermit),
        }
    }

    fn slice(&self, query: &Query<'_>) -> Option<&Slice> {
        self.slices.find(query.kind, query.name, query.action)
    }

    fn evaluate(&self, slice: &Slice, query: &Query<'_>) -> Option<Response> {
        let context = self.context(slice, query)?;
        let (resource, entities) = self.resource(query)?;
        let principal = self.entities.principal(query.kind, query.name.as_str());
        let request = Request::new(principal, self.entities.action(query.action), resource, context, None).ok()?;
        Some(self.authorizer.is_authorized(&request, &slice.policies, &entities))
    }

    fn resource(&self, query: &Query<'_>) -> Option<(EntityUid, cedar_policy::Entities)> {
        match (query.action.resource(), query.keyring) {
            (Resource::Keyring, Some(name)) => {
                let keyring = self.entities.keyring(name);
                Some((keyring.uid(), cedar_policy::Entities::from_entities([keyring], None).ok()?))
            }
            (Resource::Sidecar, None) => Some((self.entities.sidecar(), cedar_policy::Entities::empty())),
            (Resource::Keyring, None) | (Resource::Sidecar, Some(_)) => None,
        }
    }

    /// The context record. `now` is left out where no policy looks at it: if one did after all, it would fail to
    /// evaluate and be a no, instead of being answered from the cache.
    fn context(&self, slice: &Slice, query: &Query<'_>) -> Option<Context> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let mut record = Vec::with_capacity(6);
        record.push(("proof".to_owned(), text(query.proof.code())));
        record.push(("fields".to_owned(), self.fields(query.pairs)?));
        if let Some(purpose) = query.purpose {
            record.push(("purpose".to_owned(), text(purpose.code())));
        }
        if let Some(keyring) = query.keyring {
            record.push(("tenant".to_owned(), text(keyring.tenant().as_str())));
        }
        if let Some(grant) = query.grant {
            // Nobody is granted anything on the sidecar itself: the caller of `decide` broke its promise.
            query.keyring?;
            record.push(("grant".to_owned(), text(grant.code())));
        }
        if slice.looks_at_time {
            record.push(("now".to_owned(), RestrictedExpression::new_datetime(query.now.rfc3339_millis())));
        }
        Context::from_pairs(record).ok()
    }

    /// None if a key is not configured or comes twice: the caller of `decide` broke its promise.
    fn fields(&self, pairs: &[(&str, &str)]) -> Option<RestrictedExpression> {
        let configured = |key: &str| self.context_keys.iter().any(|known| known == key);
        if !pairs.iter().all(|(key, _)| configured(key)) {
            return None;
        }
        let fields = pairs.iter().map(|(k, v)| ((*k).to_owned(), RestrictedExpression::new_string((*v).to_owned())));
        RestrictedExpression::new_record(fields).ok()
    }
}
