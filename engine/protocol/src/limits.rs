//! Every bound of the core that limits what it stores, sends or waits for, its reason, and the
//! relations between them. Bounds of one crate's own work are there (`session::OPS_MAX` of the client,
//! `ROWS_MAX` of a scenario file); delays that are no bound stand where they are used.

use crate::client::PairRow;
use crate::entry::{ENTRY_HEADER_BYTES, SECTION_HEADER_BYTES};
use crate::time::{MS, SECOND};

/// Payload of one frame, and of one log entry: 1 MiB.
pub const FRAME_PAYLOAD_MAX: usize = 1 << 20;
/// Room that a frame needs beside one whole entry (message fields, archive root, padding).
pub const FRAME_OVERHEAD_MAX: usize = 4096;
/// Bytes of one log entry, header included.
pub const ENTRY_BYTES_MAX: usize = FRAME_PAYLOAD_MAX;
/// Transfers (or accounts) per request: a full request fits one entry with its two headers.
pub const BATCH_MAX: usize = 8190;
const _: () =
    assert!(BATCH_MAX * 128 + ENTRY_HEADER_BYTES + SECTION_HEADER_BYTES <= ENTRY_BYTES_MAX);

/// Slots that a leader keeps in flight.
pub const PIPELINE_MAX: u64 = 8;
/// Slots above its own `chosen_upto` that an acceptor accepts; bounds a promise. A follower whose
/// knowledge of `chosen_upto` is a few pipelines old must not have to refuse.
pub const WINDOW_MAX: u64 = 64;
const _: () = assert!(WINDOW_MAX >= 4 * PIPELINE_MAX);
/// Bytes of chosen entries kept in memory for catch-up; older ones are read from the log.
pub const LOG_TAIL_BYTES_MAX: usize = 64 << 20;

/// Requests in flight per client connection.
pub const REQUESTS_PER_CONNECTION_MAX: usize = 64;
/// Bytes in flight per client connection.
pub const BYTES_PER_CONNECTION_MAX: usize = 16 << 20;
/// Client and peer connections per replica, by default.
pub const CONNECTIONS_MAX: usize = 4096;
/// Requests that one replica keeps open over all connections.
pub const REQUESTS_MAX: usize = 65_536;
/// Rows of all these requests together: full batches would be hundreds of millions.
pub const REQUEST_ROWS_MAX: usize = 1 << 22;
/// Bytes of admitted commands that wait for a slot; above it requests are answered `busy`.
pub const PROPOSAL_BYTES_MAX: usize = 64 << 20;
/// Messages that wait for the disk; above it new ones are lost, as on a network. All of them are
/// sent again on request. Enough for two full promises to each of four peers and the accepts between.
pub const WITHHELD_MAX: usize = 1024;
/// Heartbeat rounds remembered while nobody answers: more than a leader sends before check-quorum ends
/// it.
pub const ROUNDS_OPEN_MAX: usize = 64;
/// Rounds for reads in flight at once; further reads share the next one.
pub const READ_ROUNDS_OPEN_MAX: usize = 4;
const _: () = assert!(READ_ROUNDS_OPEN_MAX < ROUNDS_OPEN_MAX);
/// A command that has waited longer for a slot shows overload, and requests are answered `busy`: a
/// queue longer in time only makes answers come after their deadlines. A tenth of the default one,
/// and well above any flush.
pub const QUEUE_DELAY_NS_MAX: u64 = 500 * MS;
const _: () = assert!(QUEUE_DELAY_NS_MAX * 10 <= REQUEST_DEADLINE_NS);
/// Cross-shard attempts that one coordinator keeps open.
pub const ATTEMPTS_MAX: usize = 131_072;
/// Shards that tables by coordinator have places for: many more than a cluster can have, and few enough that a row of
/// the log that names another is no danger.
pub const COORDINATORS_MAX: usize = 1 << 12;
/// Requests that wait for one transfer on its way; a client that retries has one or two.
pub const JOINED_MAX: usize = 1024;
/// Locations of moved accounts that a coordinator has learnt; above it they are forgotten and learnt
/// again.
pub const LOCATIONS_MAX: usize = 1 << 20;
/// Transactions that one participant keeps in doubt before it votes `contended`.
pub const IN_DOUBT_MAX: usize = 262_144;
/// Commands that wait for an account (frozen, staged, read barrier, deferred).
pub const WAITING_MAX: usize = 131_072;
/// Accounts in one move.
pub const MOVE_ACCOUNTS_MAX: usize = 1024;
/// Moves that one source runs at once.
pub const MOVES_MAX: usize = 16;
/// Bytes of one document of a shard's catalog.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// Documents of a shard's catalog; a list of them fits a frame.
pub const DOCUMENTS_MAX: usize = 4096;
/// Bytes of all documents of a shard: every checkpoint writes them.
pub const CATALOG_BYTES_MAX: usize = 16 << 20;
/// Distinct pairs in a leader's telemetry table.
pub const TELEMETRY_PAIRS_MAX: usize = 1 << 20;
/// How long a window of telemetry lasts, unless the cluster says otherwise.
pub const TELEMETRY_WINDOW_NS: u64 = 60 * SECOND;
/// Accounts per look-up request; a reply of that many records fits one frame.
pub const LOOKUP_MAX: usize = 4096;
const _: () = assert!(LOOKUP_MAX * 144 <= FRAME_PAYLOAD_MAX);
/// Credits in one reply about transfers; the usual one has at most one per id. The wire asserts that
/// they and half of `LOOKUP_MAX` debits fit one frame.
pub const LOOKUP_CREDITS_MAX: usize = 3072;
const _: () = assert!(LOOKUP_CREDITS_MAX >= LOOKUP_MAX / 2);
/// Rows of one page of an account's history. The wire asserts that they fit one frame.
pub const HISTORY_ROWS_MAX: usize = 1024;
/// Rows that are looked at for one page, most of which may lie outside the range asked for: below a
/// millisecond in memory.
pub const HISTORY_WALK_MAX: usize = 4096;
const _: () = assert!(HISTORY_WALK_MAX >= HISTORY_ROWS_MAX);
/// Rows of one question to the store about an account's history: two reads each, and others wait behind it.
pub const CHAIN_ROWS_MAX: usize = 64;
/// Rows of one reply that are not records of 128 bytes or more. A list of accounts has 16 bytes a row; of the wider rows in
/// doubt a reply has half as many.
pub const ROWS_MAX: usize = 16_384;
/// Places of telemetry, or of accounts in memory, that one reply is about.
pub const OBSERVED_MAX: u32 = 8_192;
const _: () = assert!((OBSERVED_MAX as usize) * size_of::<PairRow>() + 4096 <= FRAME_PAYLOAD_MAX);
/// Consistent cuts that a shard follows at once.
pub const CUTS_MAX: usize = 8;

