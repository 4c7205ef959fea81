//! Money: whole Rupiah in an `i64`, with checked arithmetic.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount of money in whole Rupiah; may be negative, as postings and balances are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rupiah(i64);

impl Rupiah {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `amount` whole Rupiah.
    pub const fn new(amount: i64) -> Self {
        Self(amount)
    }

    /// The amount as a plain number of whole Rupiah.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, or `None` beyond what an `i64` holds.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Whether the amount is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

// Amounts are bounded on the way in (`limits::amount_rupiah_max`), so that an overflow is a bug of
// ours and must stop the command that caused it rather than wrap.
impl std::ops::Add for Rupiah {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).expect("amounts are bounded, so sums fit an i64"))
    }
}

impl std::ops::Sub for Rupiah {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.checked_sub(other.0).expect("amounts are bounded, so differences fit an i64"))
    }
}

impl std::ops::Neg for Rupiah {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.checked_neg().expect("amounts are bounded, so never i64::MIN"))
    }
}

impl std::ops::AddAssign for Rupiah {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Rupiah {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, |total, amount| total + amount)
    }
}

/// Plain digits, as the partner contract wants them: `183500`.
impl fmt::Display for Rupiah {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Rupiah {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rp{}", self.0)
    }
}

/// Digits in groups of three: `183,500` with `,`; `183.500` with `.`.
pub fn grouped(amount: Rupiah, separator: char) -> String {
    let digits = amount.0.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if amount.is_negative() {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grouping() {
        for (amount, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (99_999, "99,999"),
            (-183_500, "-183,500"),
            (10_000_000_000, "10,000,000,000"),
        ] {
            assert_eq!(grouped(Rupiah::new(amount), ','), text);
        }
    }

    #[test]
    #[should_panic(expected = "amounts are bounded")]
    fn overflow_is_a_bug_and_never_wraps() {
        let _ = Rupiah::new(i64::MAX) + Rupiah::new(1);
    }
}
