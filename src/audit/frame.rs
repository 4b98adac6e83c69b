//! How do records lie in a file? In frames that verify on their own (LOG-3, LOG-4, LOG-5, LOG-6).
//! Parsing is pure and total: any bytes give a frame or an error, never a panic and never more memory than was given.
#![deny(clippy::indexing_slicing)]

use super::rule::Rule;
use super::tree::Hash;

/// The first bytes of every frame (LOG-3).
pub const MAGIC: [u8; 4] = *b"KWL1";
/// The frame version that this code writes and reads (LOG-4).
pub const VERSION: u8 = 1;
/// Bytes before the body (LOG-3).
pub const HEADER_BYTES: usize = 96;
/// Records of one frame at most (LOG-5).
pub const MAX_COUNT: u16 = 8192;
/// Bytes of one body at most (LOG-5): what one write may take without holding the next batch up for long.
pub const MAX_BODY: usize = 4 * 1024 * 1024;
/// The flag that says the MAC field is used (LOG-4); not yet.
pub const FLAG_MAC: u8 = 1;
/// The flag that says the records were acknowledged from the page cache, before a sync (LOG-18).
pub const FLAG_WRITTEN: u8 = 2;

const CRC_AT: usize = 28;

/// The facts of a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The flags of LOG-4.
    pub flags: u8,
    /// How many records follow.
    pub count: u16,
    /// The index of the first one.
    pub first: u64,
    /// When the frame was written: UTC in microseconds.
    pub time: u64,
    /// Bytes of the body.
    pub body: u32,
    /// The root of the tree after the last record of the frame.
    pub root: Hash,
}

/// A frame whose length, checksum and record lengths are right.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The header.
    pub header: Header,
    body: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// There are fewer bytes than the header promises.
    #[error("the frame is cut off")]
    Short,
    /// The first bytes are not those of a frame.
    #[error("no frame begins here")]
    Magic,
    /// A newer keyward wrote it.
    #[error("frame version {0} is newer than version {VERSION}, which this program reads")]
    Newer(u8),
    /// Reserved bits or bytes are set.
    #[error("reserved bits are set")]
    Reserved,
    /// The count or the body length is out of range.
    #[error("the count or the length is out of range")]
    Range,
    /// The checksum differs.
    #[error("the checksum differs")]
    Checksum,
    /// The records do not fill the body exactly.
    #[error("the records do not fill the body")]
    Records,
}

impl FrameError {
    /// The clause that is broken.
    pub const fn rule(self) -> Rule {
        match self {
            Self::Short | Self::Magic => Rule::Frame,
            Self::Newer(_) | Self::Reserved => Rule::FrameVersion,
            Self::Range | Self::Records => Rule::FrameLengths,
            Self::Checksum => Rule::Checksum,
        }
    }
}

