//! Bounds of the shell, beside those of the protocol.

use std::time::Duration;

use quorate_protocol::limits::{
    BYTES_PER_CONNECTION_MAX, FRAME_OVERHEAD_MAX, FRAME_PAYLOAD_MAX, PIPELINE_MAX,
};

/// Inputs that wait for the core, per kind of sender. Above it their readers wait, and so TCP does.
pub(crate) const INBOX_INPUTS_MAX: usize = 8192;
/// Bytes of those. One connection's whole allowance fits.
pub(crate) const INBOX_BYTES_MAX: usize = 64 << 20;
const _: () = assert!(INBOX_BYTES_MAX >= BYTES_PER_CONNECTION_MAX);

/// Time that the core runs before other tasks of its executor, and sockets and files, get their turn.
pub(crate) const SLICE: Duration = Duration::from_micros(200);
/// Steps between two looks at the clock. A step takes between 1 and 100 microseconds, and up to some milliseconds where
/// it applies a full entry, counts for a cut or lets many accounts go.
pub(crate) const STEPS_PER_CLOCK_READING: usize = 8;

/// Bytes that wait for one peer's socket. Above it messages to that peer are dropped, which the
/// protocol allows; it holds a leader's whole pipeline, and twice as much for one that catches up.
pub(crate) const PEER_BYTES_MAX: usize = 32 << 20;
const _: () = assert!(PEER_BYTES_MAX >= 24 * (FRAME_PAYLOAD_MAX + FRAME_OVERHEAD_MAX));
const _: () = assert!(PIPELINE_MAX <= 8);
/// Memory that a buffer towards a peer of the own group keeps when it is empty: what a loaded leader sends in a turn.
pub(crate) const PEER_BYTES_KEPT: usize = 4 << 20;
const _: () = assert!(PEER_BYTES_KEPT >= FRAME_PAYLOAD_MAX + FRAME_OVERHEAD_MAX);
/// A run of records in a message is sent from where it is if it has as many bytes: what copying it costs is more than a
/// piece of a write.
pub(crate) const RUN_BYTES_MIN: usize = 64 << 10;
/// What a buffer towards replicas of other shards keeps, of whom there may be hundreds.
pub(crate) const OTHER_SHARD_BYTES_KEPT: usize = 512 << 10;
/// The same towards a client, of whom there may be thousands: the results of a full batch.
pub(crate) const CLIENT_BYTES_KEPT: usize = 256 << 10;
/// Bytes of replies that wait for a client's socket before no more of its requests are read.
pub(crate) const REPLY_BYTES_HIGH: usize = 4 << 20;

/// Connections in the middle of their handshake. Above it the oldest makes room for the next: whoever knows what to say takes two round
/// trips, and those who hold places are never older than this many newcomers.
pub(crate) const HANDSHAKES_MAX: usize = 512;
/// Connections of one peer. It dials again while its old connection is not known to be dead; above it the oldest ends.
pub(crate) const CONNECTIONS_PER_PEER_MAX: usize = 2;

/// Accepted connections that wait for the executor. Above it the accepting thread waits, and the kernel's
/// backlog holds the rest. One turn takes them all.
pub(crate) const HANDED_MAX: usize = 64;
/// Pause of the accepting thread after a failure: typically no descriptor is free.
pub(crate) const ACCEPT_PAUSE_NS: i64 = 50_000_000;

/// Runs of pairs, and questions about them, that wait for the thread that counts. A run is 64 KiB, so these are 4 MiB at most;
/// what comes on top is left out.
pub(crate) const COUNTINGS_MAX: usize = 64;
/// Its answers, of half a MiB at most, that wait for the executor. Above it the thread waits.
pub(crate) const ANSWERS_MAX: usize = 16;

/// First pause after a failed connection to a peer; doubled up to the longest.
pub(crate) const RECONNECT_MIN: Duration = Duration::from_millis(20);
pub(crate) const RECONNECT_MAX: Duration = Duration::from_millis(500);
/// How long what was sent to a peer may stay unacknowledged by its kernel, which also answers for a process that is paused: longer, and
/// the link is broken. Beyond a few lost packets, and below the time in which clients expect their answers.
pub(crate) const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(2);
/// How long a connection attempt may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time to answer what is decided, and again to write the end of the log, when the process is to stop.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// Time that an executor has to end, after which the process ends without it.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(10);
const _: () = assert!(STOP_LIMIT.as_millis() > 2 * STOP_TIMEOUT.as_millis());
/// How often counters of refused frames are logged, if they changed.
pub(crate) const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How often the free room is looked at, beside before each segment and each checkpoint. A disk that takes
/// 256 MiB a second is found full one checkpoint's worth ahead.
pub(crate) const ROOM_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before a segment is prepared again on a full disk, or the store is written to. Each attempt may fill
/// a segment's size.
pub(crate) const FULL_DISK_PAUSE: Duration = Duration::from_secs(2);

/// Depth of each io_uring.
pub(crate) const RING_DEPTH: usize = 128;
