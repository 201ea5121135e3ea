//! Multi-Paxos for one shard's group.
//!
//! [`Consensus`] is the whole of it: a state machine that knows nothing of ledger or clients. What
//! happens goes in through `on_*`, [`Consensus::propose`] and the read functions; what it wants done
//! comes out of [`Consensus::poll_effect`]; what the group decided comes out of
//! [`Consensus::next_chosen`].
//!
//! | file | idea |
//! | --- | --- |
//! | `consensus` | the state, the public functions, the order of its pointers |
//! | `log` | accepted entries in memory, and how far they are chosen and applied |
//! | `journal` | nothing that promises durability leaves before it is durable |
//! | `acceptor` | both phases from the acceptor's side, stickiness |
//! | `follower` | hearing a leader, and what its `chosen_upto` proves |
//! | `election` | pre-vote, phase 1 |
//! | `choice` | what reports on a slot allow, lost records among them |
//! | `lost` | records that were durable and cannot be read any more |
//! | `leader` | phase 2, check-quorum |
//! | `progress` | what followers are known to have, and what is sent to them at once |
//! | `heartbeat` | the leader's rounds, and reads by lease or by round |
//! | `lease` | what a round proves once a quorum has answered it |
//! | `transfer` | handing leadership over |
//! | `plausible` | messages that nobody can have sent |
//! | `rejoin` | a replica whose disk was lost, until it votes again |
//! | `catch_up` | holes: asking peers for chosen entries |
//! | `serving` | answering them, and the replay after a restart |

mod acceptor;
mod catch_up;
mod choice;
mod consensus;
mod election;
mod follower;
mod heartbeat;
mod journal;
mod leader;
mod lease;
mod log;
mod lost;
pub mod message;
mod plausible;
mod progress;
mod quorum;
mod rejoin;
mod serving;
mod transfer;

#[cfg(test)]
mod tests;

pub use self::consensus::Consensus;
pub use self::journal::Effect;
