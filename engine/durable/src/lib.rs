//! Between the core's rows and storage's bytes: what every shell of a replica does alike.
//!
//! The core knows rows and slots, storage knows blocks and files, and neither knows the other. A shell
//! carries bytes between them and a disk. What is left in the middle is the same for all shells, so it is
//! here, without IO: the runtime and the simulator differ only in how an operation is carried out.
//!
//! | file | idea |
//! | --- | --- |
//! | `log` | records and entries as the log's records, and back |
//! | `keeper` | the parts of a checkpoint into the store |
//! | `question` | a question about transfer ids, accounts or an account's history through the store |
//! | `accounts` | rows of accounts by id |
//! | `listing` | which accounts the store holds |
//! | `chain` | the history of one account through the store |
//! | `restore` | a checkpoint back into a ledger |
//! | `sweep` | rows of many accounts in one pass |
//! | `fetch` | another replica's newest checkpoint into the store |
//! | `serve` | what another one asks for that |
//! | `repair` | one damaged block from another replica |
//! | `scrub` | one round over all blocks, to find damaged ones |
//! | `room` | how much room on the disk counts as what |
//! | `offline` | one account of a store that nobody runs on |

#![forbid(unsafe_code)]

pub mod accounts;
pub mod chain;
pub mod fetch;
pub mod keeper;
pub mod listing;
pub mod log;
pub mod offline;
pub mod question;
pub mod repair;
pub mod restore;
pub mod room;
pub mod scrub;
pub mod serve;
pub mod sweep;
