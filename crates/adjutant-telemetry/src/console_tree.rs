//! A trace as a tree of lines.

use std::{collections::HashSet, fmt::Write, time::Duration};

use crate::{Span, Status, conventions as names};

/// Draws the spans of one trace. Spans whose parent is not there stand at the left.
pub(crate) fn draw(spans: &[Span]) -> String {
    let known: HashSet<_> = spans.iter().map(|span| span.context.span_id).collect();
    let is_top = |span: &&Span| span.parent.is_none_or(|parent| !known.contains(&parent));
    let mut text = String::new();
    for span in spans.iter().filter(is_top) {
        line(span, "", &mut text);
        below(span, spans, "", &mut text);
    }
    text
}

fn below(parent: &Span, spans: &[Span], indent: &str, text: &mut String) {
    let mut children = parent.children(spans);
    children.sort_by_key(|span| span.started);
    let last = children.len().saturating_sub(1);
    for (index, child) in children.into_iter().enumerate() {
        let (branch, more) = match index == last {
            true => ("└─ ", "   "),
            false => ("├─ ", "│  "),
        };
        line(child, &format!("{indent}{branch}"), text);
        below(child, spans, &format!("{indent}{more}"), text);
    }
}

fn line(span: &Span, before: &str, text: &mut String) {
    let took = duration(span.ended.since(span.started));
    // Writing to a `String` cannot fail.
    let _ = write!(text, "{before}{}  {took}", span.name);
    for (word, name) in [
        ("in", names::USAGE_INPUT_TOKENS),
        ("out", names::USAGE_OUTPUT_TOKENS),
    ] {
        if let Some(tokens) = span.attributes.int(name) {
            let _ = write!(text, "  {word} {tokens}");
        }
    }
    if span.parent.is_none() {
        let run = span.attributes.text(names::RUN_ID).unwrap_or_default();
        let outcome = span.attributes.text(names::OUTCOME).unwrap_or_default();
        let _ = write!(text, "  {outcome}  {run}  trace {}", span.context.trace_id);
    }
    if let Status::Error(message) = &span.status {
        let kind = span.attributes.text(names::ERROR_TYPE).unwrap_or("error");
        let _ = write!(text, "  {kind}: {}", message.replace('\n', " "));
    }
    text.push('\n');
}

fn duration(duration: Duration) -> String {
    match duration {
        long if long >= Duration::from_secs(1) => format!("{:.2} s", long.as_secs_f64()),
        short => format!("{:.1} ms", short.as_secs_f64() * 1000.0),
    }
}
