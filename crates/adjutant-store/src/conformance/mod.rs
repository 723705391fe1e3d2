//! The contract of [`Store`](crate::Store) as tests that every engine runs: the suites of its
//! parts, and a case for each sentence about what holds between them.
//!
//! ```text
//! adjutant_store::suite!(async { fresh_fixture().await });
//! ```
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::needless_pass_by_value,
    reason = "these are tests: a case's name is its sentence, and a case may stop at the first surprise"
)]

mod fixture;

pub mod commits;
pub mod families;
pub mod forks;
pub mod handovers;
pub mod model;
pub mod signals;
pub mod whole;

pub use adjutant_queue::conformance::{ManualClock, in_time};

pub use self::fixture::{Fixture, Snapshot};

#[doc(hidden)]
pub mod parts {
    pub use adjutant_budget;
    pub use adjutant_events;
    pub use adjutant_queue;
    pub use adjutant_state;
}

/// Expands to a module `conformance` with one test per case of the contracts of store, queue, state and
/// events. The argument is an async expression that makes a `conformance::Fixture`.
#[macro_export]
macro_rules! suite {
    ($fixture:expr) => {
        $crate::suite! { @cases $fixture;
            commits: {
                a_commit_writes_everything_at_once,
                a_commit_with_one_bad_op_changes_nothing,
                a_stale_lease_commits_nothing,
                a_final_step_never_changes,
                numbers_of_events_and_records_agree,
                every_change_of_state_is_told_by_an_event,
                a_commit_that_ends_the_run_says_so,
                concurrent_commits_leave_no_gap,
                a_command_and_a_commit_at_once_keep_one_order,
            }
            families: {
                a_fan_out_wakes_its_parent_when_all_have_ended,
                fail_fast_wakes_at_the_first_failure,
                a_child_that_has_ended_already_counts,
                a_fan_out_without_children_is_done,
                spawning_again_spawns_nothing_twice,
                a_child_must_name_its_parent,
                cancelling_a_group_leaves_other_groups,
                a_failed_parent_takes_its_family_with_it,
                a_cancel_reaches_grandchildren,
                a_thousand_children_end_one_by_one,
            }
            signals: {
                a_claim_carries_what_is_unread,
                a_signal_is_taken_once,
                taking_a_signal_twice_in_one_commit_is_a_conflict,
                a_signal_taken_with_the_commit_does_not_end_its_wait,
            }
            forks: {
                a_fork_starts_with_completed_steps_and_the_checkpoint,
                a_fork_takes_the_first_steps,
                a_fork_is_a_value,
                a_fork_of_nothing_says_so,
                forking_twice_is_forking_once,
            }
            handovers: {
                a_run_goes_over_whole_and_comes_back,
                a_run_comes_from_another_store_and_goes_on,
                a_run_that_is_driven_elsewhere_is_only_written_to,
                copied_events_keep_their_numbers_and_follow_each_other,
                what_could_be_claimed_is_not_taken_in,
            }
            whole: {
                a_sound_store_passes_its_check,
                a_backup_is_a_copy_or_refused,
                pruning_forgets_journal_checkpoints_and_events,
                a_closed_store_says_so_and_wakes_who_waits,
                commits_and_reservations_at_once_are_all_there,
                a_tail_follows_a_run_to_its_end,
                limits_are_those_it_keeps,
            }
            model: {
                random_operations_keep_the_invariants,
            }
        }
    };
    (@cases $fixture:expr; $($topic:ident: { $($case:ident,)* })*) => {
        mod conformance {
            #[allow(unused_imports, reason = "the fixture's expression may name anything of its place")]
            use super::*;
            $(mod $topic {
                #[allow(unused_imports, reason = "as above")]
                use super::*;
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        let fixture: $crate::conformance::Fixture = $fixture.await;
                        let case = $crate::conformance::$topic::$case(&fixture);
                        $crate::conformance::in_time(case).await;
                    }
                )*
            })*
            mod queue {
                #[allow(unused_imports, reason = "as above")]
                use super::*;
                $crate::conformance::parts::adjutant_queue::suite! {
                    async { $crate::conformance::Fixture::into_queue($fixture.await) }
                }
            }
            mod budgets {
                #[allow(unused_imports, reason = "as above")]
                use super::*;
                $crate::conformance::parts::adjutant_budget::suite! {
                    async { $crate::conformance::Fixture::into_budgets($fixture.await) }
                }
            }
            mod state {
                #[allow(unused_imports, reason = "as above")]
                use super::*;
                $crate::conformance::parts::adjutant_state::suite! {
                    async { $crate::conformance::Fixture::into_state($fixture.await) }
                }
            }
            mod events {
                #[allow(unused_imports, reason = "as above")]
                use super::*;
                $crate::conformance::parts::adjutant_events::suite! {
                    async { $crate::conformance::Fixture::into_events($fixture.await) }
                }
            }
        }
    };
}
