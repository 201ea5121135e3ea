//! Why a command ends without success, and the exit code that says so.
//!
//! The codes are part of the contract: 2 bad usage or input, 3 refused by a gate, 4 a check failed,
//! 10-19 a server's environment fault, 1 anything else. Success is 0 and nothing else is.

use std::fmt;
use std::process::ExitCode;

use crate::print::say;
use quorate_config::ConfigError;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// What the user wrote makes no sense; the message names the file, line and field, or the option.
    Usage(anyhow::Error),
    /// A gate said no: nothing was changed, and asking again changes nothing.
    Refused(String),
    /// A check ran and found something wrong. What it found was printed.
    CheckFailed(String),
    /// A server's environment fault with its own code, 10-19.
    Environment { code: u8, message: String },
    /// Anything else.
    Other(anyhow::Error),
}

/// What every command returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// Bad usage, by its message.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(anyhow::anyhow!("{message}"))
    }

    /// No leader took the request, which has changed nothing; `failures` say who was out of reach.
    pub fn nothing_done(what: impl fmt::Display, failures: &[String]) -> Self {
        let reasons = match failures {
            [] => "no replica that answered leads the shard".to_owned(),
            failures => failures.join("; "),
        };
        Self::Other(anyhow::anyhow!(
            "{what}: no leader found, nothing was done; the same id is safe to try again: {reasons}"
        ))
    }

    /// The code of the contract.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::CheckFailed(_) => 4,
            Self::Environment { code, .. } => *code,
            Self::Other(_) => 1,
        }
    }

    /// Says on stderr what happened, and gives the code to exit with.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        say(format_args!("quorate: {self}"));
        ExitCode::from(self.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The alternate form prints the whole chain of causes on one line.
            Self::Usage(error) | Self::Other(error) => write!(f, "{error:#}"),
            Self::Refused(message)
            | Self::CheckFailed(message)
            | Self::Environment { message, .. } => f.write_str(message),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}
