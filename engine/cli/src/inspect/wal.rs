//! `inspect wal`: the segments of a stopped replica's log, and what a start would make of it.
//!
//! The verdict is recovery's own: the same function reads the log, and nothing of what it wants repaired
//! is carried out.

use std::fmt::Write;

use anyhow::Context as _;
use clap::Args;
use quorate_protocol::ids::Ballot;
use quorate_storage::mmap::Map;
use quorate_storage::wal::{
    Damage, FrameError, FrameHeader, Harm, Kind, Losses, Lost, Name, Recovery, RecoveryError,
    SegmentHeader, SegmentNumber, SegmentUse, frames, recover,
};
use serde_json::{Value, json};

use super::stopped::{Seen, Stopped, StoppedArgs, each};
use crate::Context;
use crate::failure::Outcome;
use crate::print::table;

/// Stretches without a frame that are listed per segment; the others are counted.
const UNREADABLE_LISTED_MAX: usize = 20;

/// Options of `inspect wal`.
#[derive(Args, Debug)]
pub struct WalArgs {
    #[command(flatten)]
    pub stopped: StoppedArgs,
}

/// Prints one row per segment, the damage and how the log ends.
pub fn run(args: &WalArgs, context: Context) -> Outcome {
    each(&args.stopped, context, look)
}

/// What the walk over one segment saw.
#[derive(Debug, Default)]
struct Segment {
    number: u64,
    /// `written`, `ready`, `free`, or `unknown` if the log cannot be opened.
    used: &'static str,
    header: String,
    promises: u64,
    accepted: u64,
    watermarks: u64,
    end_markers: u64,
    /// Whole frames that are not part of the log: behind a tear.
    beyond: u64,
    bytes_used: u64,
    payload_bytes: u64,
    slot_first: Option<u64>,
    slot_last: Option<u64>,
    promised: u64,
    chosen_upto: u64,
    unreadable: Vec<String>,
    unreadable_more: u64,
}

fn look(stopped: &Stopped) -> Result<Seen, anyhow::Error> {
    let mut maps: Vec<(SegmentNumber, Map)> = Vec::new();
    for (name, _) in stopped.listing()? {
        if let Some(number) = SegmentNumber::from_file_name(&name) {
            maps.push((number, stopped.map(&name).context(name)?));
        }
    }
    let files: Vec<(SegmentNumber, &[u8])> = maps
        .iter()
        .map(|(number, map)| (*number, map.as_ref()))
        .collect();
    let recovery = recover(&files, &stopped.identity);
    let segments: Vec<Segment> = files
        .iter()
        .map(|(number, bytes)| segment(stopped, *number, bytes, recovery.as_ref().ok()))
        .collect();
    Ok(Seen {
        document: document(&segments, &recovery),
        text: people(&segments, &recovery),
        damaged: match &recovery {
            Ok(recovery) => !recovery.damage.is_empty() || recovery.damage_unlisted > 0,
            Err(_) => true,
        },
    })
}

fn segment(
    stopped: &Stopped,
    number: SegmentNumber,
    bytes: &[u8],
    recovery: Option<&Recovery>,
) -> Segment {
    let mut seen = Segment {
        number: number.0,
        used: recovery.map_or("unknown", |recovery| match recovery.used(number) {
            SegmentUse::Free => "free",
            SegmentUse::Written => "written",
            SegmentUse::Ready => "ready",
        }),
        ..Segment::default()
    };
    match SegmentHeader::decode(bytes) {
        Ok(header) if header.segment == number => {
            "ok".clone_into(&mut seen.header);
            seen.promised = header.before.promised;
            seen.chosen_upto = header.before.chosen_upto;
        }
        Ok(header) => seen.header = format!("of {}, from before it was recycled", header.segment),
        Err(error) => seen.header = error.to_string(),
    }
    let log_end = recovery.map_or(u64::MAX, |recovery| recovery.end.chain.number);
    for found in frames(bytes, number, stopped.identity.seal()) {
        match found.frame {
            Ok(frame) => seen.take(&frame.header, frame.payload.len(), log_end),
            // Padding too short for a header, and what the segment held before it was recycled.
            Err(FrameError::Magic { found: 0 } | FrameError::Stale { .. }) => {}
            Err(_) if seen.used != "written" => {}
            Err(_) if seen.unreadable.len() == UNREADABLE_LISTED_MAX => seen.unreadable_more += 1,
            Err(error) => seen
                .unreadable
                .push(format!("at {}: {error}", found.offset)),
        }
    }
    seen
}

impl Segment {
    fn take(&mut self, header: &FrameHeader, payload_bytes: usize, log_end: u64) {
        let Name { kind, slot, .. } = header.name;
        if kind == Kind::Clean {
            self.end_markers += 1;
            return;
        }
        if header.number > log_end {
            self.beyond += 1;
            return;
        }
        let end = u64::from(header.offset) + header.frame_bytes() as u64;
        self.bytes_used = end.next_multiple_of(u64::from(quorate_storage::BLOCK_BYTES));
        self.payload_bytes += payload_bytes as u64;
        self.promised = self.promised.max(header.promised);
        match kind {
            Kind::Promise => self.promises += 1,
            Kind::Accepted => {
                self.accepted += 1;
                self.slot_first = Some(self.slot_first.map_or(slot, |first| first.min(slot)));
                self.slot_last = self.slot_last.max(Some(slot));
            }
            Kind::Chosen => {
                self.watermarks += 1;
                self.chosen_upto = self.chosen_upto.max(slot);
            }
            Kind::Clean => {}
        }
    }

