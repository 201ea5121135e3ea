//! Incremental decoder of one connection's incoming bytes.
//!
//! ```text
//! loop { n = socket.read(reader.space()); reader.advance(n); while let Some(f) = reader.next_frame()? {..} }
//! ```
//!
//! The receive buffer is aligned to 16, starts small and grows only for a frame whose header has
//! passed every check, to the size of that frame: at most [`HEADER_BYTES`] + [`PAYLOAD_BYTES_MAX`].
//! Checks run from the outside in: header, crc32, structure of the archive, meaning of the fields.

use quorate_protocol::ids::ClusterId;
use quorate_protocol::words::{WORD_SIZE, Word};
use rkyv::Portable;
use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::BoxedError;
use zerocopy::IntoBytes;

use crate::error::FrameError;
use crate::frame::{Frame, FrameKind};
use crate::header::{self, HANDSHAKE_BYTES_MAX, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX};
use crate::mirror::handshake::{
    ArchivedChallengeMirror, ArchivedHelloAckMirror, ArchivedHelloMirror, ArchivedProofMirror,
    ArchivedRefusedMirror,
};
use crate::mirror::peer::{ArchivedPeerMirror, ArchivedRelayedMirror};
use crate::mirror::reply::ArchivedReplyMirror;
use crate::mirror::request::ArchivedRequestMirror;

/// Bytes of a new receive buffer; holds a few hundred small frames.
const BUFFER_BYTES_MIN: usize = 64 << 10;
const BUFFER_BYTES_MAX: usize = HEADER_BYTES + PAYLOAD_BYTES_MAX;
/// The same of a connection whose other side is not known yet: room for any frame that it may send.
const BUFFER_BYTES_HANDSHAKE: usize = HEADER_BYTES + HANDSHAKE_BYTES_MAX;
const _: () = assert!(BUFFER_BYTES_HANDSHAKE.is_multiple_of(WORD_SIZE));
const _: () = assert!(BUFFER_BYTES_MIN.is_multiple_of(WORD_SIZE));
const _: () = assert!(BUFFER_BYTES_MAX.is_multiple_of(WORD_SIZE));

/// Turns received bytes into frames.
#[derive(Debug)]
pub struct FrameReader {
    cluster: ClusterId,
    payload_bytes_max: usize,
    buffer: Vec<Word>,
    /// Where the next frame starts; a multiple of 16.
    start: usize,
    /// End of the received bytes.
    end: usize,
    /// The checked header at `start`, once it is complete.
    header: Option<Header>,
    last_frame_bytes: usize,
    failed: Option<FrameError>,
}

impl FrameReader {
    /// A reader that takes frames of this cluster only.
    #[must_use]
    pub fn new(cluster: ClusterId) -> Self {
        let mut reader = Self::for_handshake(cluster);
        reader.open();
        reader
    }

    /// The same before the other side is known: no frame is longer than those of a handshake, until
    /// [`Self::open`].
    #[must_use]
    pub fn for_handshake(cluster: ClusterId) -> Self {
        Self {
            cluster,
            payload_bytes_max: HANDSHAKE_BYTES_MAX,
            buffer: vec![Word::default(); BUFFER_BYTES_HANDSHAKE / WORD_SIZE],
            start: 0,
            end: 0,
            header: None,
            last_frame_bytes: 0,
            failed: None,
        }
    }

    /// The connection stands: frames of every length from now on.
    pub fn open(&mut self) {
        self.payload_bytes_max = PAYLOAD_BYTES_MAX;
        let words = (BUFFER_BYTES_MIN / WORD_SIZE).max(self.buffer.len());
        self.buffer.resize(words, Word::default());
    }

    /// Where to put received bytes. Never empty after [`Self::next_frame`] returned `None`.
    pub fn space(&mut self) -> &mut [u8] {
        let end = self.end;
        &mut self.buffer.as_mut_bytes()[end..]
    }

