//! Sums of money over many accounts: 256 bits, so that a sum of 128-bit balances is never cut short.
//!
//! A balance has 128 bits and its overflow is a result code of its own. A sum over accounts may need
//! more: two unlimited accounts can each pay out the largest amount. 2^128 accounts of that would fit.

use core::fmt;

/// A sum of amounts. Arithmetic that wraps does so at 2^256: differences of honest sums are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Total {
    // The order of the fields is that of comparison.
    high: u128,
    low: u128,
}

impl Total {
    pub const ZERO: Self = Self { high: 0, low: 0 };
    pub const MAX: Self = Self {
        high: u128::MAX,
        low: u128::MAX,
    };

    /// `high * 2^128 + low`.
    #[must_use]
    pub fn from_parts(high: u128, low: u128) -> Self {
        Self { high, low }
    }

    /// The upper and the lower 128 bits.
    #[must_use]
    pub fn parts(self) -> (u128, u128) {
        (self.high, self.low)
    }

    /// The sum as a balance, if it fits one.
    #[must_use]
    pub fn to_u128(self) -> Option<u128> {
        (self.high == 0).then_some(self.low)
    }

    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (low, carry) = self.low.overflowing_add(other.low);
        let high = self.high.checked_add(other.high)?;
        let high = high.checked_add(carry.into())?;
        Some(Self { high, low })
    }

    #[must_use]
    pub fn wrapping_add(self, other: Self) -> Self {
        let (low, carry) = self.low.overflowing_add(other.low);
        let high = self.high.wrapping_add(other.high);
        Self {
            high: high.wrapping_add(carry.into()),
            low,
        }
    }

    #[must_use]
    pub fn wrapping_sub(self, other: Self) -> Self {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        let high = self.high.wrapping_sub(other.high);
        Self {
            high: high.wrapping_sub(borrow.into()),
            low,
        }
    }
}

impl From<u128> for Total {
    fn from(low: u128) -> Self {
        Self { high: 0, low }
    }
}

impl fmt::Display for Total {
    /// In decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What one step of the long division takes off: 19 digits, so that a remainder and the next
        /// 64 bits fit 128.
        const STEP: u128 = 10_000_000_000_000_000_000;
        let mut limbs = [self.high >> 64, self.high, self.low >> 64, self.low]
            .map(|limb| limb & u128::from(u64::MAX));
        // 2^256 has 78 digits: five steps.
        let mut groups = [0; 5];
        for group in &mut groups {
            let mut rest = 0;
            for limb in &mut limbs {
                let dividend = rest << 64 | *limb;
                *limb = dividend / STEP;
                rest = dividend % STEP;
            }
            *group = rest;
        }
        let mut leading = true;
        for (place, group) in groups.iter().enumerate().rev() {
            if !leading {
                write!(f, "{group:019}")?;
            } else if *group != 0 || place == 0 {
                write!(f, "{group}")?;
                leading = false;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const LARGEST: u128 = u128::MAX;

    #[test]
    fn sums_go_on_above_128_bits() {
        let two = Total::from(LARGEST).wrapping_add(Total::from(LARGEST));
        assert_eq!(two.parts(), (1, LARGEST - 1));
        assert_eq!(two.to_u128(), None);
        assert_eq!(two.wrapping_sub(Total::from(LARGEST)), Total::from(LARGEST));
        assert_eq!(two.wrapping_sub(two).to_u128(), Some(0));
        assert!(two > Total::from(LARGEST));
    }

    /// A difference may pass below zero on its way.
    #[test]
    fn what_wraps_below_zero_comes_back() {
        let below = Total::ZERO.wrapping_sub(Total::from(7));
        assert_eq!(below, Total::MAX.wrapping_sub(Total::from(6)));
        assert_eq!(below.wrapping_add(Total::from(9)), Total::from(2));
        assert_eq!(Total::MAX.checked_add(Total::from(1)), None);
        assert_eq!(
            Total::from(LARGEST).checked_add(Total::from(1)),
            Some(Total::from_parts(1, 0))
        );
    }

    #[test]
    fn decimal_text_is_exact() {
        for value in [0, 1, 10_u128.pow(19), 10_u128.pow(38) + 7, LARGEST] {
            assert_eq!(Total::from(value).to_string(), value.to_string());
        }
        assert_eq!(
            Total::from_parts(1, 0).to_string(),
            "340282366920938463463374607431768211456"
        );
        assert_eq!(
            Total::MAX.to_string(),
            "115792089237316195423570985008687907853269984665640564039457584007913129639935"
        );
    }
}
