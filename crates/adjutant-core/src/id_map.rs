//! Maps by id without the price of a keyed hash.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

/// A map whose keys are ids. Ids come from ourselves and are mostly random bits already, so spreading
/// them is enough; a hash that resists chosen keys would cost more than the lookup.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A set of ids; see [`IdMap`].
pub type IdSet<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

/// The hasher of [`IdMap`].
#[derive(Debug, Clone, Copy, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        if let Ok(id) = <[u8; 16]>::try_from(bytes) {
            let id = u128::from_le_bytes(id);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "folding two halves into one"
            )]
            self.write_u64((id >> 64) as u64 ^ id as u64);
            return;
        }
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn write_usize(&mut self, _length: usize) {
        // The length prefix of the id's bytes, the same for all.
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;
    use crate::RunId;

    #[test]
    fn ids_of_one_moment_spread_over_low_and_high_bits() {
        let build = BuildHasherDefault::<IdHasher>::default();
        let hashes: Vec<u64> = (0..4096).map(|_| build.hash_one(RunId::new())).collect();
        for shift in [0, 57] {
            let mut seen = [0_u32; 128];
            for hash in &hashes {
                seen[usize::try_from((hash >> shift) & 127).unwrap()] += 1;
            }
            assert!(
                seen.iter().all(|count| (4..100).contains(count)),
                "{seen:?}"
            );
        }
    }
}