    /// `bytes` were put at the start of [`Self::space`].
    ///
    /// # Panics
    /// If that is more than there was space.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.buffer.as_bytes().len() - self.end);
        self.end += bytes;
    }

    /// The next whole frame; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The first violation, and the same one ever after: the stream has no next frame then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.try_next();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// Received bytes that are not part of a returned frame yet.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.end - self.start
    }

    /// Bytes that the frame returned last took on the wire, header and padding included.
    #[must_use]
    pub fn last_frame_bytes(&self) -> usize {
        self.last_frame_bytes
    }

    /// The whole frame that was returned last, as it stood on the wire. Only until more bytes are asked for: `None`
    /// afterwards, or if there was none.
    #[must_use]
    pub fn last_frame(&self) -> Option<&[u8]> {
        let start = self.start.checked_sub(self.last_frame_bytes)?;
        let frame = &self.buffer.as_bytes()[start..self.start];
        (!frame.is_empty()).then_some(frame)
    }

    fn try_next(&mut self) -> Result<Option<Frame>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => match self.received().first_chunk() {
                Some(bytes) => {
                    *self
                        .header
                        .insert(Header::parse(bytes, self.cluster, self.payload_bytes_max)?)
                }
                None => {
                    self.make_room(HEADER_BYTES);
                    return Ok(None);
                }
            },
        };
        let bytes = header.frame_bytes();
        let Some(frame) = self.received().get(..bytes) else {
            self.make_room(bytes);
            return Ok(None);
        };
        let frame = decode(&header, frame)?;
        self.header = None;
        self.start += bytes;
        self.last_frame_bytes = bytes;
        Ok(Some(frame))
    }

    fn received(&self) -> &[u8] {
        &self.buffer.as_bytes()[self.start..self.end]
    }

    /// Moves what is there to the front if the frame does not fit behind it, and grows the buffer if
    /// it does not fit at all. Afterwards at least one byte is free.
    fn make_room(&mut self, frame_bytes: usize) {
        assert!(frame_bytes <= BUFFER_BYTES_MAX && self.pending_bytes() < frame_bytes);
        if self.start == self.end || self.start + frame_bytes > self.buffer.as_bytes().len() {
            let (start, end) = (self.start, self.end);
            self.buffer.as_mut_bytes().copy_within(start..end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let words = frame_bytes.div_ceil(WORD_SIZE);
        if words > self.buffer.len() {
            self.buffer.reserve_exact(words - self.buffer.len());
            self.buffer.resize(words, Word::default());
        }
    }
}

fn decode(header: &Header, frame: &[u8]) -> Result<Frame, FrameError> {
    let computed = header::checksum([frame]);
    if computed != header.crc {
        return Err(FrameError::Crc {
            found: header.crc,
            computed,
        });
    }
    let (payload, padding) = frame[HEADER_BYTES..].split_at(header.payload_bytes);
    if padding.iter().any(|&byte| byte != 0) {
        return Err(FrameError::Padding);
    }
    let kind = header.kind;
    Ok(match kind {
        FrameKind::Hello => Frame::Hello(access::<ArchivedHelloMirror>(payload, kind)?.read()?),
        FrameKind::HelloAck => {
            Frame::HelloAck(access::<ArchivedHelloAckMirror>(payload, kind)?.read())
        }
        FrameKind::Refused => {
            Frame::Refused(access::<ArchivedRefusedMirror>(payload, kind)?.read()?)
        }
        FrameKind::Peer => Frame::Peer(access::<ArchivedPeerMirror>(payload, kind)?.read()?),
        FrameKind::Request => {
            Frame::Request(access::<ArchivedRequestMirror>(payload, kind)?.read()?)
        }
        FrameKind::Reply => Frame::Reply(access::<ArchivedReplyMirror>(payload, kind)?.read()?),
        FrameKind::Challenge => {
            Frame::Challenge(access::<ArchivedChallengeMirror>(payload, kind)?.read())
        }
        FrameKind::Proof => Frame::Proof(access::<ArchivedProofMirror>(payload, kind)?.read()),
        FrameKind::Relayed => {
            Frame::Relayed(access::<ArchivedRelayedMirror>(payload, kind)?.read()?)
        }
    })
}

fn access<T>(payload: &[u8], kind: FrameKind) -> Result<&T, FrameError>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, BoxedError>>,
{
    rkyv::access::<T, BoxedError>(payload).map_err(|error| FrameError::Structure {
        message: kind.name(),
        reason: without_addresses(&error.to_string()),
    })
}

/// A text of rkyv without the addresses of this process in it: the reason is told to whoever sent the
/// bytes, and the same bytes get the same reason.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split("0x");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("0x..");
        out.push_str(part.trim_start_matches(|char: char| char.is_ascii_hexdigit()));
    }
    out
}
