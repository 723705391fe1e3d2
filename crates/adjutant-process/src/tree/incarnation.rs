//! Which program a tree belongs to, told by its name.

use std::{fmt, fs, process};

use crate::procfs::Stat;

/// The environment variable that names the tree a process was started in.
pub(crate) const VARIABLE: &str = "ADJUTANT_TREE";

const PREFIX: &str = "adjutant";

/// One life of one program: number and start time, which together never come again, and where the number is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incarnation {
    /// The namespace of process numbers.
    namespace: u64,
    pid: i32,
    start: u64,
}

impl Incarnation {
    /// This program's.
    pub(crate) fn current() -> Self {
        let pid = process::id().cast_signed();
        Self {
            namespace: namespace(),
            pid,
            start: Stat::of(pid).map_or(0, |stat| stat.start),
        }
    }

    /// Reads it from the name of a tree.
    pub(crate) fn of_tree(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-');
        let mut next = || parts.next()?.parse::<u64>().ok();
        let (namespace, pid, start) = (next()?, next()?, next()?);
        let pid = i32::try_from(pid).ok()?;
        parts.next().map(|_| Self {
            namespace,
            pid,
            start,
        })
    }

    /// The name of its tree with a number.
    pub(crate) fn tree(&self, number: u64) -> String {
        format!("{self}-{number}")
    }

    /// Whether the program is certainly no more. Nothing is certain about numbers of another namespace.
    pub(crate) fn is_over(&self) -> bool {
        let ours = self.namespace == namespace();
        ours && Stat::of(self.pid).is_none_or(|now| now.start != self.start || !now.is_alive())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            pid,
            start,
        } = self;
        write!(f, "{PREFIX}-{namespace}-{pid}-{start}")
    }
}

/// The number of this namespace of process numbers; `pid:[4026531836]` in the link's text.
fn namespace() -> u64 {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = link.to_string_lossy();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trees_name_tells_whose_it_is() {
        let own = Incarnation::current();
        assert_eq!(Incarnation::of_tree(&own.tree(17)), Some(own));
        assert!(!own.is_over());
        for other in [
            "adjutant",
            "adjutant-1-2-3",
            "adjutant-x-2-3-4",
            "docker-1-2-3-4",
            "adjutant-1-99999999999-3-4",
        ] {
            assert_eq!(Incarnation::of_tree(other), None, "{other}");
        }
    }

    #[test]
    fn a_number_that_was_given_again_is_another_life() {
        let own = Incarnation::current();
        assert!(Incarnation { start: 1, ..own }.is_over());
        assert!(
            !Incarnation {
                namespace: 1,
                ..own
            }
            .is_over(),
            "not ours to tell"
        );
    }
}
