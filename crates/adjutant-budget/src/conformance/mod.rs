//! The contract of [`BudgetLedger`](crate::BudgetLedger) as tests that every engine runs: a case for each sentence.
//!
//! ```text
//! adjutant_budget::suite!(async { fresh_fixture().await });
//! ```
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "these are tests: a case's name is its sentence, and a case may stop at the first surprise"
)]

mod fixture;

pub mod balances;
pub mod model;
pub mod periods;
pub mod prunes;
pub mod reserves;
pub mod settles;
pub mod warnings;

pub use self::fixture::{Fixture, in_time};

/// Expands to one test per case of the ledger's contract. The argument is an async expression that makes a
/// `conformance::Fixture`.
#[macro_export]
macro_rules! suite {
    ($fixture:expr) => {
        $crate::suite! { @cases $fixture;
            reserves: {
                what_is_reserved_counts_until_it_is_settled,
                the_bound_itself_may_be_reached,
                every_figure_has_its_own_bound,
                an_account_without_bounds_only_counts,
                all_accounts_are_granted_or_none,
                a_refusal_says_where_and_how_much,
                a_refused_reservation_may_be_asked_for_again,
                reserving_again_is_reserving_once,
                a_key_stands_for_one_request,
                a_settled_key_is_used_up,
                bounds_are_those_of_the_latest_reservation,
                what_is_wrong_is_named_and_changes_nothing,
                a_hundred_at_once_are_not_granted_too_much,
                a_hundred_of_the_same_key_reserve_once,
                crossing_claims_of_many_do_not_stand_still,
            }
            settles: {
                settling_counts_what_it_came_to,
                what_goes_beyond_the_bound_counts_too,
                settling_again_changes_nothing,
                settling_at_once_counts_once,
                a_key_that_nobody_reserved_is_refused,
                releasing_gives_everything_back,
                whoever_goes_on_finds_what_is_open_and_settles_it,
                what_nobody_settles_stays_reserved,
                the_ledger_equals_what_the_calls_came_to,
            }
            warnings: {
                a_threshold_is_told_when_it_is_reached_and_not_again,
                what_is_settled_may_reach_a_threshold,
                whoever_wants_no_warning_gets_none,
            }
            periods: {
                an_account_starts_anew_with_its_period,
                what_was_reserved_before_the_period_ended_is_settled_there,
                a_refusal_says_when_the_account_starts_anew,
            }
            balances: {
                balances_are_listed_by_name_page_by_page,
                odd_names_stay_what_they_are,
                a_reset_forgets_what_was_spent_and_keeps_what_is_reserved,
            }
            prunes: {
                settled_reservations_are_forgotten_in_time,
                accounts_of_runs_and_past_periods_are_forgotten_when_idle,
                an_account_with_open_reservations_stays,
                what_was_open_for_too_long_counts_in_full,
                pruning_goes_piece_by_piece,
            }
            model: {
                random_tasks_give_the_answers_of_the_memory_ledger,
            }
        }
    };
    (@cases $fixture:expr; $($topic:ident: { $($case:ident,)* })*) => {
        $(mod $topic {
            #[allow(unused_imports, reason = "the fixture's expression may name anything of its place")]
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
    };
}
