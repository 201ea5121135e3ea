//! What a service manager is told (sd_notify(3)): that the node is up, that it is alive, that it stops.
//!
//! It is alive while no replica hangs (`/health`). Where nobody listens ($NOTIFY_SOCKET is not set) nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::metrics::Page;

/// Where no watchdog waits. The node's thread has nothing else to do.
const IDLE: Duration = Duration::from_secs(3_600);

pub(crate) struct Manager {
    /// Without a sign of life for so long the manager ends the process.
    watchdog: Option<Duration>,
}

impl Manager {
    pub(crate) fn find() -> Self {
        let mut microseconds = 0;
        let is_watched = sd_notify::watchdog_enabled(false, &mut microseconds);
        Self {
            watchdog: is_watched.then(|| Duration::from_micros(microseconds)),
        }
    }

    /// How often [`Self::tell_alive`] is to be called: twice in the time that is allowed, as sd_watchdog_enabled(3) says.
    pub(crate) fn interval(&self) -> Duration {
        self.watchdog.map_or(IDLE, |watchdog| watchdog / 2)
    }

    pub(crate) fn tell_ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Silent if a replica hangs, so that the manager starts the process anew.
    pub(crate) fn tell_alive(&self, page: &Page) {
        if self.watchdog.is_none() {
            return;
        }
        match page.health() {
            (true, _) => tell(&[NotifyState::Watchdog]),
            (false, document) => tracing::error!("no sign of life to the manager: {document}"),
        }
    }

    pub(crate) fn tell_stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!("the service manager is not told: {error}");
    }
}
