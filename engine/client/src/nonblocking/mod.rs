//! The transport for high load: any number of calls at once on one glommio executor.
//!
//! All calls share one [`Session`] and one connection per replica. What one turn of the executor has
//! to say to a replica leaves in one write; what one read brings is taken as a whole. A client
//! belongs to the executor that made it.
//!
//! ```text
//! call --> submit --> turn --> outgoing buffer per replica --> link (writes, reads) --> on_reply --> turn --> call
//! ```

mod link;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::Task;
use glommio::timer::Timer;
use quorate_config::ClusterConfig;
use quorate_net::Sockets;
use quorate_protocol::client::{AccountAnswer, Reply, ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, ClusterId, ReplicaAddress, ShardId, TransferId};
use quorate_protocol::ledger::{Account, Transfer};
use quorate_protocol::words::Rows;

use self::link::Link;
use crate::blocking::ClientOptions;
use crate::error::{ClientError, DialError, Target};
use crate::handshake::Greeting;
use crate::session::{Cause, Completed, OpId, Outcome, Router, Session, Work};
use crate::topology::Topology;
use crate::ulid::{UlidGenerator, os_random};

/// A client of one cluster, for the executor that made it. Dropping it ends its connections and
/// abandons its calls.
#[derive(Debug)]
pub struct AsyncClient {
    shared: Rc<Shared>,
    ids: RefCell<UlidGenerator>,
    /// The ticker and one link per replica.
    tasks: Vec<Task<()>>,
}

/// What calls, links and the ticker share. No borrow is held across an await or a spawn.
#[derive(Debug)]
struct Shared {
    greeting: Greeting,
    addresses: BTreeMap<ReplicaAddress, SocketAddr>,
    options: ClientOptions,
    sockets: Rc<Sockets>,
    start: Instant,
    state: RefCell<State>,
    alarm: Alarm,
}

#[derive(Debug)]
struct State {
    session: Session,
    links: BTreeMap<ReplicaAddress, Link>,
    waiters: BTreeMap<OpId, Waiter>,
}

#[derive(Debug, Default)]
struct Waiter {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// Tells the ticker that the session wants a tick earlier than it thinks.
#[derive(Debug, Default)]
struct Alarm {
    /// When the ticker wakes up by itself.
    planned_ns: Cell<u64>,
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl AsyncClient {
    /// A client of the configured cluster, with connections among the `sockets` of its executor. Connects when
    /// a call needs it.
    ///
    /// # Panics
    /// Outside a glommio executor.
    #[must_use]
    pub fn connect(
        config: &ClusterConfig,
        mut options: ClientOptions,
        sockets: &Rc<Sockets>,
    ) -> Self {
        options.deadline = options.deadline.min(config.request_deadline_max());
        let shared = Rc::new(Shared {
            greeting: Greeting::of(config),
            addresses: config
                .all_replicas()
                .map(|replica| (replica, config.address_of(replica)))
                .collect(),
            options,
            sockets: Rc::clone(sockets),
            start: Instant::now(),
            state: RefCell::new(State {
                session: Session::new(Router::new(Topology::of(config), os_random())),
                links: config
                    .all_replicas()
                    .map(|replica| (replica, Link::default()))
                    .collect(),
                waiters: BTreeMap::new(),
            }),
            alarm: Alarm::default(),
        });
        let links = config
            .all_replicas()
            .map(|replica| glommio::spawn_local(link::run(Rc::clone(&shared), replica)));
        let mut tasks: Vec<Task<()>> = links.collect();
        tasks.push(glommio::spawn_local(tick_for_ever(Rc::clone(&shared))));
        Self {
            shared,
            ids: RefCell::new(UlidGenerator::new()),
            tasks,
        }
    }

    /// A new transfer id.
    #[must_use]
    pub fn new_transfer_id(&self) -> TransferId {
        self.ids.borrow_mut().next_transfer_id()
    }

    /// Where the account lives as far as the answers so far tell.
    #[must_use]
    pub fn shard_of(&self, account: AccountId) -> ShardId {
        let state = self.shared.state.borrow();
        state.session.router().shard_of(account)
    }

    /// This client's clock, the one of `PartResult`: nanoseconds since it was made.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.shared.now_ns()
    }

