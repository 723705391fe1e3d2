//! What tokens cost.

use std::collections::BTreeMap;

use adjutant_core::TokenUsage;
use serde::{Deserialize, Deserializer, de};

use crate::ConfigError;

/// The prices that come with this version.
const BUILT_IN: &str = include_str!("../prices.json");

/// Prices of a model in US dollars per million tokens. What is absent has no known price: a call that takes such tokens
/// has no known cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens sent.
    pub input: Rate,
    /// Tokens received, those of reasoning included.
    pub output: Rate,
    /// Tokens sent that the provider had in its cache.
    #[serde(default)]
    pub cached_input: Option<Rate>,
    /// Tokens sent that the provider put into its cache.
    #[serde(default)]
    pub cache_write: Option<Rate>,
    /// Calls with more input tokens than this have other prices: those of `long`, or unknown ones.
    #[serde(default)]
    pub up_to_input_tokens: Option<u64>,
    /// The prices beyond `up_to_input_tokens`, for all tokens of such a call.
    #[serde(default)]
    pub long: Option<LongPrice>,
}

/// Prices of calls with a long input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPrice {
    /// Tokens sent.
    pub input: Rate,
    /// Tokens received.
    pub output: Rate,
    /// Tokens sent that the provider had in its cache.
    #[serde(default)]
    pub cached_input: Option<Rate>,
    /// Tokens sent that the provider put into its cache.
    #[serde(default)]
    pub cache_write: Option<Rate>,
}

/// A price of a million tokens, in whole millionths of a US dollar: `3.0` in a file is 3,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// US dollars per million tokens. Rounded to a millionth of a dollar.
    #[must_use]
    pub fn dollars_per_million(dollars: f64) -> Option<Self> {
        let micros = (dollars * 1e6).round();
        (0.0..=1e15)
            .contains(&micros)
            .then_some(Self(micros as u64))
    }

    /// Millionths of a dollar per million tokens are 10⁻¹² dollars per token.
    const fn of(self, tokens: u64) -> u128 {
        self.0 as u128 * tokens as u128
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let dollars = f64::deserialize(deserializer)?;
        Self::dollars_per_million(dollars).ok_or_else(|| {
            de::Error::invalid_value(
                de::Unexpected::Float(dollars),
                &"a price in US dollars per million tokens, from 0 to 1,000,000,000",
            )
        })
    }
}

/// The cost of a call, exact to 10⁻¹² of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cost(u128);

impl Cost {
    /// The cost that [`Cost::usd`] gave: a float cannot be rounded up by itself, since it may lie a hair above what it
    /// stands for. Negative or absurd amounts are none.
    #[must_use]
    pub fn from_usd(usd: f64) -> Self {
        let exact = (usd * 1e12).round();
        Self(if (0.0..1e30).contains(&exact) {
            exact as u128
        } else {
            0
        })
    }

