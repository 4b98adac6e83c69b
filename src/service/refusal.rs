//! The closed list of what a caller can be told when the answer is no. Codes are never reused.

use std::borrow::Cow;

/// A code of `docs/errors.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The JSON does not parse, a field is unknown, double, missing or of the wrong type.
    MalformedRequest,
    /// A sealed value is not one.
    MalformedValue,
    /// Neither or both of `text` and `bytes`, or bad base64.
    MalformedItem,
    /// A context key or value is not allowed.
    InvalidContext,
    /// A context key that the keyring requires is missing.
    ContextMissing,
    /// Opening without a purpose of use.
    PurposeMissing,
    /// Nobody was recognised.
    Unauthenticated,
    /// Policy said no, or the keyring or key is unknown.
    Denied,
    /// The `Host` is foreign or an `Origin` was sent.
    ForbiddenOrigin,
    /// No such route.
    NotFound,
    /// The keyring or key version that a change names is not there.
    NoSuchKey,
    /// The route has other methods.
    MethodNotAllowed,
    /// The request body is not `application/json`.
    UnsupportedMediaType,
    /// A keyring of that name exists.
    KeyringExists,
    /// The state of the key version does not allow what was asked.
    KeyState,
    /// Something still needs the key version.
    InUse,
    /// The wait before a destruction is not over, or the clock cannot say whether it is.
    NotDue,
    /// Somebody else changed the keyring first.
    Conflict,
    /// Nobody can do it alone.
    CeremonyRequired,
    /// The policy files are not a set that can be put in force.
    PolicyRefused,
    /// The body, an item or a value is larger than its limit.
    TooLarge,
    /// More items than the limit.
    TooManyItems,
    /// The value does not open here: another place, another key, or altered.
    CannotOpen,
    /// The plaintext is not UTF-8.
    NotText,
    /// There are no custodians yet.
    NoCustody,
    /// What was signed is not believed, or is not enough.
    NotApproved,
    /// The rules of separation do not allow it.
    Separation,
    /// The ceremony is not, or no longer, where this can be done.
    CeremonyState,
    /// A person or a rule has stopped it for now.
    Locked,
    /// Too many requests, or too many refusals.
    RateLimited,
    /// What the store holds of a key or keyring was edited: trying again does not help.
    KeyDamaged,
    /// The KEK, the store, the log or the time did not suffice.
    Unavailable,
    /// The deadline passed.
    DeadlineExceeded,
    /// A bug in keyward.
    Internal,
}

