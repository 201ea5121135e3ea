//! Tests of the consensus core: named stories, and random worlds under faults.

mod random;
mod stories;
mod world;
