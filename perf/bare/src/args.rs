//! The command line as typed, checked before anything is started.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, Parser, Subcommand, value_parser};

use crate::frame::{COUNT_MAX, RECORD_BYTES};
use crate::group::GROUP_BYTES_MAX;
use crate::ring::BLOCK_BYTES;
use crate::serve::CONNECTIONS_MAX;

/// Most bytes that a generator has in flight: its own memory holds them twice.
const FLIGHT_BYTES_MAX: usize = 1 << 30;
/// A segment has room for every group.
const SEGMENT_MIB_MIN: i64 = 8;
const _: () = assert!(GROUP_BYTES_MAX == 8 << 20);

/// The bare program that Quorate's figures are compared with: no consensus, no ledger.
#[derive(Parser, Debug)]
#[command(name = "bare", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Write every frame durably, a group at a time, and answer it; until the process is ended
    Serve(ServeArguments),
    /// Keep a server busy, each client with one frame in flight, and measure
    Load(LoadArguments),
    /// Measure one flush and one TCP round trip by themselves
    Floor(FloorArguments),
}

/// `serve`.
#[derive(Args, Debug)]
pub struct ServeArguments {
    /// Directory of the log; it is filled with zeros first, and must be on a disk (no tmpfs)
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Port on the loopback interface; 0 for a free one, which the first line on stdout tells
    #[arg(long, value_name = "PORT")]
    pub port: u16,
    /// CPU of the executor
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub cpu: usize,
    /// Files of the log, used in turn
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u8).range(1..=64))]
    pub segments: u8,
    /// Size of each
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = value_parser!(u16).range(SEGMENT_MIB_MIN..=1024))]
    pub segment_mib: u16,
}

/// `load`.
#[derive(Args, Debug)]
pub struct LoadArguments {
    #[arg(long, value_name = "HOST:PORT")]
    pub address: SocketAddr,
    /// Clients, each with one frame in flight
    #[arg(long, value_name = "C")]
    pub clients: usize,
    /// Connections that they share
    #[arg(long, value_name = "K")]
    pub connections: usize,
    /// Records of 128 bytes in each frame
    #[arg(long, value_name = "B", value_parser = value_parser!(u32).range(1..=i64::from(COUNT_MAX)))]
    pub batch: u32,
    /// Measured seconds after the warm-up
    #[arg(long, value_name = "S", value_parser = value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Seconds before anything is counted
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = value_parser!(u64).range(0..=3_600))]
    pub warmup: u64,
    /// Write the result to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// CPU of the generator's only thread
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub cpu: usize,
    /// Process whose CPU time per record is told: the server, on this machine
    #[arg(long, value_name = "PID", value_parser = value_parser!(u32).range(1..))]
    pub serve_pid: Option<u32>,
}

/// `floor`.
#[derive(Args, Debug)]
pub struct FloorArguments {
    /// Directory of the file that is written; it must be on a disk (no tmpfs)
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Seconds in all
    #[arg(long, value_name = "S", default_value_t = 6, value_parser = value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Measure a flush of this many bytes, too
    #[arg(long, value_name = "N")]
    pub bytes: Option<usize>,
    /// Write the result to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// CPU of the executor that flushes and waits for the round trip
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub cpu: usize,
    /// CPU of the other end of the round trip between cores
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub other_cpu: usize,
}

impl LoadArguments {
    /// What clap does not check: values that make no sense together.
    ///
    /// # Errors
    /// Says which.
    pub fn check(&self) -> anyhow::Result<()> {
        let (clients, connections) = (self.clients, self.connections);
        ensure!(
            (1..=CONNECTIONS_MAX).contains(&connections),
            "--connections {connections} is not in 1..={CONNECTIONS_MAX}"
        );
        ensure!(
            clients >= connections,
            "--clients {clients} is less than --connections {connections}: some would be idle"
        );
        let frame = RECORD_BYTES * usize::try_from(self.batch)?;
        ensure!(
            clients <= FLIGHT_BYTES_MAX / frame,
            "{clients} clients with {frame} bytes in flight each are more than {FLIGHT_BYTES_MAX} bytes"
        );
        Ok(())
    }
}

impl FloorArguments {
    /// What clap does not check.
    ///
    /// # Errors
    /// Says what.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(bytes) = self.bytes {
            ensure!(
                bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES) && bytes <= GROUP_BYTES_MAX,
                "--bytes {bytes} is not a multiple of {BLOCK_BYTES} up to {GROUP_BYTES_MAX}"
            );
        }
        ensure!(
            self.cpu != self.other_cpu,
            "--cpu and --other-cpu are both {}",
            self.cpu
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    /// Why `load` with these options is refused; `None` if it is not.
    fn problem_of_load(options: &str) -> Option<String> {
        let line = format!("bare load --address 127.0.0.1:1 --seconds 1 {options}");
        match parsed(&line).map(|arguments| arguments.command) {
            Ok(Command::Load(load)) => load.check().err().map(|error| error.to_string()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Some(error.to_string()),
        }
    }

    fn problem_of_floor(options: &str) -> Option<String> {
        match parsed(&format!("bare floor --dir d {options}")).map(|parsed| parsed.command) {
            Ok(Command::Floor(floor)) => floor.check().err().map(|error| error.to_string()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Some(error.to_string()),
        }
    }

    #[test]
    fn a_load_has_a_client_for_every_connection_and_a_batch_within_its_bound() {
        let good =
            ["1", "8190"].map(|batch| format!("--clients 4 --connections 4 --batch {batch}"));
        for options in good {
            assert_eq!(problem_of_load(&options), None);
        }
        for (options, expected) in [
            ("--clients 4 --connections 4 --batch 0", "1..=8190"),
            ("--clients 4 --connections 4 --batch 8191", "1..=8190"),
            (
                "--clients 3 --connections 4 --batch 1",
                "some would be idle",
            ),
            ("--clients 3 --connections 0 --batch 1", "not in 1..="),
            ("--clients 9999 --connections 9999 --batch 1", "not in 1..="),
            (
                "--clients 1025 --connections 1 --batch 8190",
                "bytes in flight",
            ),
        ] {
            let problem = problem_of_load(options).unwrap_or_default();
            assert!(problem.contains(expected), "{options}: {problem}");
        }
    }

    #[test]
    fn a_flush_is_whole_blocks_and_the_two_cpus_differ() {
        assert_eq!(problem_of_floor(""), None);
        assert_eq!(problem_of_floor("--bytes 1048576"), None);
        for options in ["--bytes 0", "--bytes 5000", "--bytes 16777216"] {
            let problem = problem_of_floor(options).unwrap_or_default();
            assert!(problem.contains("not a multiple"), "{options}: {problem}");
        }
        let problem = problem_of_floor("--cpu 1 --other-cpu 1").unwrap_or_default();
        assert!(problem.contains("both 1"), "{problem}");
    }

    #[test]
    fn a_segment_has_room_for_a_group() {
        assert!(parsed("bare serve --dir d --port 1 --segment-mib 7").is_err());
        assert!(parsed("bare serve --dir d --port 1 --segment-mib 8 --segments 1").is_ok());
    }
}
