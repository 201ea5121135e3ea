//! A connection to one replica, for questions that a particular replica must answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use quorate_config::ClusterConfig;
use quorate_protocol::client::{ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{ReplicaAddress, RequestId};
use quorate_protocol::time::Timestamp;
use quorate_wire::{Frame, FrameReader, Hello, Origin, encode_hello, encode_request};

/// Asks replicas one at a time.
#[derive(Debug)]
pub struct Session<'a> {
    config: &'a ClusterConfig,
    deadline: Duration,
}

impl<'a> Session<'a> {
    /// Connects to nothing yet.
    #[must_use]
    pub fn open(config: &'a ClusterConfig, deadline: Duration) -> Self {
        Self { config, deadline }
    }

    /// One request to one replica, whatever its role.
    pub fn ask_replica(
        &mut self,
        target: ReplicaAddress,
        body: RequestBody,
    ) -> anyhow::Result<ReplyBody> {
        let end = Instant::now() + self.deadline;
        let cluster = self.config.cluster_id;
        let address = self.config.address_of(target);
        let mut stream = TcpStream::connect_timeout(&address, self.deadline)
            .with_context(|| format!("connect to {target} at {address}"))?;
        stream.set_nodelay(true)?;
        let hello = Hello {
            origin: Origin::Client { id: 0 },
            target,
        };
        let request = Request {
            id: RequestId(1),
            deadline_ms: u32::try_from(self.deadline.as_millis()).unwrap_or(u32::MAX),
            seen: Timestamp::ZERO,
            body,
        };
        let mut out = Vec::new();
        encode_hello(cluster, &hello, &mut out)?;
        encode_request(cluster, &request, &mut out)?;
        stream.write_all(&out)?;
        let mut reader = FrameReader::new(cluster);
        loop {
            while let Some(frame) = reader.next_frame()? {
                match frame {
                    Frame::HelloAck(_) => {}
                    Frame::Refused(refused) => bail!("{target} refused: {}", refused.reason),
                    Frame::Reply(reply) => return Ok(reply.body),
                    other => bail!("{target} sent a {} frame", other.kind().name()),
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{target} did not answer in time");
            }
            stream.set_read_timeout(Some(left))?;
            let bytes = stream.read(reader.space())?;
            if bytes == 0 {
                return Err(anyhow!("{target} closed the connection"));
            }
            reader.advance(bytes);
        }
    }
}
