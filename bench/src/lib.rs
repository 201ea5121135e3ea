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
pub mod output;
pub mod recorder;
pub mod report;
pub mod schedule;
pub mod select;
pub mod setup;
pub mod verify;
pub mod workload;
