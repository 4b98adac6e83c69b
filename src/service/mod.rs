//! How is a request answered? One page, the same for every verb: see [`Service::handle`].
//! This module never parses bytes and never chooses a status code.

mod refusal;
mod response;

use crate::clock::Deadline;
use crate::identity::Credentials;
use crate::names::{KeyringName, RequestId};

pub use crate::control::CreateKeyring;
pub use crate::crypto::Suite;
pub use crate::keyring::{KeyState, KeyringView, VersionView};
pub use crate::operations::ItemError;
pub use crate::operations::open::{Form, Open, OpenItem, Opened};
pub use crate::operations::seal::{Seal, SealItem};
pub use refusal::{Code, Refusal};
pub use response::{Answer, Response};

/// Which listener a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// The data Unix socket.
    DataSocket,
    /// Loopback TCP.
    DataTcp,
    /// The control Unix socket.
    Control,
}

/// One request, parsed and bounded.
pub struct Call {
    /// Where it came in.
    pub surface: Surface,
    /// What the connection or request offered as proof.
    pub credentials: Credentials,
    /// Its identifier.
    pub request: RequestId,
    /// When it must be answered.
    pub deadline: Deadline,
    /// What it asks, or why the bytes did not say anything.
    pub operation: Result<Operation, Refusal>,
}

/// Everything that can be asked. Data verbs come through the data surfaces, control verbs through the control surface;
/// routes keep them apart, and `handle` refuses a mix.
pub enum Operation {
    /// Seal values.
    Seal(Seal),
    /// Open values.
    Open(Open),
    /// Make a keyring (control).
    CreateKeyring(CreateKeyring),
    /// List keyrings (data and control).
    ListKeyrings,
    /// Show a keyring (data and control).
    ShowKeyring(KeyringName),
    /// Records of the log (control).
    ReadAudit {
        /// First index wanted; None means the newest `limit` records.
        from: Option<u64>,
        /// At most this many.
        limit: u32,
    },
}

/// Answers requests. Shared by all listeners.
pub struct Service {}

impl Service {
    /// Answers one request.
    pub async fn handle(&self, _call: Call) -> Response {
        todo!()
    }
}
