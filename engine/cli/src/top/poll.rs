//! Asks everybody at once, again and again, and never waits for anybody for long.
//!
//! A client per replica, so that one that is paused or gone holds up nobody but itself, and connections
//! last from poll to poll. Answers are only collected here: `model` understands them.

use std::fs;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use quorate_client::reshard::record::Record;
use quorate_client::reshard::shelf;
use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_protocol::client::Status;
use quorate_protocol::ids::ReplicaAddress;

use super::sample::{Answer, Sample, parse_cores};
use crate::status::{NO_ANSWER, ask_with};

/// How long a replica may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// For a connection, and again for its handshake: both together are as long.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// Polls that wait for the screen. A terminal that stands still must not make them pile up.
const WAITING_MAX: usize = 2;

/// Who polls.
#[derive(Debug)]
pub struct Poller {
    replicas: Vec<(ReplicaAddress, BlockingClient)>,
    plans: BlockingClient,
    start: Instant,
}

impl Poller {
    /// Of the whole cluster. Connects when it polls.
    #[must_use]
    pub fn new(config: &ClusterConfig) -> Self {
        let options = ClientOptions {
            deadline: ANSWER_WITHIN,
            connect_timeout: CONNECT_WITHIN,
        };
        let connect = || BlockingClient::connect(config, options);
        Self {
            replicas: config.all_replicas().map(|it| (it, connect())).collect(),
            plans: connect(),
            start: Instant::now(),
        }
    }

    /// What the times of samples are since.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Asks everybody; takes two seconds at most.
    #[must_use]
    pub fn poll(&mut self) -> Sample {
        let start = self.start;
        let plans = &mut self.plans;
        let replicas = &mut self.replicas;
        let (answers, plan) = thread::scope(|scope| {
            let plan = scope.spawn(move || plan_of_now(plans));
            let asked: Vec<_> = replicas
                .iter_mut()
                .map(|(address, client)| {
                    scope.spawn(move || {
                        let status = ask(client, *address);
                        let at = start.elapsed();
                        Answer { at, status }
                    })
                })
                .collect();
            // A thread that panicked gave no answer.
            let silent = || Answer {
                at: start.elapsed(),
                status: Err(NO_ANSWER.to_owned()),
            };
            let answers = asked.into_iter().map(|it| it.join());
            let answers: Vec<Answer> = answers.map(|it| it.unwrap_or_else(|_| silent())).collect();
            let plan = plan.join();
            (answers, plan.unwrap_or_else(|_| Err(NO_ANSWER.to_owned())))
        });
        let cores = fs::read_to_string("/proc/stat");
        Sample {
            at: start.elapsed(),
            answers,
            plan,
            cores: cores.map(|text| parse_cores(&text)).unwrap_or_default(),
        }
    }

    /// Polls in a thread of its own until nobody takes samples any more. The thread is not waited for: it
    /// holds nothing that has to be given back, and ends with the process.
    #[must_use]
    pub fn run(mut self, interval: Duration) -> Receiver<Sample> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        thread::spawn(move || {
            let mut next = Instant::now();
            loop {
                // A sample for which there is no room is left out; rates then lie between those that are there.
                if let Err(TrySendError::Disconnected(_)) = sender.try_send(self.poll()) {
                    return;
                }
                next = (next + interval).max(Instant::now());
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        receiver
    }
}

/// What a replica says, or what keeps it from being heard.
fn ask(client: &mut BlockingClient, address: ReplicaAddress) -> Result<Status, String> {
    ask_with(client, address).map_err(|silence| {
        // Its client dials nobody else.
        let failure = client.connection_failures().into_iter().next();
        match failure.filter(|_| silence == NO_ANSWER) {
            None => silence,
            Some(failure) => {
                let reason = failure.strip_prefix(&format!("{address}: "));
                reason.unwrap_or(&failure).to_owned()
            }
        }
    })
}

fn plan_of_now(client: &mut BlockingClient) -> Result<Option<Record>, String> {
    let shelved = shelf::current(&mut client.catalog(shelf::SHARD));
    match shelved {
        Ok(shelved) => Ok(shelved.map(|shelved| shelved.record)),
        Err(shelf::ShelfError::Client(_)) => Err(format!("shard {} does not answer", shelf::SHARD)),
        Err(error) => Err(error.to_string()),
    }
}
