//! Mutation without feedback: from inputs that mean something to inputs that nearly do.

use quorate_protocol::shard::map::splitmix64;

/// Longest input that a mutation makes.
const BYTES_MAX: usize = 64 << 10;

/// A stream of numbers from one seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(splitmix64(seed))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        splitmix64(self.0)
    }

    /// The next number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a usize fits 64 bits");
        usize::try_from(self.number() % end).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }
}

/// Changes an input in one to eight places. `others` are inputs to take pieces of.
pub fn mutate(bytes: &mut Vec<u8>, is_text: bool, others: &[Vec<u8>], dice: &mut Dice) {
    for _ in 0..1_usize << dice.below(4) {
        let other = &others[dice.below(others.len())];
        match (is_text, dice.below(12)) {
            (true, 0..=3) => edit_digit(bytes, dice),
            (true, 4..=8) => move_line(bytes, dice),
            (true, 9) => edit_text(bytes, dice),
            (true, _) => splice(bytes, other, dice),
            (false, 0..=2) => flip(bytes, dice),
            (false, 3..=6) => edit_number(bytes, dice),
            (false, 7) => repeat(bytes, dice),
            (false, 8) => cut(bytes, dice),
            (false, _) => splice(bytes, other, dice),
        }
        bytes.truncate(BYTES_MAX);
    }
}

fn flip(bytes: &mut [u8], dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.below(bytes.len());
    bytes[at] = match dice.below(3) {
        0 => bytes[at] ^ 1 << dice.below(8),
        1 => dice.byte(),
        _ => [0, 0xFF, 0x7F, 0x80][dice.below(4)],
    };
}

/// Overwrites 1, 2, 4 or 8 bytes with a number that is at some edge, or moves the one that is there.
fn edit_number(bytes: &mut [u8], dice: &mut Dice) {
    let width = 1 << dice.below(4);
    if bytes.len() < width {
        return;
    }
    // Fields are aligned, mostly.
    let at = dice.below(bytes.len() - width + 1);
    let at = if dice.below(4) > 0 {
        at - at % width
    } else {
        at
    };
    let mut word = [0; 8];
    word[..width].copy_from_slice(&bytes[at..at + width]);
    let number = u64::from_le_bytes(word);
    let number = match dice.below(6) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_sub(1),
        2 => number.wrapping_mul(2),
        3 => 1 << dice.below(64),
        4 => u64::MAX >> dice.below(64),
        _ => u64::try_from(bytes.len() + 32)
            .expect("fits")
            .wrapping_sub(dice.number() % 64),
    };
    bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
}

/// Repeats a piece behind itself.
fn repeat(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let piece = piece_of(bytes, dice).to_vec();
    let at = dice.below(bytes.len() + 1);
    bytes.splice(at..at, piece);
}

/// Removes a piece, or all from some place on.
fn cut(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let start = dice.below(bytes.len());
    let length = match dice.below(4) {
        0 => bytes.len(),
        1 => 16,
        _ => dice.below(64),
    };
    let end = bytes.len().min(start + length);
    bytes.drain(start..end);
}

/// Puts a piece of another input in, or in place of as many bytes.
fn splice(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let piece = piece_of(other, dice).to_vec();
    let at = dice.below(bytes.len() + 1);
    let end = match dice.below(2) {
        0 => at,
        _ => bytes.len().min(at + piece.len()),
    };
    bytes.splice(at..end, piece);
}

/// Makes a digit another one.
fn edit_digit(bytes: &mut [u8], dice: &mut Dice) {
    let is_digit = |at: &usize| bytes[*at].is_ascii_digit();
    let digits: Vec<usize> = (0..bytes.len()).filter(is_digit).collect();
    if !digits.is_empty() {
        bytes[digits[dice.below(digits.len())]] = b'0' + dice.byte() % 10;
    }
}

/// Removes a line, repeats it, or puts it elsewhere.
fn move_line(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    if lines.is_empty() {
        return;
    }
    let from = dice.below(lines.len());
    let line = match dice.below(3) {
        0 => lines[from],
        _ => lines.remove(from),
    };
    if dice.below(2) == 0 {
        lines.insert(dice.below(lines.len() + 1), line);
    }
    *bytes = lines.concat();
}

/// Writes a text that means something to one of the parsers, in or in place of a line.
fn edit_text(bytes: &mut Vec<u8>, dice: &mut Dice) {
    const TEXTS: [&str; 22] = [
        "0",
        "1",
        "-1",
        "4294967296",
        "18446744073709551616",
        "1e9",
        "\"",
        "\n",
        "=",
        ",",
        "[",
        "]",
        "(1, 2, 3)",
        "F(n1)",
        "n9",
        "[[node]]",
        "[timing]",
        "lease = \"1s\"",
        "\"5000000000y\"",
        "\\u0000",
        "{}",
        "#",
    ];
    let text = TEXTS[dice.below(TEXTS.len())];
    let at = dice.below(bytes.len() + 1);
    let end = match dice.below(3) {
        0 => at,
        1 => bytes.len().min(at + text.len()),
        _ => {
            let rest = bytes[at..].iter().position(|&byte| b"\n, ".contains(&byte));
            rest.map_or(bytes.len(), |length| at + length)
        }
    };
    bytes.splice(at..end, text.bytes());
}

fn piece_of<'a>(bytes: &'a [u8], dice: &mut Dice) -> &'a [u8] {
    if bytes.is_empty() {
        return bytes;
    }
    let start = dice.below(bytes.len());
    let start = if dice.below(2) == 0 {
        start - start % 16
    } else {
        start
    };
    let length = 1 << dice.below(13);
    &bytes[start..bytes.len().min(start + length)]
}
