//! Load generator for Quorate: workloads, measurement, reports.
//!
//! ```text
//! args --> select --> setup --> generator --> drive --> recorder --> report --> html
//!                                               |  ^
//!                              the cluster <-- link  +-- feed, schedule
//! ```
//! The parts that decide something are pure or run over a small trait, so that they are tested
//! without a cluster; `link` is the only module that talks to one.

#![forbid(unsafe_code)]

pub mod acked;
pub mod args;
pub mod audit;
pub mod backlog;
pub mod balance;
pub mod command;
pub mod compare;
pub mod cpu;
pub mod cross_cost;
pub mod drive;
pub mod failure;
pub mod feed;
pub mod figures;
pub mod files;
pub mod first_touch;
pub mod generator;
pub mod hlog;
pub mod host;
pub mod html;
pub mod link;
pub mod locality;
pub mod locality_report;
pub mod output;
pub mod payback;
pub mod reads;
pub mod recorder;
pub mod report;
pub mod reshard_report;
pub mod run;
pub mod saturate;
pub mod schedule;
pub mod select;
pub mod setup;
pub mod verify;
pub mod workload;
