//! Which shard owns which account.

pub mod map;
pub(crate) mod migration;
pub(crate) mod pairs;
pub mod telemetry;
