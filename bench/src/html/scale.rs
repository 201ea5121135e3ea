//! Axes with round numbers: 1, 2 or 5 times a power of ten between two ticks.

/// Round numbers from 0 to just above the largest value.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    ticks: Vec<f64>,
    decimals: usize,
}

impl Scale {
    /// An axis for values from 0 to `max` with about `steps` steps, each of `step_min` at least. An
    /// axis for nothing but zeros goes to 1.
    ///
    /// # Panics
    /// If `max` is negative or not finite, or there are no steps.
    #[must_use]
    pub fn new(max: f64, steps: u32, step_min: f64) -> Self {
        assert!(max.is_finite() && max >= 0.0 && steps > 0);
        let max = if max > 0.0 { max } else { 1.0 };
        let (step, decimals) = round_up((max / f64::from(steps)).max(step_min));
        let mut ticks = vec![0.0];
        let mut last = 0.0;
        // Not by adding: a hundred times 0.1 is not 10.
        for n in 1..=steps.saturating_add(1) {
            if last >= max {
                break;
            }
            last = f64::from(n) * step;
            ticks.push(last);
        }
        Self { ticks, decimals }
    }

    /// The numbers to write at the axis, ascending from 0.
    #[must_use]
    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// The end of the axis.
    #[must_use]
    pub fn top(&self) -> f64 {
        *self.ticks.last().expect("an axis has its zero")
    }

    /// A tick as text, with as many digits as the steps need.
    #[must_use]
    pub fn label(&self, tick: f64) -> String {
        format!("{tick:.*}", self.decimals)
    }
}

/// The next 1, 2 or 5 times a power of ten, and the decimals that it is written with.
fn round_up(least: f64) -> (f64, usize) {
    let mut unit = 1.0;
    let mut decimals = 0;
    while unit > least && decimals < 12 {
        unit /= 10.0;
        decimals += 1;
    }
    while unit * 10.0 <= least {
        unit *= 10.0;
    }
    // What is round already may have been computed a bit above it.
    let fits = |factor: &f64| factor * unit >= least * (1.0 - 1e-9);
    match [1.0, 2.0, 5.0].into_iter().find(fits) {
        Some(factor) => (factor * unit, decimals),
        None => (10.0 * unit, decimals.saturating_sub(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(max: f64, steps: u32, step_min: f64) -> Vec<String> {
        let scale = Scale::new(max, steps, step_min);
        let ticks = scale.ticks().iter();
        ticks.map(|&tick| scale.label(tick)).collect()
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(
            labels(187_000.0, 4, 0.0),
            ["0", "50000", "100000", "150000", "200000"]
        );
        assert_eq!(labels(0.31, 4, 0.0), ["0.0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(4.0, 4, 0.0), ["0", "1", "2", "3", "4"]);
        assert_eq!(labels(3.0, 10, 1.0), ["0", "1", "2", "3"]);
        assert_eq!(labels(0.0, 2, 0.0), ["0.0", "0.5", "1.0"]);
    }

    proptest! {
        #[test]
        fn the_axis_reaches_the_largest_value_and_is_not_mostly_empty(
            max in 1e-6_f64..1e12, steps in 2_u32..12,
        ) {
            let scale = Scale::new(max, steps, 0.0);
            prop_assert!(scale.top() >= max * (1.0 - 1e-6), "{} of {}", scale.top(), max);
            prop_assert!(scale.ticks().len() <= usize::try_from(steps).unwrap() + 2);
            // One step too much at most, and a step is at most 2.5 times what was asked for.
            prop_assert!(scale.top() <= max * (1.0 + 2.5 / f64::from(steps)) + 1e-9);
        }
    }
}
