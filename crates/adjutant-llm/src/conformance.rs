//! The contract of [`LanguageModel`] as tests that every provider adapter runs, one case per sentence;
//! [`suite!`](crate::suite) expands to them. They run against [`FakeProvider`], a server on loopback that speaks each
//! provider's form as it was recorded, and misbehaves on demand.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests: a case's name is its sentence, and a case may stop at the first surprise"
)]

mod cases;
mod misbehaviour;
mod server;
mod shape;

pub use self::{
    cases::*,
    misbehaviour::*,
    server::{FakeProvider, Heard, Scene},
    shape::{Answer, Call},
};

use crate::{LanguageModel, Timeouts, Wire};

/// An adapter under test.
pub trait Subject: Send + Sync {
    /// What it speaks.
    fn wire(&self) -> Wire;

    /// The adapter, for the server at this address, with the key `test-key`.
    fn connect(&self, base_url: &str, timeouts: Timeouts) -> Box<dyn LanguageModel>;
}

/// Expands to a module with one test per case. The arguments are the module's name and an expression that makes a
/// `conformance::Subject`.
#[macro_export]
macro_rules! suite {
    ($name:ident, $subject:expr) => {
        $crate::suite! { @cases $name, $subject;
            a_text_comes_whole,
            the_pieces_joined_are_the_text,
            usage_is_counted_with_its_parts,
            tool_calls_come_with_name_and_arguments,
            parallel_calls_keep_their_order,
            tools_and_their_answers_go_out,
            reasoning_is_kept_for_the_next_turn,
            a_long_answer_says_that_it_was_cut,
            structured_output_is_asked_for,
            images_go_out,
            settings_go_out,
            the_key_goes_where_the_provider_looks,
            too_many_requests_say_when_to_come_back,
            a_failing_server_may_be_asked_again,
            a_wrong_key_is_not_tried_again,
            a_context_too_long_is_told_as_such,
            an_error_within_the_answer_is_an_error,
            an_answer_that_ends_early_is_no_answer,
            a_connection_that_breaks_is_no_answer,
            garbage_within_an_answer_is_no_answer,
            what_is_no_stream_is_no_answer,
            a_silent_provider_is_given_up,
            a_provider_that_stops_speaking_is_given_up,
            a_provider_that_never_ends_is_given_up,
            an_endless_answer_is_bounded,
            a_single_endless_event_is_given_up,
            a_refused_connection_was_not_charged,
            a_dropped_call_closes_its_connection,
            redirects_are_not_followed,
        }
    };
    (@cases $name:ident, $subject:expr; $($case:ident,)*) => {
        mod $name {
            #[allow(unused_imports, reason = "the expression may name anything of its place")]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::conformance::$case(&$subject).await;
                }
            )*
        }
    };
}
