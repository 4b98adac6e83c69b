//! How do bodies travel through the client's hands? In buffers that are wiped, as on the server's side.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};

use crate::secret::SecretBytes;

/// A body that is wiped when hyper has let go of it.
pub(super) fn outgoing(body: SecretBytes) -> Full<Bytes> {
    Full::new(Bytes::from_owner(Wiped(body)))
}

struct Wiped(SecretBytes);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// Reads a whole body; None if it is larger than the limit.
pub(super) async fn read(body: &mut Incoming, limit: usize) -> Result<Option<SecretBytes>, hyper::Error> {
    let announced = body.size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let mut buffer = SecretBytes::zeroed(announced.unwrap_or(FIRST).min(limit));
    let mut filled = 0;
    while let Some(frame) = body.frame().await {
        let Ok(part) = frame?.into_data() else { continue };
        let needed = filled + part.len();
        if needed > limit {
            return Ok(None);
        }
        if needed > buffer.len() {
            // The smaller buffer is wiped as it is dropped.
            let mut larger = SecretBytes::zeroed(needed.max(buffer.len() * 2));
            copy(buffer.expose(), larger.expose_mut(), 0);
            buffer = larger;
        }
        copy(&part, buffer.expose_mut(), filled);
        filled = needed;
    }
    if filled < buffer.len() {
        buffer = SecretBytes::copy_of(buffer.expose().get(..filled).unwrap_or_default());
    }
    Ok(Some(buffer))
}

fn copy(from: &[u8], to: &mut [u8], at: usize) {
    if let Some(place) = to.get_mut(at..at + from.len()) {
        place.copy_from_slice(from);
    }
}

/// Room for most answers.
const FIRST: usize = 4 * 1024;
