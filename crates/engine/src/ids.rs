//! Identifiers and randomness: their one home.

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::sync::{Mutex, PoisonError};
use store::BatchId;

/// Where batch ids, keys and jitter come from. Seeded in tests and simulation.
pub struct Ids {
    random: Mutex<StdRng>,
    seeded: bool,
}

impl Ids {
    /// From the operating system's randomness.
    pub fn from_system() -> Self {
        Self { random: Mutex::new(rand::make_rng()), seeded: false }
    }

    /// From a seed: the same ids in the same order, every time.
    pub fn seeded(seed: u64) -> Self {
        Self { random: Mutex::new(StdRng::seed_from_u64(seed)), seeded: true }
    }

    /// A batch id; time-ordered (UUID version 7), so that the store appends it.
    pub fn batch(&self) -> BatchId {
        if self.seeded {
            let bytes: [u8; 16] = self.bytes();
            return BatchId(u128::from_be_bytes(bytes));
        }
        #[expect(clippy::disallowed_methods, reason = "this is the identifiers' one home")]
        BatchId(uuid::Uuid::now_v7().as_u128())
    }

    /// Random bytes, for keys and salts.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }

    /// A number from 0 up to 1, for jitter.
    pub fn fraction(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