/// What the entries between two checkpoints weigh at most, unless the cluster says otherwise: bytes of the log, and
/// so of a replay. A restart replays up to two of them in some seconds.
pub const CHECKPOINT_WEIGHT: u64 = 256 << 20;
/// A leader keeps so many times that of its log for a member that is away or behind: some 20 s of full batches, which
/// it gets entry by entry when it is back. Whoever was away for longer takes a checkpoint, and then these.
pub const KEPT_FOR_MEMBERS: u64 = 8;
/// So many checkpoints may come after a part of that. A store has room for 256 times as many files.
pub const EARLY_CHECKPOINTS: u64 = 256;
/// The part is at least one in so many,
pub const EARLY_PARTS: u64 = 4;
/// and what a checkpoint writes again is at most one in so many of its bytes;
pub const REWRITTEN_PART: u64 = 8;
/// the row of an account has so many, its index included.
pub const ACCOUNT_WEIGHT: u64 = 172;
/// Accounts that stay in memory, unless the cluster says otherwise: some 600 MB.
pub const ACCOUNTS_IN_MEMORY_MAX: usize = 2 << 20;
/// Accounts that one step looks at while all of them are summed for a cut: some 200 us, if most have changed.
pub const SCAN_PLACES: usize = 1024;
/// Bytes of entries that a follower's step applies beside what else it does: 300 us, up to a millisecond if they are many. An entry
/// beyond that waits for a tick, so that what was begun before is on its way by then.
pub const APPLY_BYTES: usize = 64 << 10;
/// From one such step to the next: the rest of the time is for everybody else.
pub const SCAN_PAUSE_NS: u64 = MS / 2;
/// Transfers, and again moves, of a leader that wait for an account to come from the store.
pub const LOADS_ADMISSIONS_MAX: usize = 65_536;
/// Stubs that homes are asked about at a time.
pub const FORWARDS_MAX: usize = 1_024;
/// Accounts of which a client is told at a time where they went: 128 KiB.
pub const CHANGES_MAX: usize = 4_096;
/// Rows of one part of a checkpoint: about 100 us of work.
pub const CHECKPOINT_PART_ROWS: usize = 1024;
/// Bytes of one part of the side tables.
pub const CHECKPOINT_PART_BYTES: usize = 256 << 10;
/// Answers of the store that are kept: those to one question are all there until they are used.
pub const LOADED_MAX: usize = 65_536;
/// Transfer ids in one question to the store: all that one entry can name.
pub const LOAD_NAMES_MAX: usize = 16_384;
const _: () = assert!(2 * BATCH_MAX <= LOAD_NAMES_MAX && LOAD_NAMES_MAX <= LOADED_MAX / 2);
/// Look-ups of clients that the store is asked for at a time. The others wait unasked, so that the store
/// works for nobody who has given up.
pub const LOADS_READS_MAX: usize = 4;
/// Messages of other shards that wait for the store; above it new ones are lost, and are sent again.
pub const LOADS_PARKED_MAX: usize = 256;

/// Redirects that a client follows for one request.
pub const REDIRECTS_MAX: u32 = 4;
/// Attempts for one cross-shard transfer.
pub const TXN_ATTEMPTS_MAX: u32 = 4;
/// Rounds that a deferred debit waits before new prepares on its account are voted `contended`.
pub const WAIT_ROUNDS_MAX: u32 = 8;

