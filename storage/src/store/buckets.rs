//! Hash buckets of the fingerprints of one history file.

/// Rows of one bucket, on average at most.
const BUCKET_ROWS: u64 = 256;

/// Bits of the fingerprint that name its bucket, in a file of this many rows: the fewest with which a
/// bucket has at most 256 rows on average.
pub(crate) fn bucket_bits(rows: u64) -> u32 {
    rows.div_ceil(BUCKET_ROWS).next_power_of_two().ilog2()
}
