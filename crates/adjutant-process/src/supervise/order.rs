//! In which order processes start.

use std::collections::{BTreeMap, BTreeSet};

/// Why processes cannot be put in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Two have one name.
    #[error("two processes have the name `{name}`")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// One waits for something that is not there.
    #[error("`{child}` depends on `{on}`, which does not exist; there are {}", .known.join(", "))]
    Unknown {
        /// Who waits.
        child: String,
        /// For whom.
        on: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// They wait for each other.
    #[error("these depend on each other: {}", .names.join(" -> "))]
    Cycle {
        /// Round the cycle; the first name is repeated at the end.
        names: Vec<String>,
    },
}

/// Positions in an order in which everything comes after what it depends on; what is free to choose keeps its place.
pub(super) fn start_order(children: &[(&str, &[String])]) -> Result<Vec<usize>, OrderError> {
    let mut index = BTreeMap::new();
    for (at, (name, _)) in children.iter().enumerate() {
        if index.insert(*name, at).is_some() {
            let name = (*name).to_owned();
            return Err(OrderError::Duplicate { name });
        }
    }
    let mut order = Vec::with_capacity(children.len());
    let mut done = BTreeSet::new();
    for (name, _) in children {
        visit(
            name,
            children,
            &index,
            &mut Vec::new(),
            &mut done,
            &mut order,
        )?;
    }
    Ok(order)
}

fn visit<'a>(
    name: &'a str,
    children: &[(&'a str, &'a [String])],
    index: &BTreeMap<&'a str, usize>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
    order: &mut Vec<usize>,
) -> Result<(), OrderError> {
    if done.contains(name) {
        return Ok(());
    }
    if let Some(start) = path.iter().position(|above| *above == name) {
        let cycle = path.iter().skip(start).chain([&name]);
        let names = cycle.map(|&name| name.to_owned()).collect();
        return Err(OrderError::Cycle { names });
    }
    let child = index
        .get(name)
        .and_then(|at| Some((*at, children.get(*at)?)));
    let Some((at, (_, depends_on))) = child else {
        return Err(OrderError::Unknown {
            child: path.last().copied().unwrap_or_default().to_owned(),
            on: name.to_owned(),
            known: index.keys().map(|&known| known.to_owned()).collect(),
        });
    };
    path.push(name);
    for on in *depends_on {
        visit(on, children, index, path, done, order)?;
    }
    path.pop();
    done.insert(name);
    order.push(at);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a:b,c` depends on `b` and `c`.
    fn order(text: &str) -> Result<String, String> {
        let children: Vec<(&str, Vec<String>)> = text
            .split_whitespace()
            .map(|word| {
                let (name, on) = word.split_once(':').unwrap_or((word, ""));
                let on = on.split(',').filter(|on| !on.is_empty());
                (name, on.map(str::to_owned).collect())
            })
            .collect();
        let slices: Vec<(&str, &[String])> =
            children.iter().map(|(name, on)| (*name, &on[..])).collect();
        let order = start_order(&slices).map_err(|error| error.to_string())?;
        let names: Vec<&str> = order.iter().map(|at| slices[*at].0).collect();
        Ok(names.join(" "))
    }

    #[test]
    fn everything_comes_after_what_it_depends_on() {
        let cases = [
            ("", ""),
            ("a b c", "a b c"),
            ("a:b b", "b a"),
            ("a:b,c b:d c:d d", "d b c a"),
            ("web:db,cache cache db:disk disk", "disk db cache web"),
        ];
        for (children, expected) in cases {
            assert_eq!(order(children).as_deref(), Ok(expected), "{children}");
        }
    }

    #[test]
    fn what_cannot_be_ordered_is_named() {
        let cases = [
            ("a a", "two processes have the name `a`"),
            (
                "a:b",
                "`a` depends on `b`, which does not exist; there are a",
            ),
            ("a:a", "these depend on each other: a -> a"),
            (
                "x:a a:b b:c c:a",
                "these depend on each other: a -> b -> c -> a",
            ),
        ];
        for (children, expected) in cases {
            assert_eq!(order(children).unwrap_err(), expected, "{children}");
        }
    }
}