    fn frames(&self) -> u64 {
        self.promises + self.accepted + self.watermarks
    }

    fn document(&self) -> Value {
        json!({
            "segment": SegmentNumber(self.number).file_name(),
            "number": self.number,
            "used": self.used,
            "header": self.header,
            "frames": self.frames(),
            "promises": self.promises,
            "accepted": self.accepted,
            "watermarks": self.watermarks,
            "end_markers": self.end_markers,
            "frames_beyond_end": self.beyond,
            "bytes_used": self.bytes_used,
            "payload_bytes": self.payload_bytes,
            "slot_first": self.slot_first,
            "slot_last": self.slot_last,
            "promised": Ballot(self.promised).to_string(),
            "chosen_upto": self.chosen_upto,
            "unreadable": self.unreadable,
            "unreadable_more": self.unreadable_more,
        })
    }
}

fn document(segments: &[Segment], recovery: &Result<Recovery, RecoveryError>) -> Value {
    let rows: Vec<Value> = segments.iter().map(Segment::document).collect();
    match recovery {
        Err(error) => json!({ "segments": rows, "error": error.to_string(), "damage": [] }),
        Ok(found) => json!({
            "segments": rows,
            "error": null,
            "frames": found.frames,
            "promised": Ballot(found.promised).to_string(),
            "chosen_upto": found.chosen_upto,
            "slots": found.index.iter().count(),
            "slot_last": found.index.slot_max(),
            "tail": {
                "row": format!("{:?}", found.tail),
                "clean": found.clean,
                "segment": found.end.segment.to_string(),
                "offset": found.end.offset,
                "frame": found.end.chain.number,
            },
            "damage": found.damage.iter().map(damage_document).collect::<Vec<_>>(),
            "damage_unlisted": found.damage_unlisted,
            "start": start(found),
        }),
    }
}

/// What a start would do about it.
fn start(recovery: &Recovery) -> &'static str {
    match recovery.losses() {
        Losses::Records(records) if records.is_empty() => "starts",
        Losses::Records(_) => "starts and asks its peers for what is lost",
        Losses::Unknown => "parked: what is lost cannot be named",
    }
}

fn damage_document(damage: &Damage) -> Value {
    let name = match damage.lost {
        Lost::Record(name) | Lost::Superseded(name) => Some(json!({
            "kind": format!("{:?}", name.kind).to_lowercase(),
            "slot": name.slot,
            "ballot": Ballot(name.ballot).to_string(),
        })),
        Lost::Nothing | Lost::Unknown { .. } => None,
    };
    json!({
        "row": format!("{:?}", damage.row),
        "segment": damage.segment.to_string(),
        "offset": damage.offset,
        "lost": name,
        "harm": harm(damage),
    })
}

fn harm(damage: &Damage) -> String {
    match (damage.harm(), damage.lost) {
        (Harm::Nothing, Lost::Superseded(name)) => {
            format!("nothing: slot {} was written again", name.slot)
        }
        (Harm::Nothing, _) => "nothing: its neighbours repeat what it held".to_owned(),
        (Harm::Slot { slot, ballot }, _) => {
            let ballot = Ballot(ballot);
            format!("the record of slot {slot} under ballot {ballot} is lost")
        }
        (Harm::Replica, Lost::Unknown { records }) if records > 0 => {
            format!("{records} records without a name are lost")
        }
        (Harm::Replica, _) => "records without a name are lost".to_owned(),
    }
}

fn people(segments: &[Segment], recovery: &Result<Recovery, RecoveryError>) -> String {
    let mut rows = table(&[
        "segment", "used", "frames", "bytes", "slots", "promised", "chosen", "header",
    ]);
    for segment in segments {
        let slots = match (segment.slot_first, segment.slot_last) {
            (Some(first), Some(last)) => format!("{first}..{last}"),
            _ => "-".to_owned(),
        };
        rows.add_row([
            SegmentNumber(segment.number).to_string(),
            segment.used.to_owned(),
            segment.frames().to_string(),
            segment.bytes_used.to_string(),
            slots,
            Ballot(segment.promised).to_string(),
            segment.chosen_upto.to_string(),
            segment.header.clone(),
        ]);
    }
    let mut text = rows.to_string();
    for segment in segments {
        for stretch in &segment.unreadable {
            let _ = write!(text, "\n{}: {stretch}", SegmentNumber(segment.number));
        }
        if segment.unreadable_more > 0 {
            let (name, more) = (SegmentNumber(segment.number), segment.unreadable_more);
            let _ = write!(text, "\n{name}: {more} more stretches without a frame");
        }
    }
    // Writing to a string cannot fail.
    let _ = match recovery {
        Err(error) => write!(text, "\nthe log cannot be opened: {error}"),
        Ok(found) => tail(&mut text, found),
    };
    text
}

fn tail(text: &mut String, found: &Recovery) -> std::fmt::Result {
    for damage in &found.damage {
        let (row, place, offset) = (damage.row, damage.segment, damage.offset);
        write!(
            text,
            "\ndamage: {row:?} in {place} behind {offset}: {}",
            harm(damage)
        )?;
    }
    if found.damage_unlisted > 0 {
        write!(text, "\ndamage: {} more", found.damage_unlisted)?;
    }
    let closed = match found.clean {
        true => "closed in order",
        false => "not closed in order",
    };
    write!(
        text,
        "\nends in {} at {} ({:?}, {closed}), promised {}, chosen up to {}, {} frames; a start: {}",
        found.end.segment,
        found.end.offset,
        found.tail,
        Ballot(found.promised),
        found.chosen_upto,
        found.frames,
        start(found),
    )
}
