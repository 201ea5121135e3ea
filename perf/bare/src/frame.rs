//! Frames: what a client sends, what the server writes to its log, and what it answers.
//!
//! ```text
//! bytes   request, record of the log              answer
//! 0..4    bytes behind the header: 128 x count    16 x count
//! 4..8    records                                 records
//! 8..12   the client's number                     the same
//! 12..16  log: CRC-32 of what follows; else 0     0
//! 16..    records of 128 bytes                    the first 16 bytes of each
//! ```
//!
//! All numbers are little-endian. Knows bytes, not sockets; a header that is wrong is an error.

use std::error::Error;
use std::fmt;

pub const HEADER_BYTES: usize = 16;
/// Bytes of a record: those of a transfer.
pub const RECORD_BYTES: usize = 128;
/// Bytes that answer one record: those of a result.
pub const ECHO_BYTES: usize = 16;
/// Records of a frame: the largest batch of Quorate.
pub const COUNT_MAX: u32 = 8190;

/// Room for many small frames in one read; a larger frame makes its own.
const BUFFER_BYTES_MIN: usize = 64 << 10;

/// Which way a frame goes, and so how many bytes a record has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Answer,
}

impl Kind {
    fn bytes_per_record(self) -> usize {
        match self {
            Self::Request => RECORD_BYTES,
            Self::Answer => ECHO_BYTES,
        }
    }
}

/// The header of a frame; the length follows from the kind and the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    /// 1 to [`COUNT_MAX`].
    pub count: u32,
    pub number: u32,
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    Count { count: u32 },
    Length { length: u32, count: u32 },
}

impl Header {
    /// Bytes behind the header.
    #[must_use]
    pub fn payload_bytes(self) -> usize {
        usize::try_from(self.count).expect("a u32 fits a usize here") * self.kind.bytes_per_record()
    }

    /// Appends the header, as it goes over the wire.
    pub fn append_to(self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.encoded(0));
    }

    /// The header with the checksum of what follows it; 0 over the wire.
    #[must_use]
    pub fn encoded(self, crc: u32) -> [u8; HEADER_BYTES] {
        let length = u32::try_from(self.payload_bytes()).expect("a frame is about a mebibyte");
        let mut bytes = [0; HEADER_BYTES];
        for (field, value) in bytes
            .chunks_exact_mut(4)
            .zip([length, self.count, self.number, crc])
        {
            field.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// Checks a header before anything is made of it.
    ///
    /// # Errors
    /// It is not one of `kind`.
    pub fn decode(kind: Kind, bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [length, count, number, _] = words(bytes);
        if !(1..=COUNT_MAX).contains(&count) {
            return Err(FrameError::Count { count });
        }
        let header = Self {
            kind,
            count,
            number,
        };
        if usize::try_from(length).ok() != Some(header.payload_bytes()) {
            return Err(FrameError::Length { length, count });
        }
        Ok(header)
    }
}

fn words(bytes: [u8; HEADER_BYTES]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, field) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*field);
    }
    words
}

impl fmt::Display for FrameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { count } => write!(formatter, "{count} records, not 1 to {COUNT_MAX}"),
            Self::Length { length, count } => {
                write!(formatter, "{length} bytes for {count} records")
            }
        }
    }
}

impl Error for FrameError {}

/// A whole frame, where it was read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub header: Header,
    pub payload: &'a [u8],
}

/// Bytes of one socket on their way to frames. A read goes straight into it; what is left of a frame
/// moves only when there is no room behind it.
#[derive(Debug)]
pub struct FrameReader {
    kind: Kind,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the frame at `start`, as far as they are known.
    wanted: usize,
}

