//! A replica whose store is real bytes (its log is a list of records), killed and started again at any
//! moment, against a twin that never stops: the same answers, also to ids that are only in the store, and
//! the same balances and counts at the end. And the histories of its accounts, through memory and store.

#![forbid(unsafe_code)]

mod history;
mod machine;
mod retention;
#[path = "../support/mod.rs"]
mod support;
mod twin;
