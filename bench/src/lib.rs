//! Load generator for Quorate: workloads, measurement, reports.

#![forbid(unsafe_code)]

pub mod acked;
pub mod args;
pub mod audit;
pub mod backlog;
pub mod drive;
pub mod failure;
pub mod feed;
pub mod host;
pub mod recorder;
pub mod schedule;
pub mod select;
pub mod setup;
pub mod workload;
