//! Commands to an executor from outside: one byte each over a socket pair, so that the executor waits
//! for them like for any other socket and no atomic is polled. A closed pair means stop.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use quorate_net::Stream;

/// What an executor can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Drop messages from and to peers.
    Isolate,
    /// Stop dropping them.
    Heal,
    /// End cleanly.
    Stop,
}

impl Command {
    fn to_byte(self) -> u8 {
        match self {
            Self::Isolate => b'i',
            Self::Heal => b'h',
            Self::Stop => b's',
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            b'i' => Self::Isolate,
            b'h' => Self::Heal,
            _ => Self::Stop,
        }
    }
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Controller(UnixStream);

impl Controller {
    /// Both ends; the second goes to the executor.
    pub(crate) fn pair() -> io::Result<(Self, UnixStream)> {
        let (here, there) = UnixStream::pair()?;
        Ok((Self(here), there))
    }

    /// Sends a command. An executor that is gone needs none.
    pub(crate) fn send(&self, command: Command) {
        if let Err(error) = (&self.0).write_all(&[command.to_byte()]) {
            tracing::debug!(?command, "executor is gone: {error}");
        }
    }
}

/// The next command; a closed or broken pair reads as `Stop`.
pub(crate) async fn next_command(commands: &Stream) -> Command {
    let mut byte = [0];
    match commands.read(&mut byte).await {
        Ok(1..) => Command::from_byte(byte[0]),
        Ok(0) | Err(_) => Command::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_survives_its_byte() {
        for command in [Command::Isolate, Command::Heal, Command::Stop] {
            assert_eq!(Command::from_byte(command.to_byte()), command);
        }
    }
}
