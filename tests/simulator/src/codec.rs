//! Messages to bytes and back, with the frames of `quorate-wire`.

use quorate_protocol::client::{Reply, Request};
use quorate_protocol::ids::ClusterId;
use quorate_protocol::message::PeerMessage;
use quorate_wire::{Frame, FrameReader, encode_peer, encode_reply, encode_request};

/// Encoder and decoder of whole messages.
#[derive(Debug)]
pub struct Codec {
    cluster: ClusterId,
    /// Reused between messages; replaced after one that was refused or cut short.
    reader: FrameReader,
}

impl Codec {
    /// A codec of one cluster.
    #[must_use]
    pub fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            reader: FrameReader::new(cluster),
        }
    }

    /// The frame of a message between replicas.
    ///
    /// # Panics
    /// If the core made a message that does not fit a frame.
    pub fn encode_peer(&self, message: &PeerMessage) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_peer(self.cluster, message, &mut bytes).expect("messages of the core fit a frame");
        bytes
    }

    /// The frame of a request.
    ///
    /// # Panics
    /// If the request does not fit a frame.
    pub fn encode_request(&self, request: &Request) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_request(self.cluster, request, &mut bytes).expect("simulated requests are small");
        bytes
    }

    /// The frame of a reply.
    ///
    /// # Panics
    /// If the core made a reply that does not fit a frame.
    pub fn encode_reply(&self, reply: &Reply) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_reply(self.cluster, reply, &mut bytes).expect("replies of the core fit a frame");
        bytes
    }

    /// Reads a message between replicas.
    ///
    /// # Errors
    /// Why the bytes are none.
    pub fn peer(&mut self, bytes: &[u8]) -> Result<PeerMessage, String> {
        match self.frame(bytes)? {
            Frame::Peer(message) => Ok(message),
            other => Err(format!("a {} frame", other.kind().name())),
        }
    }

    /// Reads a request.
    ///
    /// # Errors
    /// Why the bytes are none.
    pub fn request(&mut self, bytes: &[u8]) -> Result<Request, String> {
        match self.frame(bytes)? {
            Frame::Request(request) => Ok(request),
            other => Err(format!("a {} frame", other.kind().name())),
        }
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// Why the bytes are none.
    pub fn reply(&mut self, bytes: &[u8]) -> Result<Reply, String> {
        match self.frame(bytes)? {
            Frame::Reply(reply) => Ok(reply),
            other => Err(format!("a {} frame", other.kind().name())),
        }
    }

    fn frame(&mut self, bytes: &[u8]) -> Result<Frame, String> {
        let result = self.read(bytes);
        if result.is_err() || self.reader.pending_bytes() > 0 {
            self.reader = FrameReader::new(self.cluster);
        }
        result
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Frame, String> {
        let mut rest = bytes;
        loop {
            if let Some(frame) = self.reader.next_frame().map_err(|e| e.to_string())? {
                let whole = rest.is_empty() && self.reader.pending_bytes() == 0;
                return if whole {
                    Ok(frame)
                } else {
                    Err("bytes behind the frame".to_owned())
                };
            }
            if rest.is_empty() {
                return Err("cut short".to_owned());
            }
            let space = self.reader.space();
            let taken = rest.len().min(space.len());
            space[..taken].copy_from_slice(&rest[..taken]);
            self.reader.advance(taken);
            rest = &rest[taken..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::client::{ReplyBody, RequestBody};
    use quorate_protocol::ids::RequestId;
    use quorate_protocol::time::Timestamp;

    #[test]
    fn a_refused_frame_does_not_spoil_the_next_one() {
        let mut codec = Codec::new(ClusterId(1));
        let request = Request {
            id: RequestId(4),
            deadline_ms: 1,
            seen: Timestamp(9),
            body: RequestBody::Status,
        };
        let bytes = codec.encode_request(&request);
        for cut in 0..bytes.len() {
            assert!(codec.request(&bytes[..cut]).is_err(), "{cut}");
            let mut flipped = bytes.clone();
            flipped[cut] ^= 4;
            assert!(codec.request(&flipped).is_err(), "{cut}");
            assert_eq!(codec.request(&bytes).unwrap(), request);
        }
        let reply = Reply {
            id: RequestId(4),
            clock: Timestamp(1),
            body: ReplyBody::Done,
        };
        let bytes = codec.encode_reply(&reply);
        assert!(codec.request(&bytes).is_err());
        assert_eq!(codec.reply(&bytes).unwrap(), reply);
    }
}
