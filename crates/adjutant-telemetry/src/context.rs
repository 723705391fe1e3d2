//! Who is who in a trace, and how that is told to others: W3C Trace Context and Baggage.

use std::{fmt, str::FromStr};

use adjutant_core::RunId;
use sha2::{Digest, Sha256};

/// Longest `baggage` that is passed on, in bytes; W3C asks for at least this much.
const BAGGAGE_BYTES: usize = 8192;

/// Names a trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// Names a span within a trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

macro_rules! hex_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
hex_id!(TraceId);
hex_id!(SpanId);

impl TraceId {
    /// A number from 0 to just below 1 that is the same for all claims of a run: what sampling decides by. It is made of
    /// the 56 bits that W3C says are random, so collectors that sample by them decide alike.
    #[must_use]
    pub fn position(self) -> f64 {
        let random = self.0[9..]
            .iter()
            .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        #[expect(
            clippy::cast_precision_loss,
            reason = "56 bits; the last three do not matter"
        )]
        let position = random as f64 / (1_u64 << 56) as f64;
        position
    }
}

/// A span as others may refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span in it.
    pub span_id: SpanId,
    /// Whether the span is sent anywhere.
    pub sampled: bool,
}

impl SpanContext {
    /// The value of the header `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// Text that is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of the form 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")]
pub struct ParseContextError;

impl FromStr for SpanContext {
    type Err = ParseContextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.trim()).ok_or(ParseContextError)
    }
}

fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let [version] = hex::<1>(parts.next()?)?;
    let trace_id = hex::<16>(parts.next()?)?;
    let span_id = hex::<8>(parts.next()?)?;
    let [flags] = hex::<1>(parts.next()?)?;
    // Later versions may have more parts, and these four first.
    let known = version == 0 && parts.next().is_none();
    let later = version != 0 && version != 0xff;
    let named = trace_id != [0; 16] && span_id != [0; 8];
    ((known || later) && named).then_some(SpanContext {
        trace_id: TraceId(trace_id),
        span_id: SpanId(span_id),
        sampled: flags & 1 == 1,
    })
}

/// Exactly `N` bytes in lower-case digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |char: u8| match char {
        b'0'..=b'9' => Some(char - b'0'),
        b'a'..=b'f' => Some(char - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

/// Who asked for a run, as the request's headers tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The caller's span.
    pub context: SpanContext,
    /// The caller's `baggage`, passed on as it is.
    pub baggage: Option<String>,
}

impl Caller {
    /// Reads the headers `traceparent` and `baggage`. What is no `traceparent` is nobody; baggage beyond 8 KiB is left.
    #[must_use]
    pub fn from_headers(traceparent: Option<&str>, baggage: Option<&str>) -> Option<Self> {
        let context = traceparent?.parse().ok()?;
        let baggage = baggage.filter(|text| !text.is_empty() && text.len() <= BAGGAGE_BYTES);
        Some(Self {
            context,
            baggage: baggage.map(str::to_owned),
        })
    }
}

/// The first span of a claim of a run. It follows from run and epoch alone, so anybody who knows them can refer to it, also
/// after a crash. The second half of the trace id is the same for all claims of a run.
#[must_use]
pub fn attempt_context(run: RunId, epoch: u64) -> SpanContext {
    let of_run = Sha256::digest(run.as_bytes());
    let mut of_claim = Sha256::new_with_prefix(run.as_bytes());
    of_claim.update(epoch.to_be_bytes());
    let of_claim = of_claim.finalize();
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(&of_claim[..8]);
    trace_id[8..].copy_from_slice(&of_run[..8]);
    SpanContext {
        trace_id: TraceId(trace_id),
        span_id: child_id(TraceId(trace_id), 0),
        sampled: true,
    }
}

/// The id of a trace's span with this number.
pub(crate) fn child_id(trace: TraceId, number: u64) -> SpanId {
    let mut hash = Sha256::new_with_prefix(trace.0);
    hash.update(number.to_be_bytes());
    let mut id = [0; 8];
    id.copy_from_slice(&hash.finalize()[..8]);
    SpanId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_round_trips() {
        let context: SpanContext = GOOD.parse().unwrap();
        assert!(context.sampled);
        assert_eq!(context.traceparent(), GOOD);
    }

    #[test]
    fn what_w3c_forbids_is_refused_and_what_a_later_version_adds_is_read() {
        let cases = [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                true,
            ),
            (
                "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                true,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                false,
            ),
            (
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                false,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
                false,
            ),
            ("", false),
        ];
        for (text, good) in cases {
            assert_eq!(text.parse::<SpanContext>().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn claims_of_a_run_have_traces_of_their_own_and_share_what_sampling_decides_by() {
        let (run, other) = (RunId::new(), RunId::new());
        let (first, second) = (attempt_context(run, 1), attempt_context(run, 2));
        assert_eq!(first, attempt_context(run, 1));
        assert_ne!(first.trace_id, second.trace_id);
        assert_eq!(first.trace_id.0[8..], second.trace_id.0[8..]);
        assert_ne!(
            first.trace_id.0[8..],
            attempt_context(other, 1).trace_id.0[8..]
        );
        assert!((0.0..1.0).contains(&first.trace_id.position()));
    }

    #[test]
    fn baggage_is_kept_up_to_its_bound() {
        let long = "k=".to_owned() + &"v".repeat(BAGGAGE_BYTES);
        let caller = |baggage| Caller::from_headers(Some(GOOD), Some(baggage)).unwrap();
        assert_eq!(caller("tenant=a").baggage.as_deref(), Some("tenant=a"));
        assert_eq!(caller(&long).baggage, None);
        assert_eq!(Caller::from_headers(Some("nonsense"), Some("a=b")), None);
    }
}
