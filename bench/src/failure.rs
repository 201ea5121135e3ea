//! How a command ends, and the exit code that tells it.

use std::fmt;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// Bad usage or bad input; the text names the file and the field. Exit code 2.
    Usage(String),
    /// The plan's gate said no. Exit code 3.
    Refused(String),
    /// A check of money or durability failed. Exit code 4.
    Check(String),
    /// Anything else. Exit code 1.
    Other(anyhow::Error),
}

impl Failure {
    /// The exit code of the contract.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::Check(_) => 4,
            Self::Other(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => write!(f, "{text}"),
            Self::Refused(text) => write!(f, "refused: {text}"),
            Self::Check(text) => write!(f, "check failed: {text}"),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
