//! A bounded number of answers, the one used longest ago leaving first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use adjutant_core::ModelResponse;
use tokio::time::Instant;

use crate::CacheConfig;

pub(super) struct Shelf {
    config: CacheConfig,
    answers: HashMap<Arc<str>, Kept>,
    /// Keys by when they were used last, counted in uses.
    order: BTreeMap<u64, Arc<str>>,
    uses: u64,
    bytes: usize,
}

struct Kept {
    response: ModelResponse,
    since: Instant,
    used: u64,
    bytes: usize,
}

impl Shelf {
    pub(super) fn new(config: CacheConfig) -> Self {
        Self {
            config,
            answers: HashMap::new(),
            order: BTreeMap::new(),
            uses: 0,
            bytes: 0,
        }
    }

    pub(super) fn get(&mut self, key: &str, now: Instant) -> Option<ModelResponse> {
        let kept = self.answers.get_mut(key)?;
        if now.saturating_duration_since(kept.since) >= self.config.ttl {
            self.remove(key);
            return None;
        }
        self.uses += 1;
        if let Some(key) = self.order.remove(&kept.used) {
            self.order.insert(self.uses, key);
        }
        kept.used = self.uses;
        Some(kept.response.clone())
    }

    /// Keeps an answer; one that is larger than the whole shelf is not kept.
    pub(super) fn put(&mut self, key: Arc<str>, response: ModelResponse, now: Instant) {
        // The answer's size is counted as it would be written; its form in memory is of the same order.
        let answer = serde_json::to_vec(&response).map_or(0, |text| text.len());
        let bytes = key.len() + answer;
        if bytes > self.config.max_bytes.get() {
            return;
        }
        self.remove(&key);
        self.uses += 1;
        self.bytes += bytes;
        self.order.insert(self.uses, key.clone());
        let kept = Kept {
            response,
            since: now,
            used: self.uses,
            bytes,
        };
        self.answers.insert(key, kept);
        while self.answers.len() > self.config.max_entries.get()
            || self.bytes > self.config.max_bytes.get()
        {
            let Some((_, oldest)) = self.order.first_key_value() else {
                break;
            };
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(kept) = self.answers.remove(key) {
            self.order.remove(&kept.used);
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use adjutant_core::{FinishReason, Message, TokenUsage};

    use super::*;

    fn response(text: &str) -> ModelResponse {
        ModelResponse {
            message: Message::assistant(text),
            finish_reason: FinishReason::Stop,
            model: String::new(),
            usage: TokenUsage::default(),
            cost_usd: None,
            response_id: None,
        }
    }

    fn shelf(entries: usize, bytes: usize) -> Shelf {
        Shelf::new(CacheConfig {
            max_entries: NonZeroUsize::new(entries).unwrap(),
            max_bytes: NonZeroUsize::new(bytes).unwrap(),
            ..CacheConfig::default()
        })
    }

    #[test]
    fn the_answer_used_longest_ago_leaves_first() {
        let now = Instant::now();
        let mut shelf = shelf(2, 1 << 20);
        shelf.put("a".into(), response("a"), now);
        shelf.put("b".into(), response("b"), now);
        assert!(shelf.get("a", now).is_some());
        shelf.put("c".into(), response("c"), now);
        assert!(shelf.get("b", now).is_none());
        assert!(shelf.get("a", now).is_some() && shelf.get("c", now).is_some());
    }

    #[test]
    fn bytes_are_bounded_and_counted_back() {
        let now = Instant::now();
        let mut shelf = shelf(100, 1000);
        for n in 0..50 {
            shelf.put(n.to_string().into(), response(&"x".repeat(300)), now);
            assert!(shelf.bytes <= 1000);
        }
        shelf.put("big".into(), response(&"x".repeat(3000)), now);
        assert!(shelf.get("big", now).is_none());
        for n in 0..50 {
            shelf.remove(&n.to_string());
        }
        assert_eq!((shelf.bytes, shelf.order.len()), (0, 0));
    }
}
