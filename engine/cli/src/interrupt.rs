//! Ctrl-C and SIGTERM as a flag.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

/// What a shell tells of a process that a signal has ended.
const KILLED_BY: i32 = 128;

/// The flag, set by either signal. For a command with processes of its own: it has to end them, however often it is told.
pub fn watch() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        register(signal, Arc::clone(&flag)).context("watch for signals")?;
    }
    Ok(flag)
}

/// The flag, set by the first signal, which asks for an orderly end; the second one ends the process at once. For a command that
/// leaves nothing behind that nobody would see to.
pub fn watch_once() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: one signal must not do both.
        register_conditional_shutdown(signal, KILLED_BY + signal, Arc::clone(&flag))
            .and_then(|_| register(signal, Arc::clone(&flag)))
            .context("watch for signals")?;
    }
    Ok(flag)
}
