//! The superblock: one block that says whose data directory this is.
//!
//! ```text
//! at  bytes  field
//!  0    8    magic "QUORATES"
//!  8    4    format version
//! 12    4    shard
//! 16    8    cluster
//! 24    1    replica
//! 25    7    zero
//! 32    8    segment_bytes
//! 40    8    created_ns
//! 48   16    zero
//! 64  192    genesis: the settings that the replica was formatted under, as text, zero behind it
//! 256  ..    zero
//! 4092  4    crc32 of everything before
//! ```
//!
//! The shell writes it last when it formats a directory (beside, sync, rename, sync directory), after
//! the first segment exists: a directory with a superblock is a finished one. It is never rewritten.

use std::fmt;

use thiserror::Error;

use crate::BLOCK_BYTES;
use crate::bytes::{put, u8_at, u32_at, u64_at};

const MAGIC: [u8; 8] = *b"QUORATES";
const CRC_AT: usize = BLOCK_BYTES as usize - 4;

/// Version of everything in a data directory.
pub const FORMAT_VERSION: u32 = 4;
/// Name of the superblock's file.
pub const FILE_NAME: &str = "superblock";
/// Smallest and largest size of a segment.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Positions inside a segment are 32-bit numbers with room to round up.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Longest text of the settings in bytes.
pub const GENESIS_BYTES_MAX: usize = 192;

const GENESIS_AT: usize = 64;

/// What the superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    pub identity: Identity,
    pub genesis: Genesis,
}

/// The settings under which the log means what it means, as one line of text that its caller compares.
/// Replayed under others the same records would be another state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Genesis([u8; GENESIS_BYTES_MAX]);

/// Whose bytes these are. `cluster`, `shard` and `replica` come from the configuration, the others
/// are fixed when the directory is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: u64,
    pub shard: u32,
    pub replica: u8,
    /// Size of every log segment in bytes, a multiple of the block size.
    pub segment_bytes: u64,
    /// Wall clock at formatting, nanoseconds since 1970. It seals every frame (see
    /// [`Identity::seal`]), so the frames of an earlier life of the directory are not valid in this
    /// one.
    pub created_ns: u64,
}

/// Start value of the frame checksums of one data directory: a frame copied here from another
/// replica, another cluster or an earlier life of the directory never verifies, and a client that
/// puts the bytes of a frame into a payload does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal(pub(crate) u32);

/// Why a superblock (or a segment's header) is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    #[error("superblock has {found} bytes, must have {expected}")]
    Length { found: usize, expected: usize },
    #[error("not a superblock: magic {found:02x?}, must be {expected:02x?}")]
    Magic { found: [u8; 8], expected: [u8; 8] },
    #[error("superblock checksum {computed:08x} computed, {stored:08x} stored")]
    Crc { computed: u32, stored: u32 },
    #[error("format version {found} on disk, {supported} supported")]
    Version { found: u32, supported: u32 },
    #[error(
        "segment size {found} on disk is not a multiple of {BLOCK_BYTES} in \
         {SEGMENT_BYTES_MIN}..={SEGMENT_BYTES_MAX}"
    )]
    SegmentBytes { found: u64 },
    #[error("cluster id {found} on disk, {expected} in config")]
    Cluster { found: u64, expected: u64 },
    #[error("shard {found} on disk, {expected} in config")]
    Shard { found: u32, expected: u32 },
    #[error("replica {found} on disk, {expected} in config")]
    Replica { found: u8, expected: u8 },
    #[error("created at {found} ns on disk, {expected} ns in the superblock")]
    Created { found: u64, expected: u64 },
    #[error(
        "the directory was formatted under `{found}`, the config says `{expected}`: these settings \
         are fixed for the life of a cluster"
    )]
    Genesis { found: String, expected: String },
}

impl Superblock {
    /// The block.
    ///
    /// # Panics
    /// If `segment_bytes` is out of bounds: such a directory could not be opened again.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK_BYTES as usize] {
        let identity = &self.identity;
        assert!(segment_bytes_valid(identity.segment_bytes));
        let mut out = [0; BLOCK_BYTES as usize];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut out, 12, &identity.shard.to_le_bytes());
        put(&mut out, 16, &identity.cluster.to_le_bytes());
        put(&mut out, 24, &[identity.replica]);
        put(&mut out, 32, &identity.segment_bytes.to_le_bytes());
        put(&mut out, 40, &identity.created_ns.to_le_bytes());
        put(&mut out, GENESIS_AT, &self.genesis.0);
        let crc = crc32fast::hash(&out[..CRC_AT]);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        out
    }

    /// Reads a superblock.
    ///
    /// # Errors
    /// Says which field is wrong, with both values.
    pub fn decode(block: &[u8]) -> Result<Self, IdentityError> {
        if block.len() != BLOCK_BYTES as usize {
            return Err(IdentityError::Length {
                found: block.len(),
                expected: BLOCK_BYTES as usize,
            });
        }
        let magic = u64_at(block, 0).to_le_bytes();
        if magic != MAGIC {
            return Err(IdentityError::Magic {
                found: magic,
                expected: MAGIC,
            });
        }
        let (computed, stored) = (crc32fast::hash(&block[..CRC_AT]), u32_at(block, CRC_AT));
        if computed != stored {
            return Err(IdentityError::Crc { computed, stored });
        }
        let version = u32_at(block, 8);
        if version != FORMAT_VERSION {
            return Err(IdentityError::Version {
                found: version,
                supported: FORMAT_VERSION,
            });
        }
        let segment_bytes = u64_at(block, 32);
        if !segment_bytes_valid(segment_bytes) {
            return Err(IdentityError::SegmentBytes {
                found: segment_bytes,
            });
        }
        let genesis = &block[GENESIS_AT..GENESIS_AT + GENESIS_BYTES_MAX];
        Ok(Self {
            identity: Identity {
                cluster: u64_at(block, 16),
                shard: u32_at(block, 12),
                replica: u8_at(block, 24),
                segment_bytes,
                created_ns: u64_at(block, 40),
            },
            genesis: Genesis(genesis.try_into().expect("cut to this length")),
        })
    }

    /// Whether this (on disk) is the replica that the configuration means, under the same settings.
    ///
    /// # Errors
    /// Names the first difference, with both values.
    pub fn check(&self, expected: &Self) -> Result<(), IdentityError> {
        self.identity.check(&expected.identity)?;
        if self.genesis != expected.genesis {
            return Err(IdentityError::Genesis {
                found: self.genesis.to_string(),
                expected: expected.genesis.to_string(),
            });
        }
        Ok(())
    }
}