    /// Creates accounts; one result per row, in their order.
    pub async fn create_accounts(&self, rows: Rows<Account>) -> Result<Completed, ClientError> {
        let outcome = self.call(Work::CreateAccounts(rows)).await;
        self.completed("create_accounts", outcome)
    }

    /// Carries out transfers; one result per row, in their order. A transfer whose result is unknown
    /// may be sent again under its id.
    pub async fn create_transfers(&self, rows: Rows<Transfer>) -> Result<Completed, ClientError> {
        let outcome = self.call(Work::CreateTransfers(rows)).await;
        self.completed("create_transfers", outcome)
    }

    /// Reads accounts wherever they are; one answer per id, in their order.
    pub async fn lookup_accounts(
        &self,
        ids: Rows<AccountId>,
    ) -> Result<Vec<AccountAnswer>, ClientError> {
        match self.call(Work::LookupAccounts(ids)).await {
            Outcome::Accounts(answers) => Ok(answers),
            other => Err(self.error(Target::Cluster, "lookup_accounts", other)),
        }
    }

    /// Asks the leader of a shard, again and again until the deadline: only for requests that may be
    /// carried out twice.
    ///
    /// # Panics
    /// If the cluster does not have the shard.
    pub async fn shard_request(
        &self,
        shard: ShardId,
        body: RequestBody,
    ) -> Result<ReplyBody, ClientError> {
        match self.call(Work::Shard(shard, body)).await {
            Outcome::Reply(reply) => Ok(reply),
            other => Err(self.error(Target::Shard(shard), "a request", other)),
        }
    }

    /// Asks exactly this replica, once; any reply is returned.
    ///
    /// # Panics
    /// If the cluster does not have the replica.
    pub async fn replica_request(
        &self,
        replica: ReplicaAddress,
        body: RequestBody,
    ) -> Result<ReplyBody, ClientError> {
        match self.call(Work::Replica(replica, body)).await {
            Outcome::Reply(reply) => Ok(reply),
            other => Err(self.error(Target::Replica(replica), "a request", other)),
        }
    }

    /// Ends all connections and waits until nothing of this client runs any more.
    pub async fn close(mut self) {
        for task in self.tasks.drain(..) {
            task.cancel().await;
        }
    }

    async fn call(&self, work: Work) -> Outcome {
        let patience_ns = u64::try_from(self.shared.options.deadline.as_nanos());
        let deadline_ns = self
            .shared
            .now_ns()
            .saturating_add(patience_ns.unwrap_or(u64::MAX));
        let id = {
            let mut state = self.shared.state.borrow_mut();
            if state.session.is_full() {
                return Outcome::NoAnswer(Cause::Busy);
            }
            let id = state.session.submit(work, deadline_ns);
            state.waiters.insert(id, Waiter::default());
            id
        };
        let waiting = Waiting {
            shared: &self.shared,
            id,
        };
        self.shared.turn();
        poll_fn(|context| waiting.poll(context.waker())).await
    }

    fn completed(&self, request: &'static str, outcome: Outcome) -> Result<Completed, ClientError> {
        match outcome {
            Outcome::Results(completed) => Ok(completed),
            other => Err(self.error(Target::Cluster, request, other)),
        }
    }

    fn error(&self, target: Target, request: &'static str, outcome: Outcome) -> ClientError {
        let state = self.shared.state.borrow();
        let failures = state.links.iter().filter_map(|(&replica, link)| {
            let error = link.dial_error().filter(|_| target.includes(replica))?;
            Some(error)
        });
        ClientError::of(target, request, outcome, failures)
    }
}

impl Drop for AsyncClient {
    fn drop(&mut self) {
        // The tasks own the shared part and would keep it alive for ever.
        self.tasks.clear();
    }
}

/// A call that waits; dropping it abandons the outcome.
struct Waiting<'a> {
    shared: &'a Shared,
    id: OpId,
}

