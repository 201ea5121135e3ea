//! The command line as typed, checked field by field before any server is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Each client is a thread with a connection of its own.
const CLIENTS_MAX: i64 = 1_024;
/// The sum over all accounts has to fit the peers' 64 bits.
const FUNDS_MAX: i64 = 100_000_000_000;
/// A day: nobody waits longer for a comparison.
const SECONDS_MAX: u64 = 86_400;

/// Runs the transfers of quorate-bench on other systems; see perf/compare.
///
/// Exit codes: 0 success, 2 bad usage, 4 the money is wrong, 1 else.
#[derive(Parser, Debug)]
#[command(name = "quorate-peers", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Local transfers on one PostgreSQL instance, one function call each
    PostgresLocal(LocalArguments),
    /// Transfers between two PostgreSQL instances, by two-phase commit
    PostgresTwoPhase(TwoPhaseArguments),
    /// Transfers on one etcd server, one compare-and-swap transaction each
    Etcd(EtcdArguments),
    /// Run a benchmark program and take the transfers a second that it prints
    External(ExternalArguments),
    /// Print runs as one table with the ratios of Quorate to its peers
    Table(TableArguments),
}

/// `postgres-local`.
#[derive(Args, Debug)]
pub struct LocalArguments {
    /// Connection parameters, such as "host=/run/a user=b dbname=c"; its tables are replaced
    #[arg(long, value_name = "PARAMETERS")]
    pub instance: String,
    #[command(flatten)]
    pub load: LoadArguments,
}

/// `postgres-two-phase`.
#[derive(Args, Debug)]
pub struct TwoPhaseArguments {
    /// Connection parameters of the instance of shard 1; its tables are replaced
    #[arg(long, value_name = "PARAMETERS")]
    pub first: String,
    /// Connection parameters of the instance of shard 2; its tables are replaced
    #[arg(long, value_name = "PARAMETERS")]
    pub second: String,
    #[command(flatten)]
    pub load: LoadArguments,
}

/// `etcd`.
#[derive(Args, Debug)]
pub struct EtcdArguments {
    /// Address of the server, such as 127.0.0.1:2379; it has to be empty
    #[arg(long, value_name = "HOST:PORT")]
    pub endpoint: String,
    /// The directory that the server was started with
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub load: LoadArguments,
}

/// `external`.
#[derive(Args, Debug)]
pub struct ExternalArguments {
    #[command(flatten)]
    pub destination: Destination,
    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
}

/// `table`.
#[derive(Args, Debug)]
pub struct TableArguments {
    /// Lines that runs appended
    pub file: PathBuf,
}

/// How much, how long, and where the servers must keep it.
#[derive(Args, Debug)]
pub struct LoadArguments {
    /// Connections, each with one transfer under way
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub clients: u32,
    /// Measured seconds after the warm-up
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub seconds: u64,
    /// Seconds of load before measuring
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=SECONDS_MAX))]
    pub warmup: u64,
    /// Accounts 1..=N take part
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    pub accounts: u32,
    /// Fixes accounts and amounts, as in quorate-bench
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// What every account starts with; as in quorate-bench, no account runs short of the default
    #[arg(long, value_name = "UNITS", default_value_t = 1_000_000_000, value_parser = clap::value_parser!(i64).range(0..=FUNDS_MAX))]
    pub funds: i64,
    /// A directory on the disk that every system of the comparison writes to
    #[arg(long, value_name = "DIR")]
    pub scratch: PathBuf,
    #[command(flatten)]
    pub destination: Destination,
}

/// Where the line of a run goes, and what it is called there.
#[derive(Args, Debug)]
pub struct Destination {
    /// File that the run's line of JSON is appended to
    #[arg(long, value_name = "FILE")]
    pub append: PathBuf,
    /// Commit that the line names
    #[arg(long, value_name = "HASH", default_value = "unknown")]
    pub commit: String,
}

impl LoadArguments {
    /// Time before measuring.
    #[must_use]
    pub fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    /// Measured time.
    #[must_use]
    pub fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent_and_every_option_has_help() {
        Arguments::command().debug_assert();
        for command in Arguments::command().get_subcommands() {
            for option in command.get_arguments() {
                assert!(option.get_help().is_some(), "{}", option.get_id());
            }
        }
    }

    #[test]
    fn bad_values_exit_with_2_and_name_the_field() {
        let etcd = "quorate-peers etcd --endpoint a:1 --data-dir d --scratch s --append f";
        for (options, field) in [
            ("--clients 0 --seconds 8", "--clients"),
            ("--clients 1025 --seconds 8", "--clients"),
            ("--clients 1 --seconds 0", "--seconds"),
            ("--clients 1", "--seconds"),
            ("--clients 1 --seconds 8 --accounts 1", "--accounts"),
            ("--clients 1 --seconds 8 --warmup x", "--warmup"),
            ("--clients 1 --seconds 8 --funds 100000000001", "--funds"),
        ] {
            let error = parse(&format!("{etcd} {options}")).expect_err(options);
            assert_eq!(error.exit_code(), 2, "{options}");
            assert!(error.to_string().contains(field), "{options}: {error}");
        }
        assert!(parse(&format!("{etcd} --clients 64 --seconds 8")).is_ok());
    }

    #[test]
    fn accounts_start_with_what_the_load_generator_gives_them() {
        let line = "quorate-peers postgres-local --instance i --scratch s --append f --clients 1 --seconds 1";
        let Command::PostgresLocal(local) = parse(line).expect("a run").command else {
            panic!("it is local");
        };
        assert_eq!(
            u128::try_from(local.load.funds),
            Ok(quorate_bench::setup::FUNDS)
        );
    }

    #[test]
    fn a_program_keeps_its_own_options() {
        let line = "quorate-peers external --append f -- ./bench benchmark --clients=4 --append x";
        let Command::External(external) = parse(line).expect("a program").command else {
            panic!("it is external");
        };
        let expected = ["./bench", "benchmark", "--clients=4", "--append", "x"];
        assert_eq!(external.command, expected);
        assert!(parse("quorate-peers external --append f").is_err());
    }
}
