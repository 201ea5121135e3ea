//! Which shard owns which account, how accounts move, who pays whom, and what the operator's tools remember.

pub mod catalog;
pub(crate) mod forwarding;
pub mod map;
pub(crate) mod migration;
pub mod pair_table;
pub(crate) mod pairs;
pub mod telemetry;
