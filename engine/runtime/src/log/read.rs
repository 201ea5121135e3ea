//! Reads accepted entries back from the log, for catch-up and replay.
//!
//! Neighbouring frames are read together, so a replay of small entries is not one disk access each.

use std::ops::Range;

use quorate_durable::log::entry_of;
use quorate_protocol::config::LostRecord;
use quorate_protocol::ids::{Ballot, Slot};
use quorate_protocol::input::Input;
use quorate_protocol::paxos::message::LoggedEntry;
use quorate_storage::wal::{Location, SegmentNumber};

use super::{ReadRequest, Shared};
use crate::fatal::{Fatal, end_process};

/// Longest read that joins several frames.
const RUN_BYTES_MAX: u64 = 1 << 20;

/// Frames that lie close together in one segment, ascending.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    segment: SegmentNumber,
    /// Whole blocks.
    bytes: Range<u64>,
    frames: Vec<(Slot, Location)>,
}

impl Shared {
    pub(super) async fn read_for_ever(&self) {
        loop {
            self.read_wanted.wait().await;
            let Some(request) = self.read_request.get() else {
                continue;
            };
            match self.read(request).await {
                Ok((entries, lost)) => {
                    self.read_request.set(None);
                    self.inbox.push_own(Input::LogRead {
                        from: request.from,
                        entries,
                        lost,
                    });
                }
                Err(fault) => end_process(&fault),
            }
        }
    }

    /// The entries, and the record behind them if it is not what was written.
    async fn read(
        &self,
        request: ReadRequest,
    ) -> Result<(Vec<LoggedEntry>, Option<LostRecord>), Fatal> {
        let frames = self.locate(request);
        let mut entries = Vec::with_capacity(frames.len());
        // All are under way before the first is waited for: a loaded executor comes back to each only after a turn.
        let mut reads = Vec::new();
        for run in runs(frames) {
            let file = self.files.get(run.segment).await?;
            let length = usize::try_from(run.bytes.end - run.bytes.start).expect("a short run");
            let (reading, start) = (file.clone(), run.bytes.start);
            let read = glommio::spawn_local(async move { reading.read_at(start, length).await });
            reads.push((run, file, read));
        }
        for (run, file, read) in reads {
            let bytes = read.await?;
            for (slot, location) in &run.frames {
                let at = u64::from(location.offset) - run.bytes.start;
                let at = usize::try_from(at).expect("inside the run");
                let found = bytes.get(at..).unwrap_or(&[]);
                match self.entry(found, *slot, location) {
                    Ok(entry) => entries.push(entry),
                    Err(problem) => {
                        // The core gets it back from a peer; it must not see what lies behind.
                        let path = file.path().display();
                        tracing::error!(%path, slot = slot.0, "unreadable record: {problem}");
                        let lost = LostRecord {
                            slot: *slot,
                            accepted: Ballot(location.ballot),
                        };
                        return Ok((entries, Some(lost)));
                    }
                }
            }
        }
        Ok((entries, None))
    }

    /// The frames of consecutive slots, as many as were asked for.
    fn locate(&self, request: ReadRequest) -> Vec<(Slot, Location)> {
        let wal = self.wal.borrow();
        let mut bytes = 0_usize;
        let mut frames = Vec::new();
        for slot in request.from.0..=request.upto.0 {
            let Some(location) = wal.locate(slot) else {
                break;
            };
            bytes += usize::try_from(location.length).expect("a u32 fits a usize here");
            if bytes > request.bytes_max && !frames.is_empty() {
                break;
            }
            frames.push((Slot(slot), location));
        }
        frames
    }

    fn entry(&self, bytes: &[u8], slot: Slot, location: &Location) -> Result<LoggedEntry, String> {
        let wal = self.wal.borrow();
        let frame = wal
            .decode(bytes, location)
            .map_err(|error| error.to_string())?;
        let name = frame.header.name;
        if name.slot != slot.0 {
            return Err(format!("holds slot {}", name.slot));
        }
        let entry = entry_of(frame.payload)?;
        Ok(LoggedEntry {
            slot,
            accepted: Ballot(name.ballot),
            entry,
        })
    }
}

/// Joins frames that follow each other in one segment.
fn runs(frames: Vec<(Slot, Location)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (slot, location) in frames {
        let (start, length) = location.blocks();
        let end = start + u64::try_from(length).expect("a usize fits 64 bits");
        if let Some(run) = runs.last_mut()
            && run.segment == location.segment
            && run.bytes.start <= start
            && end - run.bytes.start <= RUN_BYTES_MAX
        {
            run.bytes.end = run.bytes.end.max(end);
            run.frames.push((slot, location));
        } else {
            runs.push(Run {
                segment: location.segment,
                bytes: start..end,
                frames: vec![(slot, location)],
            });
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(slot: u64, segment: u64, offset: u32, length: u32) -> (Slot, Location) {
        let location = Location {
            segment: SegmentNumber(segment),
            offset,
            length,
            ballot: 1,
        };
        (Slot(slot), location)
    }

    #[test]
    fn neighbours_are_read_together_and_others_apart() {
        let frames = vec![
            at(1, 1, 4096, 200),
            at(2, 1, 4304, 8000),
            at(3, 2, 4096, 100),
            at(4, 1, 16384, 100),
            at(5, 1, 8192, 100),
            at(6, 1, 8192 + (1 << 20), 100),
        ];
        let runs = runs(frames);
        let shape: Vec<(u64, Range<u64>, usize)> = runs
            .iter()
            .map(|run| (run.segment.0, run.bytes.clone(), run.frames.len()))
            .collect();
        let far = 8192 + (1 << 20);
        assert_eq!(
            shape,
            [
                (1, 4096..16384, 2),
                (2, 4096..8192, 1),
                (1, 16384..20480, 1),
                (1, 8192..12288, 1),
                (1, far..far + 4096, 1),
            ]
        );
    }

    #[test]
    fn a_frame_longer_than_a_run_is_read_alone() {
        let runs = runs(vec![
            at(1, 1, 4096, 2 << 20),
            at(2, 1, 4096 + (2 << 20), 100),
        ]);
        assert_eq!(runs.len(), 2);
        assert_eq!(runs[0].bytes, 4096..4096 + (2 << 20));
    }
}
