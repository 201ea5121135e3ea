//! A list that grows without moving what it holds: a vector that doubles would stall a pinned core for
//! milliseconds while it copies.

/// Items per chunk: at 16 bytes each 128 KiB.
pub(crate) const CHUNK: usize = 8 << 10;

/// A list of small items.
#[derive(Clone, Debug)]
pub(crate) struct Chunks<T> {
    chunks: Vec<Vec<T>>,
    items: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            items: 0,
        }
    }
}

impl<T: Copy> Chunks<T> {
    pub(crate) fn len(&self) -> usize {
        self.items
    }

    pub(crate) fn push(&mut self, item: T) {
        if self.items.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let last = self.chunks.last_mut().expect("a chunk with room");
        last.push(item);
        self.items += 1;
    }

    pub(crate) fn at(&self, index: usize) -> T {
        self.chunks[index / CHUNK][index % CHUNK]
    }

    /// Gives back the memory of the chunk that `index` is the last item of, if it is: nobody asks for
    /// items up to there any more.
    pub(crate) fn release_upto(&mut self, index: usize) {
        if (index + 1).is_multiple_of(CHUNK) {
            self.chunks[index / CHUNK] = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_where_they_were_put() {
        let mut chunks = Chunks::default();
        for item in 0..3 * CHUNK {
            chunks.push(item);
        }
        assert_eq!(chunks.len(), 3 * CHUNK);
        assert_eq!((chunks.at(5), chunks.at(CHUNK)), (5, CHUNK));
        chunks.release_upto(CHUNK - 2);
        assert_eq!(chunks.at(CHUNK - 1), CHUNK - 1);
        chunks.release_upto(CHUNK - 1);
        assert_eq!(chunks.at(CHUNK), CHUNK);
    }
}
