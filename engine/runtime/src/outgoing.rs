//! Bytes that wait for the writer of a socket.
//!
//! Whatever is appended while the core runs goes out in one write when the writer's turn comes: a
//! write per message would cost many times the CPU.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};

use quorate_net::Stream;
use quorate_protocol::words::Words;

use crate::wakeup::Wakeup;

/// Bytes that wait, with the runs that belong between them and are sent from where they are.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    /// With where in `bytes` each belongs, in order.
    runs: Vec<(usize, Words)>,
    run_bytes: usize,
}

impl Pending {
    fn len(&self) -> usize {
        self.bytes.len() + self.run_bytes
    }

    /// All of it, in the order in which it is sent.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.runs.iter().map(|(at, _)| *at);
        let begins = core::iter::once(0).chain(ends.clone());
        let ends = ends.chain(core::iter::once(self.bytes.len()));
        let between = begins.zip(ends).map(|(begin, end)| &self.bytes[begin..end]);
        let runs = self.runs.iter().map(|(_, run)| run.as_bytes());
        let runs = runs.chain(core::iter::once([].as_slice()));
        between.zip(runs).flat_map(|(bytes, run)| [bytes, run])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
        self.run_bytes = 0;
    }
}

/// Bytes on their way to one socket.
pub(crate) struct Outgoing {
    /// What each of the two buffers, one that fills and one that is written, keeps when it is empty.
    bytes_kept: usize,
    pending: RefCell<Pending>,
    filled: Wakeup,
    drained: Wakeup,
    closed: Cell<bool>,
}

impl Outgoing {
    /// Nothing waits. Buffers keep their memory up to `bytes_kept`: what is given back costs a page fault for every
    /// 4 KiB when it is needed again, which is many times what copying into it costs.
    pub(crate) fn keeping(bytes_kept: usize) -> Self {
        Self {
            bytes_kept,
            pending: RefCell::default(),
            filled: Wakeup::default(),
            drained: Wakeup::default(),
            closed: Cell::default(),
        }
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.pending.borrow().len()
    }

    /// Appends to what waits; the writer runs when the present task gives way.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.closed.get() {
            return;
        }
        write(&mut self.pending.borrow_mut().bytes);
        self.filled.set();
    }

    /// The same for bytes around a run: `write` returns where in the buffer that belongs.
    pub(crate) fn append_around(&self, write: impl FnOnce(&mut Vec<u8>) -> Option<(usize, Words)>) {
        if self.closed.get() {
            return;
        }
        let pending = &mut *self.pending.borrow_mut();
        if let Some((at, run)) = write(&mut pending.bytes) {
            pending.run_bytes += run.as_bytes().len();
            pending.runs.push((at, run));
        }
        self.filled.set();
    }

    /// Lets the writer finish what waits and end; later bytes are dropped.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.filled.set();
        self.drained.set();
    }

    /// Drops what waits, and ends the writer.
    pub(crate) fn abandon(&self) {
        self.pending.borrow_mut().clear();
        self.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Wakes the task in [`Self::drained`] for another reason.
    pub(crate) fn nudge(&self) {
        self.drained.set();
    }

    /// Waits until something was written or the connection was closed.
    pub(crate) async fn drained(&self) {
        self.drained.wait().await;
    }

    /// Waits until there is something to write.
    pub(crate) async fn filled(&self) {
        while self.pending.borrow().len() == 0 && !self.closed.get() {
            self.filled.wait().await;
        }
    }

    /// Drops what waits.
    pub(crate) fn clear(&self) {
        self.pending.borrow_mut().clear();
    }

    /// Writes what comes until [`Self::close`], or until an error.
    pub(crate) async fn write_to(&self, stream: &Stream) -> io::Result<()> {
        let mut batch = Pending::default();
        loop {
            std::mem::swap(&mut batch, &mut *self.pending.borrow_mut());
            if batch.len() == 0 {
                if self.closed.get() {
                    return Ok(());
                }
                self.filled.wait().await;
                continue;
            }
            let mut slices: Vec<IoSlice<'_>> = batch.parts().map(IoSlice::new).collect();
            stream.write_all_slices(&mut slices).await?;
            batch.clear();
            batch.bytes.shrink_to(self.bytes_kept);
            self.drained.set();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_sent_between_the_bytes_around_them() {
        let run = |byte| Words::from_bytes(&[byte; 16]).expect("a word");
        let outgoing = Outgoing::keeping(0);
        let plain = |byte| outgoing.append(|bytes| bytes.push(byte));
        let around = |before, run: Words, behind| {
            outgoing.append_around(|bytes| {
                bytes.push(before);
                let at = bytes.len();
                bytes.push(behind);
                Some((at, run))
            });
        };
        plain(1);
        around(2, run(3), 4);
        around(5, run(6), 7);
        plain(8);
        let sent = outgoing
            .pending
            .borrow()
            .parts()
            .collect::<Vec<_>>()
            .concat();
        let expected: [&[u8]; 5] = [&[1, 2], &[3; 16], &[4, 5], &[6; 16], &[7, 8]];
        assert_eq!(sent, expected.concat());
        assert_eq!(outgoing.len(), sent.len());
        outgoing.clear();
        assert_eq!(outgoing.len(), 0);
        assert!(outgoing.pending.borrow().parts().all(<[u8]>::is_empty));
    }
}
