//! Random choices that a seed repeats.

use std::time::{SystemTime, UNIX_EPOCH};

/// `SplitMix64`.
pub struct Dice(pub u64);

impl Dice {
    /// From the variable if it is set, else from the time; the seed is printed.
    pub fn seeded(variable: &str) -> Self {
        let seed = std::env::var(variable).map_or_else(
            |_| {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                u64::try_from(now.as_micros()).unwrap()
            },
            |seed| seed.parse().expect("a seed is a number"),
        );
        eprintln!("{variable}={seed}");
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}
