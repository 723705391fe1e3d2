//! Names of instances, and how many there may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::error::{Error, Result};

/// Gives instances their names, `my-agent-01` and so on, and never more than there may be. Cheap to clone.
///
/// A name is free again when its [`Name`] is dropped; the lowest free number is used.
#[derive(Debug, Clone)]
pub struct Names {
    taken: Arc<Mutex<BTreeMap<String, BTreeSet<u32>>>>,
    most: usize,
}

/// The name of one live instance; free for others when this is dropped.
pub struct Name {
    text: String,
    agent: String,
    number: u32,
    names: Names,
}

impl Names {
    /// For at most so many instances of all agents together.
    #[must_use]
    pub fn at_most(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    /// For as many as there are.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::at_most(usize::MAX)
    }

    /// The next name for an instance of `agent`. Checked and taken at once, so that two callers cannot share the last.
    ///
    /// # Errors
    /// [`Error::TooManyInstances`].
    pub fn take(&self, agent: &str) -> Result<Name> {
        self.take_of(agent, usize::MAX)
    }

    /// The same, if `agent` has less than `most` instances of its own.
    ///
    /// # Errors
    /// [`Error::TooManyInstances`], which names the setting that says so.
    pub fn take_of(&self, agent: &str, most: usize) -> Result<Name> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().map(BTreeSet::len).sum::<usize>() >= self.most {
            return Err(Error::TooManyInstances {
                most: self.most,
                of: "of all agents together".to_owned(),
                setting: "runner.max_instances",
            });
        }
        if taken.get(agent).map_or(0, BTreeSet::len) >= most {
            return Err(Error::TooManyInstances {
                most,
                of: format!("of `{agent}`"),
                setting: "max_instances",
            });
        }
        let numbers = taken.entry(agent.to_owned()).or_default();
        let number = (1..).find(|number| !numbers.contains(number)).unwrap_or(0);
        numbers.insert(number);
        Ok(Name {
            text: format!("{agent}-{number:02}"),
            agent: agent.to_owned(),
            number,
            names: self.clone(),
        })
    }

    /// The names that are taken now, in order.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all = taken.iter().flat_map(|(agent, numbers)| {
            numbers
                .iter()
                .map(move |number| format!("{agent}-{number:02}"))
        });
        all.collect()
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut taken = self
            .names
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(numbers) = taken.get_mut(&self.agent) {
            numbers.remove(&self.number);
            if numbers.is_empty() {
                taken.remove(&self.agent);
            }
        }
    }
}

impl Name {
    /// The name, such as `my-agent-01`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_used_with_two_digits_or_more() {
        let names = Names::unlimited();
        let mut all: Vec<Name> = (0..100).map(|_| names.take("a").unwrap()).collect();
        assert_eq!((all[0].as_str(), all[99].as_str()), ("a-01", "a-100"));
        all.remove(4);
        assert_eq!(names.take("a").unwrap().as_str(), "a-05");
        assert_eq!(names.take("b").unwrap().as_str(), "b-01");
    }

    #[test]
    fn one_agent_has_no_more_than_its_own_and_others_are_not_held_up() {
        let names = Names::at_most(3);
        let _two = [(); 2].map(|()| names.take_of("a", 2).unwrap());
        let refused = names.take_of("a", 2).unwrap_err().to_string();
        assert!(refused.contains("2 instances of `a`"), "{refused}");
        assert!(refused.contains("`max_instances`"), "{refused}");
        let _third = names.take_of("b", 2).unwrap();
        let refused = names.take("c").unwrap_err().to_string();
        assert!(refused.contains("`runner.max_instances`"), "{refused}");
    }

    #[test]
    fn the_eleventh_of_ten_is_refused_however_many_ask_at_once() {
        let names = Names::at_most(10);
        let ask = || names.take("a");
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
        let refused = results.into_iter().find_map(Result::err).unwrap();
        assert_eq!(refused.kind(), "too_many_instances");
        assert!(refused.retryable());
        assert!(names.list().is_empty(), "dropped names are free");
    }
}
