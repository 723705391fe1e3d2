//! The contract of [`RunQueue`](crate::RunQueue) as tests that every engine runs, one case per sentence.
//!
//! ```text
//! adjutant_queue::suite!(async { fresh_fixture().await });
//! ```
//!
//! expands to a module `conformance` with one test per case, each on a fresh engine.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "these are tests: a case's name is its sentence, and a case may stop at the first surprise"
)]

mod clock;
mod fixture;

pub mod commands;
pub mod leases;
pub mod limits;
pub mod order;
pub mod reads;
pub mod retries;
pub mod submits;
pub mod waits;

pub use self::{
    clock::ManualClock,
    fixture::{Fixture, LEASE, WAIT, in_time},
};

/// Expands to a module `conformance` with one test per case of the queue's contract. The argument is an
/// async expression that makes a `conformance::Fixture`.
#[macro_export]
macro_rules! suite {
    ($fixture:expr) => {
        $crate::suite! { @cases $fixture;
            submits: {
                the_same_id_again_is_the_same_run,
                the_same_idempotency_key_again_is_the_same_run,
                a_key_or_id_used_for_another_request_is_a_conflict,
                key_order_in_the_input_does_not_make_another_request,
                a_batch_is_queued_whole_or_not_at_all,
                a_batch_may_name_a_run_twice,
                what_is_not_acceptable_is_refused_with_the_field,
                what_was_given_comes_back_unchanged,
            }
            order: {
                higher_priority_goes_first,
                the_same_priority_goes_first_come_first_served,
                waiting_overtakes_priority,
                a_delayed_run_is_not_claimed_before_its_time,
                a_delay_goes_on_when_a_pause_is_over,
                an_agent_filter_takes_only_its_own_and_loses_no_other,
                any_takes_every_agents_runs_by_rank,
                a_claim_takes_up_to_its_capacity,
                concurrent_workers_get_different_runs,
                a_waiting_claim_is_woken_by_a_submit,
                a_waiting_claim_is_not_satisfied_by_other_agents,
                a_dropped_claim_loses_no_run,
                every_waiting_claim_gets_its_run,
            }
            leases: {
                each_claim_has_a_higher_epoch,
                a_held_run_is_not_claimed_again,
                a_heartbeat_extends_the_lease,
                a_heartbeat_brings_back_cancel_and_pause,
                a_stale_heartbeat_says_lost,
                heartbeats_answer_each_lease_in_order,
                an_expired_lease_comes_back_and_costs_no_attempt,
                a_stale_lease_changes_nothing,
                a_released_lease_is_lost,
                too_many_deaths_park_the_run_until_it_is_redriven,
                a_waiting_sweep_wakes_when_a_lease_expires,
                a_sweep_takes_no_more_than_its_limit,
            }
            retries: {
                a_failed_attempt_comes_back_after_its_back_off,
                a_permanent_failure_ends_the_run,
                the_last_attempts_failure_ends_the_run,
                a_result_ends_the_run_with_its_output,
                a_time_out_ends_the_run,
                an_ended_run_never_changes,
                a_result_over_the_limit_is_refused_and_the_lease_goes_on,
            }
            commands: {
                a_run_that_nobody_holds_is_cancelled_at_once,
                a_held_run_is_cancelled_by_its_worker,
                a_cancelled_run_is_never_claimed_again,
                cancelling_twice_is_cancelling_once,
                a_cancel_outlives_its_worker,
                pending_and_waiting_runs_pause_and_resume,
                a_held_run_pauses_when_it_is_released,
                a_command_for_no_run_says_so,
                a_cancel_reaches_children_and_grandchildren,
            }
            waits: {
                a_timer_wakes,
                a_timer_that_is_over_wakes_at_once,
                a_waiting_sweep_notices_an_earlier_timer,
                a_signal_wakes_and_waits_in_the_mailbox,
                a_signal_before_the_wait_is_kept,
                signals_keep_their_order,
                another_signal_does_not_wake,
                a_signal_over_the_limit_is_refused,
                waiting_for_a_person_shows,
                a_wait_continues_the_same_attempt,
                a_waiting_reader_is_told_of_the_end,
                a_waiting_reader_is_told_of_parking,
                a_reader_that_waits_in_vain_gets_the_run_as_it_stands,
                a_group_wakes_its_parent_when_all_have_ended,
                fail_fast_wakes_at_the_first_failure,
            }
            limits: {
                no_more_run_at_a_time_than_the_key_allows,
                every_way_out_frees_the_slot,
                the_best_of_the_held_back_goes_first,
                a_cancelled_candidate_leaves_the_slot_to_others,
                other_keys_are_not_held_back,
            }
            reads: {
                a_run_that_is_not_there_is_none,
                lists_are_newest_first_and_paged,
                lists_filter_by_state_agent_and_parent,
                the_numbers_are_true,
                pruning_forgets_only_finished_runs,
                pruning_keeps_children_of_a_run_that_goes_on,
                a_child_that_outlives_its_parent_is_still_listed_under_it,
                a_pruned_key_can_be_used_again,
            }
        }
    };
    (@cases $fixture:expr; $($topic:ident: { $($case:ident,)* })*) => {
        mod conformance {
            #[allow(unused_imports, reason = "the fixture's expression may name anything of its place")]
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let fixture: $crate::conformance::Fixture = $fixture.await;
                    $crate::conformance::in_time($crate::conformance::$topic::$case(&fixture)).await;
                }
            )*)*
        }
    };
}