impl Code {
    /// Every code, in the order of `docs/errors.md`.
    pub const ALL: &[Self] = &[
        Self::MalformedRequest,
        Self::MalformedValue,
        Self::MalformedItem,
        Self::InvalidContext,
        Self::ContextMissing,
        Self::PurposeMissing,
        Self::Unauthenticated,
        Self::Denied,
        Self::ForbiddenOrigin,
        Self::NotFound,
        Self::NoSuchKey,
        Self::MethodNotAllowed,
        Self::UnsupportedMediaType,
        Self::KeyringExists,
        Self::KeyState,
        Self::InUse,
        Self::NotDue,
        Self::Conflict,
        Self::CeremonyRequired,
        Self::PolicyRefused,
        Self::TooLarge,
        Self::TooManyItems,
        Self::CannotOpen,
        Self::NotText,
        Self::NoCustody,
        Self::NotApproved,
        Self::Separation,
        Self::CeremonyState,
        Self::Locked,
        Self::RateLimited,
        Self::KeyDamaged,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Internal,
    ];

    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformed_request",
            Self::MalformedValue => "malformed_value",
            Self::MalformedItem => "malformed_item",
            Self::InvalidContext => "invalid_context",
            Self::ContextMissing => "context_missing",
            Self::PurposeMissing => "purpose_missing",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::NotFound => "not_found",
            Self::NoSuchKey => "no_such_key",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::KeyringExists => "keyring_exists",
            Self::KeyState => "key_state",
            Self::InUse => "in_use",
            Self::NotDue => "not_due",
            Self::Conflict => "conflict",
            Self::CeremonyRequired => "ceremony_required",
            Self::PolicyRefused => "policy_refused",
            Self::TooLarge => "too_large",
            Self::TooManyItems => "too_many_items",
            Self::CannotOpen => "cannot_open",
            Self::NotText => "not_text",
            Self::NoCustody => "no_custody",
            Self::NotApproved => "not_approved",
            Self::Separation => "separation",
            Self::CeremonyState => "ceremony_state",
            Self::Locked => "locked",
            Self::RateLimited => "rate_limited",
            Self::KeyDamaged => "key_damaged",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Internal => "internal",
        }
    }

    /// What it means, for `docs/errors.md` and the `title` of a problem.
    pub const fn title(self) -> &'static str {
        match self {
            Self::MalformedRequest => "the request is not what this route takes",
            Self::MalformedValue => "a sealed value is malformed",
            Self::MalformedItem => "an item is malformed",
            Self::InvalidContext => "a context key or value is not allowed",
            Self::ContextMissing => "a context key that the keyring requires is missing",
            Self::PurposeMissing => "opening needs a purpose of use",
            Self::Unauthenticated => "the caller was not recognised",
            Self::Denied => "policy does not allow this",
            Self::ForbiddenOrigin => "the request comes from a browser or names a foreign host",
            Self::NotFound => "there is no such route",
            Self::NoSuchKey => "there is no such keyring or key version",
            Self::MethodNotAllowed => "the route takes other methods",
            Self::UnsupportedMediaType => "the body must be application/json",
            Self::KeyringExists => "a keyring of this name exists",
            Self::KeyState => "the state of the key version does not allow this",
            Self::InUse => "the key version is still needed",
            Self::NotDue => "the wait before a destruction is not over",
            Self::Conflict => "the keyring was changed by somebody else",
            Self::CeremonyRequired => "a ceremony is needed",
            Self::PolicyRefused => "the policy files are refused; the set before stays in force",
            Self::TooLarge => "the request or a value is too large",
            Self::TooManyItems => "the request has too many items",
            Self::CannotOpen => "the value does not open in this place",
            Self::NotText => "the plaintext is not text",
            Self::NoCustody => "there are no custodians",
            Self::NotApproved => "what was signed is not believed or not enough",
            Self::Separation => "the separation of duties does not allow this",
            Self::CeremonyState => "the ceremony is not where this can be done",
            Self::Locked => "somebody has locked this",
            Self::RateLimited => "too many requests",
            Self::KeyDamaged => "what the store holds of the key was edited",
            Self::Unavailable => "keyward cannot answer now",
            Self::DeadlineExceeded => "the request took longer than its deadline",
            Self::Internal => "keyward has a defect",
        }
    }

    /// What the caller should do.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::MalformedRequest => "correct the body as the detail says",
            Self::MalformedValue => "send the text that seal returned, unchanged: it begins with kw1.",
            Self::MalformedItem => "give exactly one of text and bytes; bytes is padded base64",
            Self::InvalidContext => "at most 62 pairs and 7 KiB, no empty key, no key that begins with kw.",
            Self::ContextMissing => "give every context key that the keyring requires (GET /v1/keyrings/{keyring})",
            Self::PurposeMissing => "give purpose, an HL7 PurposeOfUse code such as TREAT",
            Self::Unauthenticated => "call from a configured user, or send a configured bearer token",
            Self::Denied => "ask whoever keeps the policies; the log has the reason",
            Self::ForbiddenOrigin => "call the loopback address directly and send no Origin",
            Self::NotFound => "check the path",
            Self::NoSuchKey => "check the name and the version (GET /v1/keyrings/{keyring})",
            Self::MethodNotAllowed => "use a method of the Allow header",
            Self::UnsupportedMediaType => "send content-type: application/json",
            Self::KeyringExists => "choose another name",
            Self::KeyState => "the detail says in which state the key is; to seal or open, ask whoever keeps the keys",
            Self::InUse => "rewrap what the detail names, or wait until it says so",
            Self::NotDue => "try again when the detail says, or cancel the destruction",
            Self::Conflict => "look at the keyring and decide again",
            Self::PolicyRefused => "correct what the detail names; `keyward policy check` shows the same",
            Self::TooLarge => "stay within the limit of the detail",
            Self::TooManyItems => "split the batch",
            Self::CannotOpen => "give the context it was sealed with; if that is right, the value was altered or moved",
            Self::NotText => "ask for it with \"as\": \"bytes\"",
            Self::CeremonyRequired => {
                "propose it: `keyward ceremony propose`; suspending, ending a grant and revoking a credential need one person only"
            }
            Self::NoCustody => "hold the genesis first: `keyward custody found`",
            Self::NotApproved => {
                "the detail says whose signature it is and what to do; sign what `keyward ceremony show` shows, with an enrolled key"
            }
            Self::Separation => "choose other people, or change the rules by a ceremony",
            Self::CeremonyState => "look at it: `keyward ceremony show`; what has ended is proposed anew",
            Self::Locked => {
                "nothing is lost, and trying again helps only when it is unlocked: `keyward lock list` says why it is locked"
            }
            Self::RateLimited => "wait as Retry-After says",
            Self::KeyDamaged => {
                "trying again does not help: tell whoever keeps the keys; readiness names what was edited"
            }
            Self::Unavailable => "try again as Retry-After says; nothing is lost",
            Self::DeadlineExceeded => "try again, with fewer items or a longer timeout",
            Self::Internal => "report it with the request id",
        }
    }
}

/// A no: the code and what to change. The detail never holds a value of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The closed code.
    pub code: Code,
    /// What to change, beyond the code's advice.
    pub detail: Option<Cow<'static, str>>,
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self { code, detail: None }
    }
}

impl Refusal {
    /// A refusal that says more.
    pub fn because(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }
}