/// Reads the frame at the start of the bytes; what follows it is not looked at.
pub fn parse(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let header = parse_header(bytes)?;
    let (head, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or(FrameError::Short)?;
    let length = usize::try_from(header.body).map_err(|_| FrameError::Range)?;
    let body = rest.get(..length).ok_or(FrameError::Short)?;
    if field::<4>(head, CRC_AT).map(u32::from_be_bytes) != Some(checksum(head, body)) {
        return Err(FrameError::Checksum);
    }
    let frame = Frame { header, body };
    let mut seen = 0u32;
    let mut records = frame.records();
    for _ in records.by_ref() {
        seen += 1;
    }
    if seen != u32::from(header.count) || !records.rest.is_empty() {
        return Err(FrameError::Records);
    }
    Ok(frame)
}

/// Reads a header alone, without the checksum: how a reader learns how many bytes to fetch.
pub fn parse_header(bytes: &[u8]) -> Result<Header, FrameError> {
    if field::<4>(bytes, 0).is_some_and(|magic| magic != MAGIC) {
        return Err(FrameError::Magic);
    }
    let [version, flags] = field::<2>(bytes, 4).ok_or(FrameError::Short)?;
    if version > VERSION {
        return Err(FrameError::Newer(version));
    }
    let number = |at| field::<8>(bytes, at).map(u64::from_be_bytes).ok_or(FrameError::Short);
    let header = Header {
        flags,
        count: field::<2>(bytes, 6).map(u16::from_be_bytes).ok_or(FrameError::Short)?,
        first: number(8)?,
        time: number(16)?,
        body: field::<4>(bytes, 24).map(u32::from_be_bytes).ok_or(FrameError::Short)?,
        root: field::<32>(bytes, 32).ok_or(FrameError::Short)?,
    };
    let mac = field::<32>(bytes, 64).ok_or(FrameError::Short)?;
    if version == 0 || flags & !FLAG_WRITTEN != 0 || mac != [0; 32] {
        return Err(FrameError::Reserved);
    }
    let most = u32::try_from(MAX_BODY).unwrap_or(u32::MAX);
    if header.count == 0 || header.count > MAX_COUNT || header.body > most {
        return Err(FrameError::Range);
    }
    Ok(header)
}

/// Writes the header of a frame over the first [`HEADER_BYTES`] bytes of `frame`; the body follows them already.
pub(super) fn write_header(frame: &mut [u8], header: &Header) {
    let Some((head, body)) = frame.split_at_mut_checked(HEADER_BYTES) else { return };
    head.fill(0);
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = head.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &MAGIC);
    put(4, &[VERSION, header.flags]);
    put(6, &header.count.to_be_bytes());
    put(8, &header.first.to_be_bytes());
    put(16, &header.time.to_be_bytes());
    put(24, &header.body.to_be_bytes());
    put(32, &header.root);
    let crc = checksum(head, body);
    if let Some(place) = head.get_mut(CRC_AT..CRC_AT + 4) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
}

/// CRC-32C over the header with a checksum of zero and the body (LOG-6).
fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let before = head.get(..CRC_AT).unwrap_or_default();
    let after = head.get(CRC_AT + 4..).unwrap_or_default();
    [&[0; 4], after, body].into_iter().fold(crc32c::crc32c(before), crc32c::crc32c_append)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

impl<'a> Frame<'a> {
    /// The records, in order.
    pub const fn records(&self) -> Records<'a> {
        Records { rest: self.body }
    }

    /// The index after the last record: the size of the tree whose root the frame holds.
    pub fn end(&self) -> u64 {
        self.header.first.saturating_add(u64::from(self.header.count))
    }

    /// Bytes of the whole frame.
    pub const fn size(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// The records of a body: `u16 length, record` repeated; ends early where the lengths do not fit.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// The records of a body that is not known to be whole: to say which record of a damaged frame is bad.
    pub const fn of_unverified(body: &'a [u8]) -> Self {
        Self { rest: body }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, after) = self.rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let record = after.get(..length).filter(|record| !record.is_empty())?;
        self.rest = after.get(length..)?;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        for record in records {
            bytes.extend_from_slice(&u16::try_from(record.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(record);
        }
        let body = u32::try_from(bytes.len() - HEADER_BYTES).unwrap();
        let count = u16::try_from(records.len()).unwrap();
        let header = Header { flags: 0, count, first: 7, time: 9, body, root: [3; 32] };
        write_header(&mut bytes, &header);
        bytes
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let bytes = frame(&[b"one", b"three"]);
        let read = parse(&bytes).unwrap();
        assert_eq!(read.records().collect::<Vec<_>>(), [b"one".as_slice(), b"three"]);
        assert_eq!((read.header.first, read.header.time, read.end(), read.size()), (7, 9, 9, bytes.len()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = frame(&[b"one", b"three"]);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = frame(&[b"one"]);
        bytes[4] = 2;
        assert_eq!(parse(&bytes).unwrap_err(), FrameError::Newer(2));
    }

    #[test]
    fn an_empty_record_and_a_wrong_count_are_refused() {
        assert_eq!(parse(&frame(&[b""])).unwrap_err(), FrameError::Records);
        assert_eq!(parse(&frame(&[])).unwrap_err(), FrameError::Range);
        let mut bytes = frame(&[b"one", b"two"]);
        let wrong = Header { count: 1, ..parse(&bytes).unwrap().header };
        write_header(&mut bytes, &wrong);
        assert_eq!(parse(&bytes).unwrap_err(), FrameError::Records);
    }
}