impl Waiting<'_> {
    fn poll(&self, waker: &Waker) -> Poll<Outcome> {
        let mut state = self.shared.state.borrow_mut();
        let waiter = state.waiters.get_mut(&self.id);
        let waiter = waiter.expect("only dropping this removes it");
        match waiter.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                waiter.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.state.borrow_mut().waiters.remove(&self.id);
    }
}

impl Shared {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run lasts less than 584 years")
    }

    /// Everything that can be done now: due ticks, requests into buffers, outcomes to calls.
    fn turn(&self) {
        let wake = {
            let mut state = self.state.borrow_mut();
            let wake = state.turn(self.greeting.cluster, self.now_ns());
            self.alarm.ring_before(state.session.next_wakeup_ns());
            wake
        };
        for waker in wake {
            waker.wake();
        }
    }

    fn with_link<T>(&self, replica: ReplicaAddress, use_it: impl FnOnce(&mut Link) -> T) -> T {
        let mut state = self.state.borrow_mut();
        use_it(
            state
                .links
                .get_mut(&replica)
                .expect("every replica has one"),
        )
    }

    fn on_reply(&self, from: ReplicaAddress, reply: Reply) {
        let now_ns = self.now_ns();
        self.state
            .borrow_mut()
            .session
            .on_reply(from, reply, now_ns);
    }

    fn on_dial_failed(&self, replica: ReplicaAddress, error: DialError) {
        let now_ns = self.now_ns();
        {
            let mut state = self.state.borrow_mut();
            let link = state
                .links
                .get_mut(&replica)
                .expect("every replica has one");
            link.failed(error, now_ns);
            state.dial_failed(replica, now_ns);
        }
        self.turn();
    }

    fn on_disconnected(&self, replica: ReplicaAddress) {
        let now_ns = self.now_ns();
        {
            let mut state = self.state.borrow_mut();
            let link = state
                .links
                .get_mut(&replica)
                .expect("every replica has one");
            link.closed();
            state.session.on_disconnected(replica, now_ns);
        }
        self.turn();
    }
}

impl State {
    /// Returns whom to wake once nothing is borrowed any more.
    /// The newest attempt to connect has failed, for now or for good.
    fn dial_failed(&mut self, replica: ReplicaAddress, now_ns: u64) {
        let error = self.links.get(&replica).and_then(Link::dial_error);
        match error.filter(|error| error.is_final()) {
            Some(error) => self.session.on_refused(replica, &error.to_string()),
            None => self.session.on_dial_failed(replica, now_ns),
        }
    }

    fn turn(&mut self, cluster: ClusterId, now_ns: u64) -> Vec<Waker> {
        let mut wake = Vec::new();
        self.session.tick(now_ns);
        while let Some(outgoing) = self.session.poll_send(now_ns) {
            let to = outgoing.to;
            let link = self.links.get_mut(&to).expect("every replica has one");
            if link.is_barred(now_ns) {
                self.dial_failed(to, now_ns);
                continue;
            }
            match link.queue(cluster, &outgoing.request) {
                Ok(waker) => wake.extend(waker),
                Err(error) => {
                    let reason = error.to_string();
                    self.session.on_unsendable(outgoing.request.id, reason);
                }
            }
        }
        while let Some((id, outcome)) = self.session.poll_done() {
            if let Some(waiter) = self.waiters.get_mut(&id) {
                waiter.outcome = Some(outcome);
                wake.extend(waiter.waker.take());
            }
        }
        wake
    }
}

impl Alarm {
    fn ring_before(&self, wakeup_ns: u64) {
        if wakeup_ns < self.planned_ns.get() {
            self.rung.set(true);
            let waker = self.waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    async fn rung(&self) {
        poll_fn(|context| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Gives the session its ticks, for as long as the client lives.
async fn tick_for_ever(shared: Rc<Shared>) {
    loop {
        let wakeup_ns = shared.state.borrow().session.next_wakeup_ns();
        shared.alarm.planned_ns.set(wakeup_ns);
        if wakeup_ns == u64::MAX {
            shared.alarm.rung().await;
        } else {
            let wait = Duration::from_nanos(wakeup_ns.saturating_sub(shared.now_ns()));
            let due = async {
                Timer::new(wait).await;
            };
            future::or(shared.alarm.rung(), due).await;
        }
        shared.turn();
    }
}
