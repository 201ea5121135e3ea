//! A replica that its log cannot help any more takes the newest checkpoint of its group.
//!
//! No core runs meanwhile: what it has promised and accepted is in its log, which stays as it is, and the
//! next core starts from both. One operation of the fetch is carried out at a time, in a task of its own,
//! so that whoever asks for the replica's status hears of it.

use std::cell::RefCell;
use std::rc::Rc;

use glommio::Task;
use quorate_durable::fetch::{Fetch, FetchError, Progress};
use quorate_protocol::config::ReplicaConfig;
use quorate_protocol::ids::ReplicaId;
use quorate_protocol::snapshot::Message;
use quorate_storage::store::Operation;

use crate::directory::DataDirectory;
use crate::fatal::{Fatal, end_process};
use crate::inbox::Inbox;
use crate::start::binding_of;
use crate::store::{StoreFiles, open_store};

/// A fetch and its open operation.
pub(crate) struct Rebuild {
    fetch: Fetch,
    files: Rc<StoreFiles>,
    inbox: Rc<Inbox>,
    /// An operation that was carried out.
    carried_out: Rc<RefCell<Option<Operation>>>,
    task: Option<Task<()>>,
}

impl Rebuild {
    /// Begins with what the store has. `from` is asked first.
    pub(crate) fn begin(
        directory: &DataDirectory,
        config: &ReplicaConfig,
        from: ReplicaId,
        inbox: &Rc<Inbox>,
    ) -> Result<Self, Fatal> {
        let store = open_store(directory, binding_of(config))?;
        Ok(Self {
            fetch: Fetch::new(&store, from, config.peers()),
            files: Rc::new(StoreFiles::new(directory.path().to_owned())),
            inbox: Rc::clone(inbox),
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

    /// Begins the next operation, and says what to ask whom.
    pub(crate) fn go_on(&mut self, now_ns: u64) -> Option<(ReplicaId, Message)> {
        if let Some(operation) = self.carried_out.borrow_mut().take() {
            self.fetch.finish_operation(&operation);
            self.task = None;
        }
        if let Some(operation) = self.fetch.next_operation() {
            let (files, inbox) = (Rc::clone(&self.files), Rc::clone(&self.inbox));
            let carried_out = Rc::clone(&self.carried_out);
            self.task = Some(glommio::spawn_local(async move {
                if let Err(fault) = files.carry_out(&operation).await {
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
