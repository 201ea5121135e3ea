//! Which shard owns which account.

pub mod map;
