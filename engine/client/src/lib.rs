//! Library for applications: transfers, look-ups and checks against a Quorate cluster.
//!
//! [`session`] is the pure part: routing, retries, deadlines. Two transports drive it: [`blocking`]
//! with the standard library, and `nonblocking` on a glommio executor (feature `glommio`).
//! [`history`] reads what happened to an account, [`observe`] what leaders counted and who owns what,
//! [`ulid`] makes transfer ids.

#![forbid(unsafe_code)]

pub mod blocking;
pub mod catalog;
mod error;
mod handshake;
pub mod history;
pub mod near;
#[cfg(feature = "glommio")]
pub mod nonblocking;
pub mod observe;
pub mod reshard;
pub mod session;
mod topology;
pub mod ulid;
pub mod verify;

pub use blocking::{BlockingClient, ClientOptions, TransferRecord};
pub use error::{ClientError, DialError, Target};
pub use history::{AccountAt, AccountHistory, TimeRange};
#[cfg(feature = "glommio")]
pub use nonblocking::AsyncClient;
pub use session::{Cause, Completed, PartResult};
pub use topology::Topology;
pub use verify::{LedgerReport, VerifyReport};
