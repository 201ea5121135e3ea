//! What an executor is given by the thread that starts it.

use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use glommio::{Task, spawn_local};
use quorate_config::ClusterConfig;
use quorate_net::{Sockets, Stream};
use quorate_protocol::config::ReplicaConfig;

use crate::acceptor::{Acceptor, Bell};
use crate::directory::DataDirectory;
use crate::fatal::Fatal;
use crate::metrics::{self, Page, Published};
use crate::pair_counter::{Answers, PairCounter};

/// What an executor is given by the thread that starts it.
pub(crate) struct Setup {
    pub(crate) cluster: ClusterConfig,
    pub(crate) config: ReplicaConfig,
    /// Locked and identified, or why not.
    pub(crate) directory: Result<DataDirectory, Fatal>,
    pub(crate) entrances: Entrances,
    pub(crate) counter: PairCounter,
    /// Where its figures go.
    pub(crate) published: Arc<Published>,
    /// Of one executor of a node: it answers who asks for the figures of all.
    pub(crate) watch: Option<Watch>,
    /// Told once, when the replica listens: whether it runs or is parked.
    pub(crate) report: mpsc::Sender<Result<(), Fatal>>,
    /// Dropped when the replica has ended.
    pub(crate) running: mpsc::Sender<Infallible>,
}

/// How the outside reaches an executor.
pub(crate) struct Entrances {
    /// New connections, and what tells of them.
    pub(crate) acceptor: Acceptor,
    pub(crate) bell: Bell,
    pub(crate) commands: UnixStream,
    /// What the counter of pairs answers to clients, and what tells of it.
    pub(crate) answers: Answers,
    pub(crate) answered: Bell,
}

/// The administration port of a node.
pub(crate) struct Watch {
    pub(crate) acceptor: Acceptor,
    pub(crate) bell: Bell,
    pub(crate) page: Page,
}

/// Answers before the replica has recovered, too: that it is not ready is worth knowing.
pub(crate) fn watch_over(watch: Watch, sockets: &Rc<Sockets>) -> Option<Task<()>> {
    let Watch {
        acceptor,
        bell,
        page,
    } = watch;
    match Stream::new(sockets, bell.0) {
        Ok(bell) => {
            let serving = metrics::serve(acceptor, bell, Rc::clone(sockets), page);
            Some(spawn_local(serving))
        }
        Err(error) => {
            tracing::error!("no metrics: {error}");
            None
        }
    }
}
