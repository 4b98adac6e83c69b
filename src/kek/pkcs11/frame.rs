//! How do bytes travel between the sidecar and its worker? In one page of memory that is wiped after use.
//! This module never allocates for what it carries: a frame that does not fit does not exist.
//!
//! On the socket: `u32 length || fields`, big-endian; a field of bytes is `u16 length || bytes`.

#![deny(clippy::indexing_slicing)]

use std::io::{self, Read, Write};

use crate::secret::SecretBytes;

/// What is wrong with a frame: it does not fit, ends early or says something that the protocol does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker and the sidecar do not understand each other")]
pub struct Malformed;

/// One message.
pub struct Frame {
    /// The length, then the fields, as on the socket: one call sends and mostly one receives.
    page: SecretBytes,
    len: usize,
}

impl Frame {
    /// An empty frame.
    pub fn new() -> Self {
        Self { page: SecretBytes::zeroed(HEADER_BYTES + PAGE_BYTES), len: 0 }
    }

    /// Wipes everything.
    pub fn clear(&mut self) {
        self.page.wipe(HEADER_BYTES + self.len);
        self.len = 0;
    }

    /// The fields written or received.
    pub fn body(&self) -> &[u8] {
        self.page.expose().get(HEADER_BYTES..HEADER_BYTES + self.len).unwrap_or_default()
    }

    /// The whole message as it is sent.
    pub fn wire(&mut self) -> &[u8] {
        // A frame is at most a page long.
        let header = u32::try_from(self.len).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.page.expose_mut().first_chunk_mut() {
            *place = header;
        }
        self.page.expose().get(..HEADER_BYTES + self.len).unwrap_or_default()
    }

    /// Room for what has yet to arrive, after `arrived` bytes of a message.
    pub fn room(&mut self, arrived: usize) -> &mut [u8] {
        self.page.expose_mut().get_mut(arrived..).unwrap_or_default()
    }

    /// Whether `arrived` bytes are the whole message. One side speaks at a time, so that more than it is an error too.
    pub fn is_whole(&mut self, arrived: usize) -> Result<bool, Malformed> {
        // What has arrived is wiped later, even if it turns out to be nonsense.
        self.len = arrived.saturating_sub(HEADER_BYTES).min(PAGE_BYTES);
        let Some(header) = self.page.expose().first_chunk().filter(|_| arrived >= HEADER_BYTES) else {
            return Ok(false);
        };
        let len = usize::try_from(u32::from_be_bytes(*header)).map_err(|_| Malformed)?;
        if len > PAGE_BYTES || arrived > HEADER_BYTES + len {
            return Err(Malformed);
        }
        Ok(arrived == HEADER_BYTES + len)
    }

    /// Waits for a message; false when the other side has hung up between two of them.
    pub fn receive(&mut self, from: &mut impl Read) -> io::Result<bool> {
        self.clear();
        let mut arrived = 0;
        while !self.is_whole(arrived).map_err(io::Error::other)? {
            match from.read(self.room(arrived)) {
                Ok(0) if arrived == 0 => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => arrived += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends the message and wipes it.
    pub fn send(&mut self, to: &mut impl Write) -> io::Result<()> {
        let sent = to.write_all(self.wire());
        self.clear();
        sent
    }

    /// Appends a number of one byte.
    pub fn put_u8(&mut self, value: u8) -> Result<(), Malformed> {
        self.put(&[value])
    }

    /// Appends a number of two bytes.
    pub fn put_u16(&mut self, value: u16) -> Result<(), Malformed> {
        self.put(&value.to_be_bytes())
    }

    /// Appends a number of eight bytes.
    pub fn put_u64(&mut self, value: u64) -> Result<(), Malformed> {
        self.put(&value.to_be_bytes())
    }

    /// Appends bytes with their length.
    pub fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.put_u16(u16::try_from(bytes.len()).map_err(|_| Malformed)?)?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (from, end) = (HEADER_BYTES + self.len, HEADER_BYTES + self.len + bytes.len());
        self.page.expose_mut().get_mut(from..end).ok_or(Malformed)?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }
}

/// The fields that are left to read.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// All fields of a body.
    pub const fn of(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// A number of one byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    /// A number of two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A number of eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Zero or one.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// Bytes with their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16()?);
        let (head, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    /// Bytes that are text.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// Nothing may be left.
    pub const fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }
}

/// A page: the largest message is a wrap request with a key, a binding of a few hundred bytes and two numbers.
const PAGE_BYTES: usize = 4092;
const HEADER_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_arrives_as_it_was_sent_and_leaves_nothing_behind() {
        let mut frame = Frame::new();
        frame.put_u8(7).unwrap();
        frame.put_bytes(b"12345678").unwrap();
        let mut wire = Vec::new();
        frame.send(&mut wire).unwrap();
        assert_eq!(hex::encode(&wire), "0000000b0700083132333435363738");
        assert!(frame.page.expose().iter().all(|byte| *byte == 0), "a sent frame is wiped");
        assert!(frame.receive(&mut wire.as_slice()).unwrap());
        let mut fields = Fields::of(frame.body());
        assert_eq!((fields.u8(), fields.bytes(), fields.end()), (Ok(7), Ok(&b"12345678"[..]), Ok(())));
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused_on_both_sides() {
        let mut frame = Frame::new();
        assert_eq!(frame.put_bytes(&[0; PAGE_BYTES - 1]), Err(Malformed));
        frame.clear();
        frame.put_bytes(&[0; PAGE_BYTES - 2]).unwrap();
        assert_eq!(frame.put_u8(0), Err(Malformed));
        for len in [PAGE_BYTES + 1, usize::try_from(u32::MAX).unwrap()] {
            let header = u32::try_from(len).unwrap().to_be_bytes();
            assert!(frame.receive(&mut header.as_slice()).is_err());
        }
    }

    #[test]
    fn a_hang_up_between_messages_is_an_end_and_within_one_an_error() {
        let mut frame = Frame::new();
        assert!(!frame.receive(&mut &b""[..]).unwrap());
        assert!(frame.receive(&mut &[0, 0, 0, 2, 1][..]).is_err());
        assert!(frame.receive(&mut &[0, 0, 0, 1, 1, 1][..]).is_err(), "more than the message");
    }

    #[test]
    fn fields_never_read_past_the_end() {
        let mut fields = Fields::of(&[0, 9, 1]);
        assert_eq!(fields.bytes(), Err(Malformed));
        assert_eq!(Fields::of(&[2]).flag(), Err(Malformed));
        assert_eq!(Fields::of(&[0, 1, 0xff]).text(), Err(Malformed));
        assert_eq!(Fields::of(&[0]).end(), Err(Malformed));
    }
}