impl Genesis {
    /// # Panics
    /// If the text is longer than [`GENESIS_BYTES_MAX`] bytes or holds a zero byte.
    #[must_use]
    pub fn of(text: &str) -> Self {
        assert!(text.len() <= GENESIS_BYTES_MAX && !text.contains('\0'));
        let mut bytes = [0; GENESIS_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self(bytes)
    }
}

impl fmt::Display for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|&byte| byte == 0);
        let text = &self.0[..end.unwrap_or(GENESIS_BYTES_MAX)];
        f.write_str(&String::from_utf8_lossy(text))
    }
}

impl fmt::Debug for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Identity {
    /// Whether this (on disk) is the replica that the configuration means. The segment size and the
    /// creation time are the disk's to say.
    ///
    /// # Errors
    /// Names the first difference, with both values.
    pub fn check(&self, expected: &Self) -> Result<(), IdentityError> {
        if self.cluster != expected.cluster {
            return Err(IdentityError::Cluster {
                found: self.cluster,
                expected: expected.cluster,
            });
        }
        if self.shard != expected.shard {
            return Err(IdentityError::Shard {
                found: self.shard,
                expected: expected.shard,
            });
        }
        if self.replica != expected.replica {
            return Err(IdentityError::Replica {
                found: self.replica,
                expected: expected.replica,
            });
        }
        Ok(())
    }

    /// Where the checksum of every frame of this directory starts.
    #[must_use]
    pub fn seal(&self) -> Seal {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.cluster.to_le_bytes());
        hasher.update(&self.shard.to_le_bytes());
        hasher.update(&[self.replica]);
        hasher.update(&self.created_ns.to_le_bytes());
        Seal(hasher.finalize())
    }
}

/// Whether segments may have this size.
#[must_use]
pub fn segment_bytes_valid(segment_bytes: u64) -> bool {
    segment_bytes.is_multiple_of(u64::from(BLOCK_BYTES))
        && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        cluster: 7,
        shard: 2,
        replica: 3,
        segment_bytes: 64 << 10,
        created_ns: 1_700_000_000_000_000_000,
    };

    fn superblock() -> Superblock {
        Superblock {
            identity: IDENTITY,
            genesis: Genesis::of("shards = 3"),
        }
    }

    #[test]
    fn decodes_what_it_encodes() {
        let block = superblock();
        assert_eq!(Superblock::decode(&block.encode()), Ok(block));
    }

    #[test]
    fn other_settings_are_refused_with_both_texts() {
        let mut expected = superblock();
        expected.genesis = Genesis::of("shards = 4");
        let error = superblock().check(&expected).unwrap_err().to_string();
        assert!(
            error.contains("`shards = 3`") && error.contains("`shards = 4`"),
            "{error}"
        );
        assert_eq!(superblock().check(&superblock()), Ok(()));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let block = superblock().encode();
        for at in 0..block.len() {
            let mut bad = block;
            bad[at] ^= 1 << (at % 8);
            assert!(Superblock::decode(&bad).is_err(), "byte {at}");
        }
        for length in 0..block.len() {
            assert!(Superblock::decode(&block[..length]).is_err());
        }
    }

    #[test]
    fn another_version_is_refused_with_both_values() {
        for (version, message) in [
            (3_u32, "format version 3 on disk, 4 supported"),
            (5, "format version 5 on disk, 4 supported"),
        ] {
            let mut block = superblock().encode();
            put(&mut block, 8, &version.to_le_bytes());
            let crc = crc32fast::hash(&block[..CRC_AT]);
            put(&mut block, CRC_AT, &crc.to_le_bytes());
            let error = Superblock::decode(&block).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn the_wrong_owner_is_refused_with_both_values() {
        let wrong = |change: fn(&mut Identity)| {
            let mut expected = IDENTITY;
            change(&mut expected);
            IDENTITY.check(&expected).unwrap_err().to_string()
        };
        assert_eq!(
            wrong(|id| id.cluster = 9),
            "cluster id 7 on disk, 9 in config"
        );
        assert_eq!(wrong(|id| id.shard = 1), "shard 2 on disk, 1 in config");
        assert_eq!(wrong(|id| id.replica = 1), "replica 3 on disk, 1 in config");
        let mut resized = IDENTITY;
        resized.segment_bytes *= 2;
        resized.created_ns = 0;
        assert_eq!(IDENTITY.check(&resized), Ok(()));
    }

    #[test]
    fn seals_differ_between_replicas_and_lives() {
        let mut other = IDENTITY;
        other.replica = 1;
        let mut later = IDENTITY;
        later.created_ns += 1;
        assert_ne!(IDENTITY.seal(), other.seal());
        assert_ne!(IDENTITY.seal(), later.seal());
    }
}
