//! What a frame carries: the records of an acceptor.

/// A record of the log. Ballots and slots are opaque: this crate orders ballots, counts slots, and
/// repeats both so that a lost record can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<P> {
    /// Nothing below `ballot` is promised or accepted any more.
    Promise { ballot: u64 },
    /// `payload` was accepted for `slot`; implies the promise of `ballot`.
    Accepted { ballot: u64, slot: u64, payload: P },
    /// All slots up to here are chosen.
    Chosen { upto: u64 },
    /// The log was closed in an orderly way: nothing was in flight.
    Clean,
}

/// The kind of a record, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Promise = 1,
    Accepted = 2,
    Chosen = 3,
    Clean = 4,
}

impl Kind {
    /// The kind of a stored byte; `None` if there is no such kind.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Promise),
            2 => Some(Self::Accepted),
            3 => Some(Self::Chosen),
            4 => Some(Self::Clean),
            _ => None,
        }
    }
}

/// A record without its payload: enough to say which one was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    pub kind: Kind,
    /// The slot of `Accepted`, the watermark of `Chosen`, else 0.
    pub slot: u64,
    /// The ballot of `Promise` and `Accepted`, else 0.
    pub ballot: u64,
}

impl<P> Record<P> {
    /// The record's name.
    #[must_use]
    pub fn name(&self) -> Name {
        match *self {
            Self::Promise { ballot } => Name {
                kind: Kind::Promise,
                slot: 0,
                ballot,
            },
            Self::Accepted { ballot, slot, .. } => Name {
                kind: Kind::Accepted,
                slot,
                ballot,
            },
            Self::Chosen { upto } => Name {
                kind: Kind::Chosen,
                slot: upto,
                ballot: 0,
            },
            Self::Clean => Name {
                kind: Kind::Clean,
                slot: 0,
                ballot: 0,
            },
        }
    }
}

impl<P: AsRef<[u8]>> Record<P> {
    /// The bytes that the frame carries behind its header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Accepted { payload, .. } => payload.as_ref(),
            Self::Promise { .. } | Self::Chosen { .. } | Self::Clean => &[],
        }
    }
}
