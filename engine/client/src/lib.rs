//! Library for applications: transfers, look-ups and checks against a Quorate cluster.
//!
//! [`session`] is the pure part: routing, retries, deadlines. Two transports drive it: [`blocking`]
//! with the standard library, and `nonblocking` on a glommio executor (feature `glommio`).
//! [`ulid`] makes transfer ids.

#![forbid(unsafe_code)]

pub mod blocking;
mod error;
mod handshake;
#[cfg(feature = "glommio")]
pub mod nonblocking;
pub mod reshard;
pub mod session;
mod topology;
pub mod ulid;
pub mod verify;

pub use blocking::{BlockingClient, ClientOptions, TransferRecord};
pub use error::{ClientError, DialError, Target};
#[cfg(feature = "glommio")]
pub use nonblocking::AsyncClient;
pub use session::{Cause, Completed, PartResult};
pub use topology::Topology;
pub use verify::{LedgerReport, VerifyReport};