/// Default deadline of a request.
pub const REQUEST_DEADLINE_NS: u64 = 5 * SECOND;
/// Longest deadline that a client may ask for.
pub const REQUEST_DEADLINE_NS_MAX: u64 = 60 * SECOND;
/// A message's clock may lie this far ahead of ours.
pub const CLOCK_AHEAD_NS_MAX: u64 = 10 * SECOND;
/// The clock that a client says it has seen may lie this far ahead: clearly less than what peers
/// accept of each other. A leader whose clock a client could push to their bound would be cut off by
/// every replica with a clock a little behind.
pub const CLIENT_AHEAD_NS_MAX: u64 = CLOCK_AHEAD_NS_MAX / 2;
/// The same inside a group: above what another shard may have brought, for the same reason.
pub const GROUP_AHEAD_NS_MAX: u64 = 2 * CLOCK_AHEAD_NS_MAX;
/// With `ids = "ulid"`: an id's own time may lie this far ahead of the entry's timestamp.
pub const ID_AHEAD_MS_MAX: u64 = 10_000;
/// Shortest time that used ids may be kept for.
pub const KEEP_NS_MIN: u64 = 30 * SECOND;

/// Longest deadline where used ids are kept for `keep_ns` (`None`: for ever), in nanoseconds. Whoever asks again until
/// then gets the answer to his first asking: what took effect is known for `keep_ns` of the log's time, which may jump
/// ahead by as much as a message's clock may, and half of the rest is for clocks that run faster.
#[must_use]
pub const fn request_deadline_ns_max(keep_ns: Option<u64>) -> u64 {
    let Some(keep_ns) = keep_ns else {
        return REQUEST_DEADLINE_NS_MAX;
    };
    let half = keep_ns.saturating_sub(GROUP_AHEAD_NS_MAX) / 2;
    // No cluster keeps ids for less than the minimum, but simulated ones do.
    if half < REQUEST_DEADLINE_NS {
        REQUEST_DEADLINE_NS
    } else if half < REQUEST_DEADLINE_NS_MAX {
        half
    } else {
        REQUEST_DEADLINE_NS_MAX
    }
}
const _: () = assert!((KEEP_NS_MIN - GROUP_AHEAD_NS_MAX) / 2 >= REQUEST_DEADLINE_NS);
/// Longest one: a century. Who wants more wants all.
pub const KEEP_NS_MAX: u64 = 100 * 365 * 86_400 * SECOND;
/// Stretches of history that are dropped one by one are so many in the time that they are kept for: the disk
/// holds so much more than has to be kept.
pub const KEEP_STRETCHES: u64 = 64;
/// How often a participant tells coordinators what is out of doubt, at least.
pub const ACKNOWLEDGE_NS_MAX: u64 = 60 * SECOND;
/// A freeze that has not become quiet by then gives up.
pub const FREEZE_NS_MAX: u64 = SECOND;
/// How long the source of a move waits for the target's vote, accounts frozen, before it gives up.
pub const VOTE_NS_MAX: u64 = 2 * SECOND;
const _: () = assert!(FREEZE_NS_MAX + VOTE_NS_MAX < REQUEST_DEADLINE_NS);
/// How long a prepare waits for an account that is being moved, before it is voted `contended`.
pub const BLOCKED_NS_MAX: u64 = 50 * MS;
const _: () = assert!(BLOCKED_NS_MAX < FREEZE_NS_MAX);
/// How long a coordinator waits for a vote before it sends `PrepareTxn` again.
pub const PREPARE_RESEND_NS: u64 = 500 * MS;
/// How long a leader waits for `Accepted` before it sends `Accept` again.
pub const ACCEPT_RESEND_NS: u64 = 250 * MS;

/// Time bounds that the configuration may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat_ns: u64,
    /// Randomised between these two, redrawn at every attempt.
    pub election_min_ns: u64,
    pub election_max_ns: u64,
    pub lease_ns: u64,
    /// How far two monotonic clocks may drift apart during one lease.
    pub drift_ns: u64,
    pub in_doubt_query_after_ns: u64,
}

/// Defaults.
pub const TIMING: Timing = Timing {
    heartbeat_ns: 50 * MS,
    election_min_ns: 500 * MS,
    election_max_ns: 1_000 * MS,
    lease_ns: 400 * MS,
    drift_ns: 20 * MS,
    in_doubt_query_after_ns: 500 * MS,
};

impl Timing {
    /// Whether the relations hold on which liveness and lease reads rest: a lease outlives several
    /// heartbeats, and nobody elects before the lease that it promised has ended.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.heartbeat_ns > 0
            && self.drift_ns < self.lease_ns
            && self.heartbeat_ns * 3 <= self.lease_ns - self.drift_ns
            && self.lease_ns <= self.election_min_ns
            && self.election_min_ns < self.election_max_ns
            && self.in_doubt_query_after_ns > 0
    }
}

const _: () = assert!(TIMING.is_sound());
