//! Traces for people who look at a terminal, or for programs that read JSON lines.

use std::{collections::BTreeMap, io::Write};

use async_trait::async_trait;

use crate::{
    ConsoleStyle, Exporter, Lost, Queued, Record, Result, Span, TraceId, console_tree::draw,
};

/// Spans of traces that are not yet over and wait to be drawn. Beyond them, the oldest trace is drawn as far as it is known.
const TREE_SPANS: usize = 10_000;

/// Writes traces as trees, or spans and figures as JSON lines. Behind a queue, since a terminal may be slow.
pub struct ConsoleExporter<W> {
    to: W,
    style: ConsoleStyle,
    /// By trace; each in the order in which its first span ended.
    open: BTreeMap<u64, (TraceId, Vec<Span>)>,
    traces: u64,
}

impl<W: Write + Send + 'static> ConsoleExporter<W> {
    /// An exporter that writes here.
    pub const fn new(to: W, style: ConsoleStyle) -> Self {
        Self {
            to,
            style,
            open: BTreeMap::new(),
            traces: 0,
        }
    }

    /// A sink that writes here.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn start(to: W, style: ConsoleStyle) -> Result<Queued> {
        Queued::start("telemetry-console", move || Ok(Self::new(to, style)))
    }

    fn take(&mut self, record: Record) -> std::io::Result<()> {
        match (self.style, record) {
            (ConsoleStyle::Json, Record::Span(span)) => self.line(&span),
            (ConsoleStyle::Json, Record::Measurement(measurement)) => self.line(&measurement),
            (ConsoleStyle::Tree, Record::Span(span)) => self.keep(*span),
            // A tree has no place for figures, and the spans have them too.
            (ConsoleStyle::Tree, Record::Measurement(_)) => Ok(()),
        }
    }

    fn line(&mut self, value: &impl serde::Serialize) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.to, value)?;
        self.to.write_all(b"\n")
    }

    /// Keeps a span until the one at the root of its trace is there.
    fn keep(&mut self, span: Span) -> std::io::Result<()> {
        let trace = span.context.trace_id;
        let is_root = span.parent.is_none();
        let known = self.open.iter().find(|(_, (id, _))| *id == trace);
        let number = known.map_or(self.traces, |(number, _)| *number);
        self.traces = self.traces.max(number + 1);
        let (_, spans) = self.open.entry(number).or_insert((trace, Vec::new()));
        spans.push(span);
        if is_root {
            return self.draw(number);
        }
        let kept: usize = self.open.values().map(|(_, spans)| spans.len()).sum();
        match self.open.first_key_value() {
            Some((oldest, _)) if kept > TREE_SPANS => self.draw(*oldest),
            _ => Ok(()),
        }
    }

    fn draw(&mut self, number: u64) -> std::io::Result<()> {
        match self.open.remove(&number) {
            Some((_, spans)) => self.to.write_all(draw(&spans).as_bytes()),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl<W: Write + Send + 'static> Exporter for ConsoleExporter<W> {
    async fn export(&mut self, batch: Vec<Record>) -> Result<(), Lost> {
        let mut rest = batch.into_iter();
        let written = rest.try_for_each(|record| self.take(record));
        written
            .and_then(|()| self.to.flush())
            .map_err(|error| Lost {
                records: rest.len() as u64 + 1,
                reason: error.to_string(),
            })
    }

    async fn flush(&mut self) {
        // Who reads has gone away, or not: nobody else would want to know.
        while let Some((number, _)) = self.open.first_key_value() {
            let number = *number;
            let _ = self.draw(number);
        }
        let _ = self.to.flush();
    }
}