    /// In US dollars, rounded to the nearest number that a float can hold.
    #[must_use]
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e12
    }

    /// In whole millionths of a US dollar, rounded up, so that an account that adds these is never below the bill.
    #[must_use]
    pub fn micro_usd(self) -> u64 {
        u64::try_from(self.0.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

impl Price {
    /// What a call of this usage costs, or none if part of it has no known price.
    #[must_use]
    pub fn cost(&self, usage: &TokenUsage) -> Option<Cost> {
        let rates = self.rates(usage.input_tokens)?;
        let cached = usage.cache_read_tokens.unwrap_or(0);
        let written = usage.cache_write_tokens.unwrap_or(0);
        let plain = usage
            .input_tokens
            .checked_sub(cached)?
            .checked_sub(written)?;
        let part = |rate: Option<Rate>, tokens: u64| match (rate, tokens) {
            (_, 0) => Some(0),
            (Some(rate), tokens) => Some(rate.of(tokens)),
            (None, _) => None,
        };
        Some(Cost(
            rates.input.of(plain)
                + rates.output.of(usage.output_tokens)
                + part(rates.cached_input, cached)?
                + part(rates.cache_write, written)?,
        ))
    }

    fn rates(&self, input_tokens: u64) -> Option<LongPrice> {
        match self.up_to_input_tokens {
            Some(limit) if input_tokens > limit => self.long,
            _ => Some(LongPrice {
                input: self.input,
                output: self.output,
                cached_input: self.cached_input,
                cache_write: self.cache_write,
            }),
        }
    }
}

/// Prices by `provider/model`. A pattern may hold `*`, which stands for any text; the longest pattern that fits counts.
#[derive(Debug, Clone, Default)]
pub struct PriceTable {
    /// Own prices first; within each layer the longest pattern first.
    layers: Vec<Vec<(String, Price)>>,
    date: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    date: String,
    #[serde(rename = "about")]
    _about: String,
    prices: BTreeMap<String, Price>,
}

impl PriceTable {
    /// The prices that come with this version.
    ///
    /// # Errors
    /// Never: a test reads the file.
    pub fn built_in() -> Result<Self, ConfigError> {
        let file: File = serde_json::from_str(BUILT_IN)
            .map_err(|error| ConfigError::new(format!("prices.json: {error}")))?;
        Ok(Self {
            layers: vec![longest_first(file.prices)],
            date: file.date,
        })
    }

    /// The same table with own prices, which come before all others.
    #[must_use]
    pub fn with(mut self, own: BTreeMap<String, Price>) -> Self {
        self.layers.insert(0, longest_first(own));
        self
    }

    /// The day on which the built-in prices were looked up, such as `2026-11-21`.
    #[must_use]
    pub fn date(&self) -> &str {
        &self.date
    }

    /// The price of `provider/model`, where it is known.
    #[must_use]
    pub fn price(&self, model: &str) -> Option<&Price> {
        let mut rows = self.layers.iter().flatten();
        rows.find(|(pattern, _)| matches(pattern, model))
            .map(|(_, price)| price)
    }

    /// What a call of this usage costs at `provider/model`, where that is known.
    #[must_use]
    pub fn cost(&self, model: &str, usage: &TokenUsage) -> Option<Cost> {
        self.price(model)?.cost(usage)
    }
}

fn longest_first(prices: BTreeMap<String, Price>) -> Vec<(String, Price)> {
    let mut rows: Vec<_> = prices.into_iter().collect();
    rows.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
    rows
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.any(|at| text.get(at..).is_some_and(|tail| matches(rest, tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64) -> TokenUsage {
        TokenUsage {
            input_tokens: input,
            output_tokens: output,
            ..TokenUsage::default()
        }
    }

    fn table() -> PriceTable {
        PriceTable::built_in().unwrap()
    }

    #[test]
    fn the_cost_of_a_call_is_exact() {
        let used = TokenUsage {
            cache_read_tokens: Some(1000),
            cache_write_tokens: Some(500),
            ..usage(2500, 200)
        };
        let cost = table().cost("anthropic/claude-sonnet-4-5", &used).unwrap();
        // 1000 * 3 + 1000 * 0.30 + 500 * 3.75 + 200 * 15 dollars per million.
        assert_eq!(cost.usd(), 0.008_175);
        assert_eq!(cost.micro_usd(), 8175);
    }

    #[test]
    fn micro_dollars_are_rounded_up() {
        let cost = table().cost("openai/gpt-4o-mini", &usage(1, 0)).unwrap();
        assert_eq!(cost.usd(), 0.000_000_15);
        assert_eq!(cost.micro_usd(), 1);
        assert_eq!(Cost::default().micro_usd(), 0);
        // As a float this is 8175.000000000001 millionths.
        assert_eq!(Cost::from_usd(0.008_175).micro_usd(), 8175);
        assert_eq!(Cost::from_usd(cost.usd()), cost);
        assert_eq!(Cost::from_usd(f64::NAN), Cost::default());
    }

    #[test]
    fn what_has_no_known_price_has_no_cost() {
        assert_eq!(table().cost("openai/gpt-77", &usage(1, 1)), None);
        let price = Price {
            input: Rate(1),
            output: Rate(1),
            cached_input: None,
            cache_write: None,
            up_to_input_tokens: Some(10),
            long: None,
        };
        assert!(price.cost(&usage(10, 1)).is_some());
        assert_eq!(price.cost(&usage(11, 1)), None);
        let cached = TokenUsage {
            cache_read_tokens: Some(5),
            ..usage(10, 1)
        };
        assert_eq!(price.cost(&cached), None);
    }

    #[test]
    fn a_long_input_has_its_own_price() {
        let table = table();
        let short = table.cost("anthropic/claude-haiku-5-5", &usage(100_000, 0));
        let long = table.cost("anthropic/claude-haiku-5-5", &usage(100_001, 0));
        assert_eq!(short.unwrap().usd(), 0.01);
        assert_eq!(long.unwrap().micro_usd(), 50_001);
    }

    #[test]
    fn dated_names_have_the_price_of_their_model_and_other_models_have_not() {
        let table = table();
        assert_eq!(
            table.price("openai/gpt-4.1-mini-2025-04-14"),
            table.price("openai/gpt-4.1-mini")
        );
        assert_ne!(
            table.price("openai/gpt-4.1-mini"),
            table.price("openai/gpt-4.1")
        );
        assert_eq!(table.price("openai/gpt-4.1-turbo-new"), None);
    }

    #[test]
    fn own_prices_come_first() {
        let own = r#"{"openai/*": {"input": 1, "output": 2}}"#;
        let table = table().with(serde_json::from_str(own).unwrap());
        let cost = table.cost("openai/gpt-4.1", &usage(1_000_000, 1_000_000));
        assert_eq!(cost.unwrap().usd(), 3.0);
        assert!(table.price("anthropic/claude-sonnet-4-5").is_some());
    }

    #[test]
    fn patterns_fit_as_wholes() {
        for (pattern, text, fits) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/*", "a/", true),
            ("a/*c", "a/bbc", true),
            ("a/*c*", "a/bcd", true),
            ("*", "", true),
            ("a*b*c", "axbx", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_price_that_is_none_is_refused() {
        for wrong in ["-1", "1e30", "null", "\"3\""] {
            let text = format!(r#"{{"input": {wrong}, "output": 1}}"#);
            assert!(serde_json::from_str::<Price>(&text).is_err(), "{wrong}");
        }
    }
}
