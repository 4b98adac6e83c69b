//! What does a return code mean on this product? The classes of the profile; a code that it does not name is ambiguous.

use serde::Deserialize;

/// What return codes mean. A code stands in one class; one in none counts as `ambiguous`: the canary decides.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// The blob or its AAD is wrong; says nothing of the token.
    pub bad_input: Vec<u64>,
    /// Either that or a dead token.
    pub ambiguous: Vec<u64>,
    /// Try again a little later.
    pub busy: Vec<u64>,
    /// The session or its handles are lost.
    pub session: Vec<u64>,
    /// The library must start again.
    pub reinit: Vec<u64>,
    /// The token forbids it.
    pub denied: Vec<u64>,
    /// The token is away.
    pub gone: Vec<u64>,
    /// The PIN was refused: nobody may try again.
    pub pin_stop: Vec<u64>,
    /// Who says so.
    pub source: String,
}

/// What a return code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The blob or its AAD is wrong.
    BadInput,
    /// The canary decides.
    Ambiguous,
    /// Try again a little later.
    Busy,
    /// The session or its handles are lost.
    Session,
    /// The library must start again.
    Reinit,
    /// The token forbids it.
    Denied,
    /// The token is away.
    Gone,
    /// The PIN was refused.
    PinStop,
}

impl Errors {
    /// The class of a return code.
    pub fn class(&self, code: u64) -> ErrorClass {
        let listed = self.lists().into_iter().find(|(_, codes)| codes.contains(&code));
        listed.map_or(ErrorClass::Ambiguous, |(class, _)| class)
    }

    fn lists(&self) -> [(ErrorClass, &[u64]); 8] {
        [
            (ErrorClass::BadInput, &self.bad_input),
            (ErrorClass::Ambiguous, &self.ambiguous),
            (ErrorClass::Busy, &self.busy),
            (ErrorClass::Session, &self.session),
            (ErrorClass::Reinit, &self.reinit),
            (ErrorClass::Denied, &self.denied),
            (ErrorClass::Gone, &self.gone),
            (ErrorClass::PinStop, &self.pin_stop),
        ]
    }

    pub(super) fn listed_twice(&self) -> Option<u64> {
        let mut codes: Vec<u64> = self.lists().iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        codes.sort_unstable();
        codes.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(*a),
            _ => None,
        })
    }
}
