//! What an agent may spend and do, as people write it down.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, str::FromStr};

use adjutant_budget::{Caps, Period};
use adjutant_core::{Effect, OnInterrupt};
use adjutant_tools::{Pattern, ToolFilter};
use serde::{Deserialize, Serialize};

/// Dollars, exact to a millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Money {
    micros: u64,
}

impl Money {
    /// So many millionths of a dollar.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// In millionths of a dollar.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.micros
    }
}

impl TryFrom<f64> for Money {
    type Error = String;

    fn try_from(dollars: f64) -> Result<Self, String> {
        if !dollars.is_finite() || !(0.0..=1e9).contains(&dollars) {
            return Err("must be dollars, 0 or more, such as 0.50".to_owned());
        }
        Ok(Self {
            micros: (dollars * 1e6).round() as u64,
        })
    }
}

impl From<Money> for f64 {
    fn from(money: Money) -> Self {
        money.micros as Self / 1e6
    }
}

impl FromStr for Money {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().trim_start_matches('$');
        let dollars: f64 = number
            .parse()
            .map_err(|_| format!("{text:?} is no amount of dollars"))?;
        Self::try_from(dollars)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "${}.{:06}",
            self.micros / 1_000_000,
            self.micros % 1_000_000
        )
    }
}

/// The most that somebody may spend; what is absent has no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spend {
    /// Dollars. Calls of models whose prices are not known cost nothing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd: Option<Money>,
    /// Tokens of models, in and out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Calls of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_calls: Option<u64>,
    /// Calls of tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
    /// Runs that are begun below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// How long until the account starts anew; absent means never. For agents and tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<Period>,
}

impl Spend {
    /// The bounds as the ledger has them.
    #[must_use]
    pub fn caps(&self) -> Caps {
        Caps {
            tokens: self.tokens,
            micro_usd: self.usd.map(Money::micros),
            tool_calls: self.tool_calls,
            model_calls: self.model_calls,
            runs: self.runs,
        }
    }
}

/// What happens when a budget has no room for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceeded {
    /// The run fails with `budget_exceeded`.
    #[default]
    Fail,
    /// The run waits for a person, who makes room first and then lets it go on.
    Pause,
}

/// What an agent's runs may spend: `budget` in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetPolicy {
    /// Each run by itself.
    pub run: Spend,
    /// A run that nobody delegated, with everything below it.
    pub tree: Spend,
    /// All runs of the agent.
    pub agent: Spend,
    /// All runs of one tenant; the tenant is the run's metadata `tenant`.
    pub tenant: Spend,
    /// What happens when there is no room.
    pub on_exceeded: OnExceeded,
    /// From how many percent of a bound on people are warned, 1 to 100. Default 80.
    pub warn_percent: u8,
    /// Most delegations below each other. Default 8.
    pub max_depth: u32,
    /// Most children of one run. Default 256.
    pub max_breadth: u32,
    /// Longest time from a run's first call on, waits included, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<u64>,
    /// So many times may a run make the same calls with the same answers one after the other. Default 5.
    pub max_repeats: NonZeroU32,
}

/// Default of [`BudgetPolicy::max_repeats`].
const MAX_REPEATS: NonZeroU32 = match NonZeroU32::new(5) {
    Some(repeats) => repeats,
    None => NonZeroU32::MIN,
};

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self {
            run: Spend::default(),
            tree: Spend::default(),
            agent: Spend::default(),
            tenant: Spend::default(),
            on_exceeded: OnExceeded::default(),
            warn_percent: 80,
            max_depth: 8,
            max_breadth: 256,
            wall_seconds: None,
            max_repeats: MAX_REPEATS,
        }
    }
}

/// How an agent may use its tools: `tools` in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolPolicy {
    /// Names and patterns that may be called, such as `files__*`; empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Pattern>,
    /// Names and patterns that may not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Pattern>,
    /// Names and patterns that a person has to agree to, call by call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ask: Vec<Pattern>,
    /// What becomes of a call that must not be made twice and was cut off in the middle, by name or pattern. Default:
    /// `ask`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub on_interrupt: BTreeMap<String, OnInterrupt>,
    /// Whether a tool may ask the agent's model during a call, at the run's cost. Default: no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sampling: bool,
}

impl ToolPolicy {
    /// Which tools the agent sees.
    #[must_use]
    pub fn filter(&self) -> ToolFilter {
        ToolFilter {
            allow: self.allow.clone(),
            deny: self.deny.clone(),
        }
    }

    /// Whether a person has to agree to calls of this tool.
    #[must_use]
    pub fn asks(&self, tool: &str) -> bool {
        self.ask.iter().any(|pattern| pattern.matches(tool))
    }

    /// What becomes of an interrupted call of this tool.
    #[must_use]
    pub fn on_interrupt(&self, tool: &str, effect: Effect) -> OnInterrupt {
        if effect.may_repeat() {
            return OnInterrupt::Repeat;
        }
        let mut rules = self.on_interrupt.iter();
        rules
            .find(|(pattern, _)| Pattern::from(pattern.as_str()).matches(tool))
            .map_or(OnInterrupt::Ask, |(_, rule)| *rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_to_a_millionth() {
        let money: Money = serde_json::from_str("0.1").unwrap();
        assert_eq!(money.micros(), 100_000);
        assert_eq!("$12.5".parse::<Money>().unwrap().to_string(), "$12.500000");
        assert!("-1".parse::<Money>().is_err());
        assert!(serde_json::from_str::<Money>("1e12").is_err());
    }
}
