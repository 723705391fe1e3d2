//! What Langfuse wants to find on every span.

use async_trait::async_trait;

use crate::{Measurement, Span, TraceSink, conventions as names};

/// Hands spans on with the fields by which Langfuse groups and shows them. Without content there is none in them either.
#[derive(Debug, Clone)]
pub struct LangfuseFields<S>(pub S);

#[async_trait]
impl<S: TraceSink> TraceSink for LangfuseFields<S> {
    fn record(&self, mut span: Span) {
        add_fields(&mut span);
        self.0.record(span);
    }

    fn metric(&self, measurement: Measurement) {
        self.0.metric(measurement);
    }

    async fn flush(&self) {
        self.0.flush().await;
    }

    fn dropped(&self) -> u64 {
        self.0.dropped()
    }

    fn enabled(&self) -> bool {
        self.0.enabled()
    }
}

/// Langfuse shows sessions, so all claims of a run, and all runs of a conversation, are one.
fn add_fields(span: &mut Span) {
    let from = span.attributes.clone();
    let to = &mut span.attributes;
    let text = |name: &str| from.text(name).map(str::to_owned);
    let session = text(names::CONVERSATION_ID).or_else(|| text(names::RUN_ID));
    to.set_some("langfuse.session.id", session);
    to.set_some("langfuse.user.id", text(names::USER_ID));
    to.set_some("langfuse.trace.name", text(names::AGENT_NAME));
    to.set_some("langfuse.trace.tags", from.get(names::RUN_TAGS).cloned());
    to.set_some("langfuse.trace.metadata.run_id", text(names::RUN_ID));
    let attempt = from.int(names::RUN_ATTEMPT).map(|it| it.to_string());
    to.set_some("langfuse.trace.metadata.attempt", attempt);
    to.set_some("langfuse.version", text(names::AGENT_VERSION));
    to.set_some("gen_ai.usage.cost", from.get(names::COST_USD).cloned());
    let kind = match from.text(names::OPERATION_NAME) {
        Some("invoke_agent") => "agent",
        Some("chat") => "generation",
        Some("execute_tool") => "tool",
        _ => "span",
    };
    to.set("langfuse.observation.type", kind);
    let input = text(names::INPUT_MESSAGES).or_else(|| text(names::TOOL_CALL_ARGUMENTS));
    to.set_some("langfuse.observation.input", input);
    let output = text(names::OUTPUT_MESSAGES).or_else(|| text(names::TOOL_CALL_RESULT));
    to.set_some("langfuse.observation.output", output);
}