impl FrameReader {
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            bytes: vec![0; BUFFER_BYTES_MIN],
            start: 0,
            end: 0,
            wanted: HEADER_BYTES,
        }
    }

    /// Where the next bytes belong; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.bytes.len() - self.start < self.wanted || self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.bytes.resize(self.bytes.len().max(self.wanted), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were read into [`Self::space`].
    pub fn advance(&mut self, bytes: usize) {
        self.end += bytes;
        assert!(self.end <= self.bytes.len(), "more than there was room for");
    }

    /// Takes the next frame, if all of it is there.
    ///
    /// # Errors
    /// What is there is no frame; nothing can be read from this socket any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some(head) = self.bytes[self.start..self.end].first_chunk() else {
            self.wanted = HEADER_BYTES;
            return Ok(None);
        };
        let header = Header::decode(self.kind, *head)?;
        self.wanted = HEADER_BYTES + header.payload_bytes();
        if self.end - self.start < self.wanted {
            return Ok(None);
        }
        let payload = self.start + HEADER_BYTES..self.start + self.wanted;
        self.start = payload.end;
        self.wanted = HEADER_BYTES;
        let payload = &self.bytes[payload];
        Ok(Some(Frame { header, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(count: u32, number: u32) -> Header {
        Header {
            kind: Kind::Request,
            count,
            number,
        }
    }

    #[test]
    fn a_header_has_golden_bytes_and_comes_back() {
        let bytes = request(2, 7).encoded(0x0102_0304);
        let golden = [0, 1, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 4, 3, 2, 1];
        assert_eq!(bytes, golden);
        assert_eq!(Header::decode(Kind::Request, bytes), Ok(request(2, 7)));
    }

    #[test]
    fn a_wrong_count_or_length_is_refused_with_both_values() {
        let decode = |length: u32, count: u32| {
            let mut bytes = request(1, 0).encoded(0);
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            bytes[4..8].copy_from_slice(&count.to_le_bytes());
            let refused = Header::decode(Kind::Request, bytes).err();
            refused.map(|error| error.to_string())
        };
        assert_eq!(decode(128, 1), None);
        let count = |count: u32| Some(format!("{count} records, not 1 to 8190"));
        assert_eq!(decode(0, 0), count(0));
        assert_eq!(decode(u32::MAX, u32::MAX), count(u32::MAX));
        let length = Some("16 bytes for 1 records".to_owned());
        assert_eq!(decode(16, 1), length);
    }

    /// However the stream is cut, the same frames come out of it.
    #[test]
    fn frames_come_out_of_any_pieces() {
        let counts = [1, 3, 8190, 1, 700, 2, 8190, 1];
        let mut stream = Vec::new();
        for (number, count) in (0..).zip(counts) {
            let header = request(count, number);
            header.append_to(&mut stream);
            let fill = u8::try_from(number).unwrap() + 1;
            stream.resize(stream.len() + header.payload_bytes(), fill);
        }
        for piece in [1, 7, 4096, 100_000, 3 << 20] {
            let mut reader = FrameReader::new(Kind::Request);
            let mut found = Vec::new();
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let space = reader.space();
                let read = piece.min(space.len()).min(rest.len());
                assert!(read > 0);
                space[..read].copy_from_slice(&rest[..read]);
                rest = &rest[read..];
                reader.advance(read);
                while let Some(Frame { header, payload }) = reader.next_frame().unwrap() {
                    assert_eq!(payload.len(), header.payload_bytes());
                    let fill = u8::try_from(header.number).unwrap() + 1;
                    assert!(payload.iter().all(|&byte| byte == fill));
                    found.push(header.count);
                }
            }
            assert_eq!(found, counts, "in pieces of {piece}");
        }
    }

    #[test]
    fn nothing_comes_out_of_what_is_no_frame() {
        let mut reader = FrameReader::new(Kind::Answer);
        let request = request(1, 0).encoded(0);
        reader.space()[..HEADER_BYTES].copy_from_slice(&request);
        reader.advance(HEADER_BYTES);
        let error = FrameError::Length {
            length: 128,
            count: 1,
        };
        assert_eq!(reader.next_frame(), Err(error));
    }
}
