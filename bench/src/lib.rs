//! Load generator for Quorate: workloads, measurement, reports.

#![forbid(unsafe_code)]

pub mod workload;
