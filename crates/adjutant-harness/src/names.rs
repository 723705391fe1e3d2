//! Names of steps that are the same in every attempt.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Counts names, so that the journal never has to: what a step is called must be known before it begins.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<String, u32>>);

impl Names {
    /// The name itself, then `name#2`, `name#3`, …
    pub fn next(&self, name: &str) -> String {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        numbered(name, *count)
    }

    /// What `next` would answer.
    pub fn peek(&self, name: &str) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        numbered(name, counts.get(name).copied().unwrap_or_default() + 1)
    }
}

fn numbered(name: &str, count: u32) -> String {
    match count {
        1 => name.to_owned(),
        count => format!("{name}#{count}"),
    }
}
