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

const ZEROS: [u8; 4096] = [0; 4096];

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(ZEROS.len())
        .all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// Where the last block that is not all zero ends. Compares whole blocks, and from the start on: that
/// is the order in which the operating system reads a mapped file ahead.
pub(crate) fn zero_from(bytes: &[u8]) -> usize {
    let blocks = bytes.chunks(ZEROS.len()).enumerate();
    let last = blocks.fold(None, |last, (block, chunk)| {
        match chunk == &ZEROS[..chunk.len()] {
            true => last,
            false => Some(block),
        }
    });
    last.map_or(0, |block| bytes.len().min((block + 1) * ZEROS.len()))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("a slice of N bytes is an array of N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zeros_at_the_end_begin_behind_the_last_block_that_has_something() {
        let mut bytes = vec![0; 5 * 4096 + 100];
        assert_eq!(zero_from(&bytes), 0);
        assert_eq!(zero_from(&[]), 0);
        for (at, expected) in [
            (0, 4096),
            (4095, 4096),
            (2 * 4096, 3 * 4096),
            (5 * 4096 - 1, 5 * 4096),
            (5 * 4096 + 99, 5 * 4096 + 100),
        ] {
            bytes[at] = 1;
            assert_eq!(zero_from(&bytes), expected, "after byte {at}");
            assert!(is_zero(&bytes[expected..]));
        }
    }
}
