//! Which shard owns which account, how accounts move, and who pays whom.

pub mod map;
pub(crate) mod migration;
pub(crate) mod pairs;
pub mod telemetry;
