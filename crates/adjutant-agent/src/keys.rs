//! Names of steps and waits, and fingerprints of their inputs.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

/// Makes keys unique within an attempt, the same ones in the same order in every attempt.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    used: HashSet<String>,
    counts: HashMap<String, u32>,
}

impl Keys {
    /// `name` the first time, `name#2`, `name#3`, … when it comes again.
    pub fn unique(&mut self, name: &str) -> String {
        let count = self.counts.entry(name.to_owned()).or_insert(0);
        loop {
            *count += 1;
            let key = if *count == 1 {
                name.to_owned()
            } else {
                format!("{name}#{count}")
            };
            // Someone may have named a step `a#2` himself.
            if self.used.insert(key.clone()) {
                return key;
            }
        }
    }
}

/// A fingerprint that does not depend on the order of a map's keys. FNV-1a with 128 bits: it tells changed inputs apart
/// by accident, not by malice, and needs no dependency.
pub(crate) fn fingerprint<T: Serialize + ?Sized>(input: &T) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(input)?;
    value.sort_all_objects();
    let hash = value.to_string().bytes().fold(FNV_OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME)
    });
    Ok(format!("fnv1a128:{hash:032x}"))
}

const FNV_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn names_are_numbered_by_call_order() {
        let mut keys = Keys::default();
        let got: Vec<_> = ["a", "b", "a", "a", "b"]
            .iter()
            .map(|name| keys.unique(name))
            .collect();
        assert_eq!(got, ["a", "b", "a#2", "a#3", "b#2"]);
    }

    #[test]
    fn a_name_that_looks_numbered_does_not_collide() {
        let mut keys = Keys::default();
        let got: Vec<_> = ["a#2", "a", "a"]
            .iter()
            .map(|name| keys.unique(name))
            .collect();
        assert_eq!(got, ["a#2", "a", "a#3"]);
    }

    #[test]
    fn a_fingerprint_sees_values_and_not_key_order() {
        let of = |value: Value| fingerprint(&value).unwrap();
        assert_eq!(
            of(json!({"a": 1, "b": {"c": 2, "d": 3}})),
            of(json!({"b": {"d": 3, "c": 2}, "a": 1}))
        );
        assert_ne!(of(json!({"a": 1})), of(json!({"a": 2})));
        assert_ne!(of(json!("1")), of(json!(1)));
    }

    #[test]
    fn a_fingerprint_never_changes_between_versions() {
        assert_eq!(
            fingerprint(&json!({})).unwrap(),
            "fnv1a128:0880955dd2ab1be95aa0733055c655b5"
        );
    }
}
