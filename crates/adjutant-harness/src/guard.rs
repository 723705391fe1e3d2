//! A run's own bounds: going round in circles, depth, breadth, time.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use adjutant_core::{AgentError, Fingerprint, Json, Lineage, Timestamp, ToolAnswer};
use serde_json::json;

use crate::policy::BudgetPolicy;

/// The longest cycle that is looked for, in calls.
const LONGEST_CYCLE: usize = 4;

/// What a run has done so far, as far as its bounds ask for it. The same in every attempt, since it follows from answers
/// that are recorded.
#[derive(Debug, Default)]
pub(crate) struct Guard(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Calls with their answers, the newest last.
    calls: VecDeque<Fingerprint>,
    children: u32,
}

impl Guard {
    /// Takes note of an answered tool call, and refuses the run if it goes round in circles.
    pub fn answered(
        &self,
        policy: &BudgetPolicy,
        name: &str,
        arguments: &Json,
        answer: &ToolAnswer,
    ) -> Result<(), AgentError> {
        let call = json!([name, arguments.fingerprint().0, answer.content]);
        let repeats = policy.max_repeats.get() as usize;
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.calls.push_back(Json::from(call).fingerprint());
        while seen.calls.len() > LONGEST_CYCLE * (repeats + 1) {
            seen.calls.pop_front();
        }
        let Some(length) = cycle(&seen.calls, repeats + 1) else {
            return Ok(());
        };
        let message = format!(
            "the last {length} tool calls were repeated more than {repeats} times with the same answers, the last one `{name}`; \
             raise `budget.max_repeats` if that is meant"
        );
        Err(AgentError::permanent("loop_detected", message))
    }

    /// Takes note of children that are about to be begun.
    pub fn children(
        &self,
        policy: &BudgetPolicy,
        lineage: Lineage,
        children: usize,
    ) -> Result<(), AgentError> {
        if lineage.depth >= policy.max_depth {
            let message = format!(
                "this run is {} delegations below the first one, and `budget.max_depth` is {}",
                lineage.depth, policy.max_depth
            );
            return Err(AgentError::permanent("depth_exceeded", message));
        }
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = u32::try_from(children).unwrap_or(u32::MAX);
        seen.children = seen.children.saturating_add(wanted);
        if seen.children > policy.max_breadth {
            let message = format!(
                "this run would begin {} children, and `budget.max_breadth` is {}",
                seen.children, policy.max_breadth
            );
            return Err(AgentError::permanent("breadth_exceeded", message));
        }
        Ok(())
    }
}

/// Whether the time that a run has is over.
pub(crate) fn in_time(
    policy: &BudgetPolicy,
    began: Timestamp,
    now: Timestamp,
) -> Result<(), AgentError> {
    match policy.wall_seconds {
        Some(limit) if now.since(began).as_secs() >= limit => Err(AgentError::permanent(
            "budget_exceeded",
            format!("the run has had its {limit} s (`budget.wall_seconds`)"),
        )),
        _ => Ok(()),
    }
}

/// The length of the shortest cycle that the calls end with `times` times.
fn cycle(calls: &VecDeque<Fingerprint>, times: usize) -> Option<usize> {
    (1..=LONGEST_CYCLE).find(|length| {
        let needed = length * times;
        calls.len() >= needed && {
            let tail: Vec<_> = calls.iter().rev().take(needed).collect();
            tail.iter()
                .zip(tail.iter().skip(*length))
                .all(|(a, b)| a == b)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use adjutant_core::RunId;

    use super::*;

    fn policy(repeats: u32) -> BudgetPolicy {
        BudgetPolicy {
            max_repeats: NonZeroU32::new(repeats).unwrap(),
            ..BudgetPolicy::default()
        }
    }

    fn feed(guard: &Guard, repeats: u32, calls: &[(&str, &str)]) -> Option<usize> {
        calls.iter().position(|(name, answer)| {
            let answer = ToolAnswer::text(*answer);
            guard
                .answered(&policy(repeats), name, &Json::null(), &answer)
                .is_err()
        })
    }

    #[test]
    fn the_same_call_with_the_same_answer_is_a_circle() {
        assert_eq!(feed(&Guard::default(), 2, &[("a", "x"); 5]), Some(2));
    }

    #[test]
    fn a_circle_of_several_calls_is_one_too() {
        let calls = [("a", "x"), ("b", "y"), ("c", "z")].repeat(3);
        assert_eq!(feed(&Guard::default(), 2, &calls), Some(8));
    }

    #[test]
    fn another_answer_is_progress() {
        let calls = [("a", "1"), ("a", "2"), ("a", "3"), ("a", "1"), ("a", "2")];
        assert_eq!(feed(&Guard::default(), 2, &calls), None);
    }

    #[test]
    fn depth_and_breadth_are_bounded() {
        let policy = BudgetPolicy {
            max_depth: 2,
            max_breadth: 3,
            ..BudgetPolicy::default()
        };
        let at = |depth| Lineage {
            root: RunId::new(),
            depth,
        };
        let guard = Guard::default();
        assert!(guard.children(&policy, at(2), 1).is_err());
        assert!(guard.children(&policy, at(1), 2).is_ok());
        let error = guard.children(&policy, at(1), 2).unwrap_err();
        assert_eq!(error.info().kind, "breadth_exceeded");
    }
}
