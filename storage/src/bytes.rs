//! Little-endian fields at fixed places of a byte slice.
//!
//! Callers pass a slice that is known to hold the whole header; every place is a constant below
//! its length. What the bytes mean, and whether to believe them, is for the caller.

pub(crate) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes[at]
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn put(out: &mut [u8], at: usize, field: &[u8]) {
    out[at..at + field.len()].copy_from_slice(field);
}

/// Rounds up to a multiple of `unit`, a power of two. The caller keeps `value` far from the end of
/// its type: positions in a segment stay below 2^30.
pub(crate) fn round_up(value: usize, unit: u32) -> usize {
    value.next_multiple_of(unit as usize)
}

/// Compares whole blocks at once: a prepared segment is all zeros and is looked through at each start.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|chunk| chunk == &ZEROS[..chunk.len()])
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("a slice of N bytes is an array of N bytes")
}
