//! What goes first: what a turn has begun, or an entry that a follower has put off.
//!
//! A flush and an answer take as long as applying a full entry, and the group waits for them. So they are on their way
//! first; but once only, or under load nothing would ever be applied.

/// Of one executor, from turn to turn.
#[derive(Debug, Default)]
pub(crate) struct Precedence {
    /// The turn before gave way.
    gave_way: bool,
}

impl Precedence {
    /// At the end of a turn: whether the entry is applied in it.
    pub(crate) fn applies_now(&mut self, is_put_off: bool, has_begun: bool) -> bool {
        self.gave_way = is_put_off && has_begun && !self.gave_way;
        is_put_off && !self.gave_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_goes_first_and_apply_never_waits_for_two_turns() {
        let mut precedence = Precedence::default();
        assert!(!precedence.applies_now(false, true), "there is nothing");
        assert!(precedence.applies_now(true, false), "nothing was begun");
        let busy: Vec<bool> = (0..6).map(|_| precedence.applies_now(true, true)).collect();
        assert_eq!(busy, [false, true, false, true, false, true]);
    }
}
