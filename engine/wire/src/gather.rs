//! What the serialiser writes to: the end of a buffer, around a run that stays where it is.
//!
//! A run of a megabyte that is copied into a buffer is read from memory and written there to be read again by the socket.
//! So it can be left out: the bytes around it stand in the buffer as they would around it, and whoever sends them
//! sends the run in between.

use rkyv::ser::{Positional, Writer};

/// A buffer, and the run that is left out of it.
pub(crate) struct Gather<'a> {
    out: &'a mut Vec<u8>,
    run: Option<&'a [u8]>,
    /// Where the run belongs, once it was met.
    at: Option<usize>,
}

impl<'a> Gather<'a> {
    /// Appends to `out` all but `run`, if that is written as a whole.
    pub fn around(out: &'a mut Vec<u8>, run: Option<&'a [u8]>) -> Self {
        let at = None;
        Self { out, run, at }
    }

    /// Where in the buffer the run belongs, if it was left out.
    pub fn at(&self) -> Option<usize> {
        self.at
    }

    /// Bytes that were left out.
    pub fn left_out(&self) -> usize {
        self.at.and(self.run).map_or(0, <[u8]>::len)
    }
}

impl Positional for Gather<'_> {
    fn pos(&self) -> usize {
        self.out.len() + self.left_out()
    }
}

impl<E> Writer<E> for Gather<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        let is_run = |run: &[u8]| core::ptr::eq(run, bytes);
        if self.at.is_none() && self.run.is_some_and(is_run) {
            self.at = Some(self.out.len());
        } else {
            self.out.extend_from_slice(bytes);
        }
        Ok(())
    }
}
