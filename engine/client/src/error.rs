//! Why a call has no answer, and why a connection does not come about.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use quorate_access::HandshakeError;
use quorate_protocol::client::ReplyBody;
use quorate_protocol::ids::{ReplicaAddress, ShardId};
use quorate_wire::FrameError;
use thiserror::Error;

use crate::session::{Cause, Outcome};

/// Who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Cluster,
    Shard(ShardId),
    Replica(ReplicaAddress),
}

impl Target {
    /// Whether this replica may have been asked.
    pub(crate) fn includes(self, replica: ReplicaAddress) -> bool {
        match self {
            Self::Cluster => true,
            Self::Shard(shard) => shard == replica.shard,
            Self::Replica(asked) => asked == replica,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Shard(shard) => write!(f, "shard {shard}"),
            Self::Replica(replica) => write!(f, "{replica}"),
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The deadline passed, or a replica that was asked by name is out of reach.
    #[error("{target}: {}{detail}", cause.text())]
    NoAnswer {
        target: Target,
        cause: Cause,
        /// The newest failures to connect, or empty.
        detail: String,
    },
    #[error("{target} refused the request: {reason}")]
    BadRequest { target: Target, reason: String },
    #[error("{target} answered {reply} to {request}")]
    Unexpected {
        target: Target,
        request: &'static str,
        reply: String,
    },
}

impl ClientError {
    /// The text without the target, for those who have named it.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::NoAnswer { cause, detail, .. } => format!("{}{detail}", cause.text()),
            Self::BadRequest { .. } | Self::Unexpected { .. } => self.to_string(),
        }
    }

    /// What an outcome that is not the wanted one means; `failures` are those of connections to the
    /// target.
    pub(crate) fn of<'a>(
        target: Target,
        request: &'static str,
        outcome: Outcome,
        failures: impl Iterator<Item = &'a DialError>,
    ) -> Self {
        match outcome {
            Outcome::NoAnswer(cause) => Self::NoAnswer {
                target,
                cause,
                detail: failures.map(|error| format!("; {error}")).collect(),
            },
            Outcome::BadRequest(reason) | Outcome::Reply(ReplyBody::BadRequest(reason)) => {
                Self::BadRequest { target, reason }
            }
            other @ (Outcome::Results(_) | Outcome::Accounts(_) | Outcome::Reply(_)) => {
                Self::Unexpected {
                    target,
                    request,
                    reply: other.name().to_owned(),
                }
            }
        }
    }
}

/// Why there is no connection to a replica.
#[derive(Debug, Error)]
pub enum DialError {
    #[error("cannot connect to {address}: {source}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{address} closed the connection during the handshake: {source}")]
    Broken {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{address} {source}")]
    Handshake {
        address: SocketAddr,
        source: HandshakeError,
    },
    #[error("{address} does not speak the protocol: {source}")]
    Frame {
        address: SocketAddr,
        source: FrameError,
    },
}

impl DialError {
    /// Whether asking again, or somebody else, is in vain.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Handshake { source, .. } => source.is_final(),
            // Whoever refuses these says so in a frame that is foreign itself.
            Self::Frame {
                source: FrameError::Version { .. } | FrameError::Cluster { .. },
                ..
            } => true,
            Self::Connect { .. } | Self::Broken { .. } | Self::Frame { .. } => false,
        }
    }
}
