//! Double-entry accounts and transfers.

pub mod account;
pub mod apply;
pub mod cold;
pub mod cut;
pub(crate) mod dirty;
pub mod history;
pub mod result;
pub mod rules;
pub(crate) mod scan;
pub mod state;
pub(crate) mod stubs;
pub mod total;
pub mod transfer;

pub use account::{Account, AccountFlags};
pub use result::{CodeKind, ResultCode, ResultRow};
pub use total::Total;
pub use transfer::Transfer;

#[cfg(test)]
mod tests;
