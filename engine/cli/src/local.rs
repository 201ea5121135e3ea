//! Nodes of this host that end with the command that started them.
//!
//! `demo` and `scenario run` start processes that nobody else knows of. Whatever happens to the command,
//! Ctrl-C, SIGTERM and errors included, none of them stays.

use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use quorate_config::{ClusterConfig, NodeConfig};
use rustix::process::Signal;

use crate::cluster::stop::end;
use crate::failure::Failure;
use crate::print::say;

/// Clean ends are a matter of a flush; then SIGKILL.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Why a command ended that was told to.
#[must_use]
pub fn interruption() -> Failure {
    anyhow!("interrupted; everything was stopped").into()
}

/// Ends the nodes when it goes out of scope, however that happens.
#[derive(Debug)]
pub struct Guarded<'a> {
    config: &'a ClusterConfig,
}

impl<'a> Guarded<'a> {
    /// Guards nodes that will be started, or are.
    #[must_use]
    pub fn new(config: &'a ClusterConfig) -> Self {
        Self { config }
    }

    /// Ends them in order.
    pub fn stop(&self) -> Result<(), Failure> {
        self.end(Signal::TERM)
    }

    fn end(&self, signal: Signal) -> Result<(), Failure> {
        let nodes: Vec<&NodeConfig> = self.config.nodes().collect();
        end(self.config, &nodes, signal, STOP_WITHIN).map(|_| ())
    }
}

impl Drop for Guarded<'_> {
    fn drop(&mut self) {
        // After a clean stop nothing is left to end.
        if let Err(failure) = self.end(Signal::KILL) {
            say(format_args!("quorate: {failure}"));
        }
    }
}

/// Waits for children in the background, so that none stays a zombie.
pub fn reap(children: impl Iterator<Item = Child>) {
    for mut child in children {
        // The thread ends with its child; a command that ends first takes it along.
        thread::spawn(move || child.wait());
    }
}
