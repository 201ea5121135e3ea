//! Double-entry accounts and transfers.

pub mod account;
pub mod result;
pub mod transfer;

pub use account::{Account, AccountFlags};
pub use result::{CodeKind, ResultCode, ResultRow};
pub use transfer::Transfer;
