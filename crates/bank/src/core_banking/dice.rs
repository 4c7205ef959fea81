//! Randomness that is none: numbers that depend on nothing but what they are asked for.
//!
//! The same seed and the same text give the same number in every process and on every machine, which the
//! standard library's hasher does not promise. Not for secrets.

/// Spreads a number over all 64 bits (the finaliser of splitmix64).
pub(crate) const fn spread(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// A number for a text under a seed (FNV-1a, spread).
pub(crate) fn hash(seed: u64, text: &str) -> u64 {
    let folded = text.bytes().fold(spread(seed) ^ 0xCBF2_9CE4_8422_2325, |folded, byte| {
        (folded ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    spread(folded)
}

/// A number as a fraction: at least 0, less than 1.
pub(crate) fn fraction(number: u64) -> f64 {
    let upper = u32::try_from(number >> 32).expect("32 bits are left");
    f64::from(upper) / (f64::from(u32::MAX) + 1.0)
}

/// A row of throws from one beginning.
pub(crate) struct Dice(u64);

impl Dice {
    /// The row that belongs to `beginning`.
    pub(crate) const fn from(beginning: u64) -> Self {
        Self(beginning)
    }

    /// A number.
    pub(crate) const fn throw(&mut self) -> u64 {
        self.0 = spread(self.0);
        self.0
    }

    /// A row of its own, which no throw of this one changes any more.
    pub(crate) const fn row(&mut self) -> Self {
        Self(self.throw())
    }

    /// A number below `end`.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.throw() % end
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let index = self.below(choices.len() as u64);
        &choices[usize::try_from(index).expect("an index is below a length")]
    }
}
