//! A replica that its log cannot help any more, or whose store is damaged, takes the newest checkpoint of its
//! group.
//!
//! No core runs meanwhile: what it has promised and accepted is in its log, which stays as it is, and the
//! next core starts from both. One operation of the fetch is carried out at a time, in a task of its own,
//! so that whoever asks for the replica's status hears of it.

use std::cell::RefCell;
use std::rc::Rc;

use glommio::Task;
use quorate_config::ClusterConfig;
use quorate_durable::fetch::{Fetch, FetchError, Progress};
use quorate_protocol::config::ReplicaConfig;
use quorate_protocol::ids::ReplicaId;
use quorate_protocol::snapshot::Message;
use quorate_storage::store::Operation;

use crate::directory::DataDirectory;
use crate::fatal::{Fatal, end_process};
use crate::inbox::Inbox;
use crate::recover::first_slot;
use crate::room::Room;
use crate::start::binding_of;
use crate::store::{StoreFiles, open_store};
use crate::wakeup::Wakeup;

/// Why a replica rebuilds, and whom it asks first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    /// What it lacks is in nobody's log any more.
    Behind { from: ReplicaId },
    /// Its own store is not what was written.
    Damaged { from: ReplicaId },
}

/// A fetch and its open operation.
pub(crate) struct Rebuild {
    fetch: Fetch,
    files: Rc<StoreFiles>,
    inbox: Rc<Inbox>,
    room: Rc<Room>,
    /// An operation that was carried out.
    carried_out: Rc<RefCell<Option<Operation>>>,
    task: Option<Task<()>>,
}

impl Rebuild {
    /// Begins with what the store has, or with nothing of it.
    pub(crate) fn begin(
        directory: &DataDirectory,
        (cluster, config): (&ClusterConfig, &ReplicaConfig),
        why: Why,
        (inbox, room): (&Rc<Inbox>, &Rc<Room>),
    ) -> Result<Self, Fatal> {
        let fetch = match why {
            Why::Behind { from } => {
                let store = open_store(directory, binding_of(config))?;
                Fetch::new(&store, from, config.peers())
            }
            Why::Damaged { from } => {
                let first = first_slot(directory, cluster, config.address)?;
                let least = first.0.saturating_sub(1);
                Fetch::afresh(binding_of(config), least, from, config.peers())
            }
        };
        Ok(Self {
            fetch,
            files: Rc::new(StoreFiles::new(directory.path().to_owned())),
            inbox: Rc::clone(inbox),
            room: Rc::clone(room),
            carried_out: Rc::default(),
            task: None,
        })
    }

    /// A replica of the group said something.
    pub(crate) fn on_message(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        message: &Message,
    ) -> Result<(), FetchError> {
        self.fetch.on_message(now_ns, from, message)
    }

    /// Begins the next operation, and says what to ask whom, until there is nothing more to ask for now.
    pub(crate) fn go_on(&mut self, now_ns: u64) -> Option<(ReplicaId, Message)> {
        if let Some(operation) = self.carried_out.borrow_mut().take() {
            self.fetch.finish_operation(&operation);
            self.task = None;
        }
        if let Some(operation) = self.fetch.next_operation() {
            let (files, inbox) = (Rc::clone(&self.files), Rc::clone(&self.inbox));
            let (carried_out, room) = (Rc::clone(&self.carried_out), Rc::clone(&self.room));
            self.task = Some(glommio::spawn_local(async move {
                // Whoever stops drops the task.
                let never = Wakeup::default();
                let outcome = files.carry_out_with_room(&operation, (&room, &never));
                if let Err(fault) = outcome.await {
                    end_process(&fault);
                }
                *carried_out.borrow_mut() = Some(operation);
                inbox.nudge();
            }));
        }
        self.fetch.next_question(now_ns)
    }

    /// When to go on, if nothing happens before.
    pub(crate) fn deadline_ns(&self) -> u64 {
        self.fetch.deadline_ns()
    }

    /// Whether the checkpoint is published.
    pub(crate) fn is_done(&self) -> bool {
        self.fetch.is_done()
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        self.fetch.progress()
    }
}
