//! What is spent, and how much of it may be.

use serde::{Deserialize, Serialize};

/// One of the figures of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Tokens of models, in and out.
    Tokens,
    /// Cost in millionths of a US dollar.
    MicroUsd,
    /// Calls of tools.
    ToolCalls,
    /// Calls of models.
    ModelCalls,
    /// Runs that were begun.
    Runs,
}

impl Figure {
    /// All of them, in the order in which caps are looked at.
    pub const ALL: [Self; 5] = [
        Self::Tokens,
        Self::MicroUsd,
        Self::ToolCalls,
        Self::ModelCalls,
        Self::Runs,
    ];

    /// Its name as it is printed and stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::MicroUsd => "micro_usd",
            Self::ToolCalls => "tool_calls",
            Self::ModelCalls => "model_calls",
            Self::Runs => "runs",
        }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// So much of every figure. Sums stop at [`Amount::MOST`], differences at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amount {
    /// Tokens of models, in and out.
    pub tokens: u64,
    /// Cost in millionths of a US dollar.
    pub micro_usd: u64,
    /// Calls of tools.
    pub tool_calls: u64,
    /// Calls of models.
    pub model_calls: u64,
    /// Runs that were begun.
    pub runs: u64,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self {
        tokens: 0,
        micro_usd: 0,
        tool_calls: 0,
        model_calls: 0,
        runs: 0,
    };

    /// The most of one figure: exact as a number in JSON and in every engine.
    pub const MOST: u64 = (1 << 53) - 1;

    /// One of the figures.
    #[must_use]
    pub const fn get(&self, figure: Figure) -> u64 {
        match figure {
            Figure::Tokens => self.tokens,
            Figure::MicroUsd => self.micro_usd,
            Figure::ToolCalls => self.tool_calls,
            Figure::ModelCalls => self.model_calls,
            Figure::Runs => self.runs,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, |a, b| a.saturating_add(b).min(Self::MOST))
    }

    /// This without the other.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// Nothing above [`Amount::MOST`].
    #[must_use]
    pub fn bounded(self) -> Self {
        self.plus(Self::ZERO)
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    fn each(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            tokens: f(self.tokens, other.tokens),
            micro_usd: f(self.micro_usd, other.micro_usd),
            tool_calls: f(self.tool_calls, other.tool_calls),
            model_calls: f(self.model_calls, other.model_calls),
            runs: f(self.runs, other.runs),
        }
    }
}

/// The most that may be spent, by figure; `None` is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Caps {
    /// Tokens of models, in and out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Cost in millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_usd: Option<u64>,
    /// Calls of tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
    /// Calls of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_calls: Option<u64>,
    /// Runs that are begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
}

impl Caps {
    /// The bound of a figure.
    #[must_use]
    pub const fn get(&self, figure: Figure) -> Option<u64> {
        match figure {
            Figure::Tokens => self.tokens,
            Figure::MicroUsd => self.micro_usd,
            Figure::ToolCalls => self.tool_calls,
            Figure::ModelCalls => self.model_calls,
            Figure::Runs => self.runs,
        }
    }

    /// The figures that are bounded, with their bounds.
    pub fn iter(&self) -> impl Iterator<Item = (Figure, u64)> {
        let caps = *self;
        let figures = Figure::ALL.into_iter();
        figures.filter_map(move |figure| Some((figure, caps.get(figure)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_stay_in_range() {
        let most = Amount {
            tokens: u64::MAX,
            ..Amount::ZERO
        };
        assert_eq!(most.bounded().tokens, Amount::MOST);
        assert_eq!(most.plus(most).tokens, Amount::MOST);
        assert_eq!(Amount::ZERO.minus(most), Amount::ZERO);
    }

    #[test]
    fn only_bounded_figures_are_looked_at() {
        let caps = Caps {
            tool_calls: Some(3),
            tokens: Some(7),
            ..Caps::default()
        };
        let bounds: Vec<_> = caps.iter().collect();
        assert_eq!(bounds, [(Figure::Tokens, 7), (Figure::ToolCalls, 3)]);
    }
}
