//! Cuts a trace into epochs: stretches of equal numbers of transfers, between which a map may change.
//!
//! By number and not by time, so that every epoch has as much to plan on and to score on as the next.

use std::ops::RangeInclusive;

use crate::error::PlanError;

/// Most epochs of a trace. Each costs a partition of everything before it.
pub const EPOCHS_MAX: u32 = 1000;
const EPOCHS: RangeInclusive<u32> = 1..=EPOCHS_MAX;

/// Refuses a number of epochs that no trace is cut into.
pub(crate) fn check(epochs: u32) -> Result<(), PlanError> {
    if EPOCHS.contains(&epochs) {
        return Ok(());
    }
    Err(PlanError::Option {
        name: "epochs",
        value: epochs.to_string(),
        allowed: "a number from 1 to 1000",
    })
}

/// `transfers` in as many stretches as there are epochs, in order; their lengths differ by one at
/// most.
///
/// # Errors
/// There are fewer transfers than epochs.
pub(crate) fn cut<T>(transfers: &[T], epochs: u32) -> Result<Vec<&[T]>, PlanError> {
    let count = epochs as usize;
    if transfers.len() < count {
        return Err(PlanError::ShortTrace {
            transfers: transfers.len(),
            epochs,
        });
    }
    let (length, longer) = (transfers.len() / count, transfers.len() % count);
    let mut rest = transfers;
    let stretch = |epoch| {
        let (head, tail) = rest.split_at(length + usize::from(epoch < longer));
        rest = tail;
        head
    };
    Ok((0..count).map(stretch).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn epochs_are_equal_and_leave_nothing_out(count in 0_usize..500, epochs in 1_u32..40) {
            let transfers: Vec<usize> = (0..count).collect();
            match cut(&transfers, epochs) {
                Ok(parts) => {
                    prop_assert_eq!(parts.len(), epochs as usize);
                    prop_assert_eq!(&parts.concat(), &transfers);
                    let lengths = || parts.iter().map(|part| part.len());
                    prop_assert!(lengths().min() > Some(0));
                    prop_assert!(lengths().max() <= lengths().min().map(|least| least + 1));
                }
                Err(error) => {
                    prop_assert!(count < epochs as usize);
                    prop_assert_eq!(error, PlanError::ShortTrace { transfers: count, epochs });
                }
            }
        }
    }

    #[test]
    fn the_number_of_epochs_has_bounds() {
        assert!(check(0).is_err() && check(EPOCHS_MAX + 1).is_err());
        assert!(check(1).is_ok() && check(EPOCHS_MAX).is_ok());
    }
}
