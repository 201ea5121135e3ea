//! The bytes of every message, as they were when the wire version was given.
//!
//! rkyv has no schema: two fields of one size that change places still pass every check. So the
//! frames themselves are checked in. If this fails, either undo the change of the layout or raise
//! `WIRE_VERSION` and write a new fixture: `QUORATE_BLESS=1 cargo test -p quorate-wire --test golden`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod samples;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;

use quorate_protocol::ids::ClusterId;
use quorate_wire::{FrameReader, WIRE_VERSION, encode_frame};

const CLUSTER: ClusterId = ClusterId(0x5eed_0000_0000_0001);

/// The checked-in lines; writes them first if told to.
fn golden() -> String {
    static BLESS: Once = Once::new();
    let path: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{WIRE_VERSION}.txt"));
    BLESS.call_once(|| {
        if std::env::var_os("QUORATE_BLESS").is_some() {
            std::fs::write(&path, rendered()).unwrap();
        }
    });
    std::fs::read_to_string(&path).unwrap()
}

/// One line per message: name, then the frame in hexadecimal.
fn rendered() -> String {
    let mut text = String::new();
    for (name, frame) in samples::all() {
        let mut bytes = Vec::new();
        encode_frame(CLUSTER, &frame, &mut bytes).unwrap();
        write!(text, "{name} ").unwrap();
        bytes
            .iter()
            .for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn every_message_encodes_to_its_checked_in_bytes() {
    let rendered = rendered();
    let golden = golden();
    for (new, old) in rendered.lines().zip(golden.lines()) {
        let (new_name, new_bytes) = new.split_once(' ').unwrap();
        let (old_name, old_bytes) = old.split_once(' ').unwrap();
        assert_eq!(new_name, old_name);
        assert_eq!(new_bytes, old_bytes, "{new_name}: the layout has changed");
    }
    assert_eq!(rendered.lines().count(), golden.lines().count());
}

#[test]
fn the_checked_in_bytes_decode_to_every_message() {
    let golden = golden();
    let samples = samples::all();
    assert_eq!(golden.lines().count(), samples.len());
    let mut reader = FrameReader::new(CLUSTER);
    for (line, (name, frame)) in golden.lines().zip(samples) {
        let (golden_name, hex) = line.split_once(' ').unwrap();
        assert_eq!(golden_name, name);
        let bytes = unhex(hex);
        reader.space()[..bytes.len()].copy_from_slice(&bytes);
        reader.advance(bytes.len());
        assert_eq!(reader.next_frame(), Ok(Some(frame)), "{name}");
        assert_eq!(reader.last_frame_bytes(), bytes.len());
        assert_eq!(reader.next_frame(), Ok(None));
    }
}
