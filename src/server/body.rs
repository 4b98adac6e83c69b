//! How do bodies travel through our hands? Into one buffer that is wiped, and out of one that is wiped.
//!
//! Limits: the buffers between socket and us belong to hyper and to the kernel. They are not wiped; the process is kept
//! out of dumps for that reason, and swap is the host's to encrypt or turn off. What this module guards are our own copies.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use tokio::sync::OwnedSemaphorePermit;

use crate::secret::SecretBytes;
use crate::service::{Code, Refusal};

/// What is sent back.
pub(super) type Reply = Full<Bytes>;

/// A body that is wiped when hyper has let go of it.
pub(super) fn reply(body: SecretBytes, held: Vec<OwnedSemaphorePermit>) -> Reply {
    Full::new(Bytes::from_owner(Wiped(body, held)))
}

/// The permits are given back when the body has left or the connection is gone.
struct Wiped(SecretBytes, #[expect(dead_code, reason = "held, not read")] Vec<OwnedSemaphorePermit>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// The size that the body announces, if it does; an announced size beyond the limit is refused before a byte is read.
pub(super) fn announced(body: &Incoming, limit: usize) -> Result<Option<usize>, Refusal> {
    match body.size_hint().exact().map(usize::try_from) {
        None => Ok(None),
        Some(Ok(size)) if size <= limit => Ok(Some(size)),
        Some(_) => Err(too_large(limit)),
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read(body: &mut Incoming, announced: Option<usize>, limit: usize) -> Result<SecretBytes, Refusal> {
    // An announced size is trusted for one page only: more is given as it arrives.
    let mut filling = Filling::with_capacity(announced.unwrap_or(FIRST).min(MOST_AT_ONCE));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::because(Code::MalformedRequest, "the body ended before its end"))?;
        let Ok(part) = frame.into_data() else { continue };
        if filling.len() + part.len() > limit {
            return Err(too_large(limit));
        }
        filling.append(&part);
    }
    Ok(filling.finish())
}

/// Reads on and forgets, so that a client that is still writing hears the answer instead of a broken pipe. Bounded:
/// one that sends more than twice the limit does not.
pub(super) async fn discard(body: &mut Incoming, limit: usize) {
    let mut left = limit.saturating_mul(2);
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        if size > left {
            return;
        }
        left -= size;
    }
}

fn too_large(limit: usize) -> Refusal {
    Refusal::because(Code::TooLarge, format!("a body takes at most {limit} bytes"))
}

/// A buffer that grows without leaving its old self behind unwiped.
struct Filling {
    buffer: SecretBytes,
    filled: usize,
}

/// Room for most requests of a few fields.
const FIRST: usize = 4 * 1024;
/// What an announced size gets before any byte of it has come.
const MOST_AT_ONCE: usize = 256 * 1024;

impl Filling {
    fn with_capacity(capacity: usize) -> Self {
        Self { buffer: SecretBytes::zeroed(capacity), filled: 0 }
    }

    const fn len(&self) -> usize {
        self.filled
    }

    fn append(&mut self, part: &[u8]) {
        let needed = self.filled + part.len();
        if needed > self.buffer.len() {
            let mut larger = SecretBytes::zeroed(needed.max(self.buffer.len() * 2));
            copy(self.buffer.expose(), larger.expose_mut());
            // The smaller buffer is wiped as it is dropped here.
            self.buffer = larger;
        }
        if let Some(free) = self.buffer.expose_mut().get_mut(self.filled..) {
            copy(part, free);
        }
        self.filled = needed;
    }

    fn finish(self) -> SecretBytes {
        if self.filled == self.buffer.len() {
            return self.buffer;
        }
        SecretBytes::copy_of(self.buffer.expose().get(..self.filled).unwrap_or_default())
    }
}

/// Copies to the front of a buffer that is at least as long.
fn copy(from: &[u8], to: &mut [u8]) {
    if let Some(front) = to.get_mut(..from.len()) {
        front.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_grows_holds_what_was_appended() {
        for first in [0, 1, 3, 100] {
            let mut filling = Filling::with_capacity(first);
            let mut wanted = Vec::new();
            for part in [&b"abc"[..], b"", b"defghijklmnop", b"q"] {
                filling.append(part);
                wanted.extend_from_slice(part);
            }
            assert_eq!(filling.finish().expose(), wanted);
        }
    }
}
