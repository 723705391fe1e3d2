//! The table: figures beside yardsticks and aims.

use std::{fmt, time::Duration};

use serde::Serialize;

/// What a figure or its ratio should be.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {} {unit}", short(bound)),
            Self::AtMost(bound) => format!("<= {} {unit}", short(bound)),
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub figure: f64,
    pub unit: &'static str,
    /// The figure over the yardstick's.
    pub ratio: Option<f64>,
    pub yardstick: Option<String>,
    pub aim: Option<String>,
    pub ok: Option<bool>,
}

impl Row {
    pub fn new(name: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            figure,
            unit,
            ratio: None,
            yardstick: None,
            aim: None,
            ok: None,
        }
    }

    /// Compares with a yardstick of the same unit, if it was measured.
    pub fn over(mut self, yardstick: Option<&Self>) -> Self {
        if let Some(other) = yardstick.filter(|other| other.figure > 0.0) {
            self.ratio = Some(self.figure / other.figure);
            self.yardstick = Some(other.name.clone());
        }
        self
    }

    pub fn at_least(self, bound: f64) -> Self {
        let (value, unit) = (Some(self.figure), self.unit);
        self.aim(Bound::AtLeast(bound), value, unit)
    }

    pub fn at_most(self, bound: f64) -> Self {
        let (value, unit) = (Some(self.figure), self.unit);
        self.aim(Bound::AtMost(bound), value, unit)
    }

    pub fn ratio_at_least(self, bound: f64) -> Self {
        let ratio = self.ratio;
        self.aim(Bound::AtLeast(bound), ratio, "x")
    }

    pub fn ratio_at_most(self, bound: f64) -> Self {
        let ratio = self.ratio;
        self.aim(Bound::AtMost(bound), ratio, "x")
    }

    fn aim(mut self, bound: Bound, value: Option<f64>, unit: &str) -> Self {
        let holds = value.map(|value| bound.holds(value));
        let text = bound.text(unit);
        // A row with two aims is right when both hold.
        self.ok = match (self.ok, holds) {
            (Some(before), Some(now)) => Some(before && now),
            (before, now) => before.or(now),
        };
        self.aim = Some(match self.aim {
            Some(before) => format!("{before}, {text}"),
            None => text,
        });
        self
    }

    pub fn line(&self) -> String {
        let ratio = match (&self.ratio, &self.yardstick) {
            (Some(ratio), Some(yardstick)) => format!("{ratio:.2} x {yardstick}"),
            _ => String::new(),
        };
        let verdict = match self.ok {
            Some(true) => "ok",
            Some(false) => "miss",
            None => "",
        };
        let (name, figure, unit) = (&self.name, short(self.figure), self.unit);
        let aim = self.aim.as_deref().unwrap_or_default();
        format!("{name:<44} {figure:>9} {unit:<9} {ratio:<45} {aim:<20} {verdict}")
            .trim_end()
            .to_owned()
    }
}

/// The line above the rows.
pub fn heading() -> String {
    format!(
        "{:<44} {:>9} {:<9} {:<45} {:<20} ok?",
        "name", "figure", "unit", "ratio to yardstick", "aim"
    )
}

/// Three or more significant digits, and no more than are worth reading.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => grouped(value),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How busy the machine is: others' work makes figures worse.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Machine {
    processors: usize,
    /// Threads that were running or ready in the last minute, where the system tells.
    load: Option<f64>,
}

impl Machine {
    pub fn now() -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").ok();
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            load: load.and_then(|text| text.split_whitespace().next()?.parse().ok()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} processors", self.processors)?;
        match self.load {
            Some(load) => write!(f, ", load {load:.1}"),
            None => Ok(()),
        }
    }
}

/// Times that were measured one by one.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// In microseconds; 50 is the median, 0 the best.
    pub fn percentile(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(f64::NAN, |time| micros(*time))
    }
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_by_all_its_aims() {
        let yardstick = Row::new("bare", 1000.0, "runs/s");
        let row = Row::new("ours", 900.0, "runs/s")
            .over(Some(&yardstick))
            .ratio_at_least(0.8)
            .at_least(1_000.0);
        assert_eq!(row.ok, Some(false));
        assert_eq!(row.aim.as_deref(), Some(">= 0.80 x, >= 1,000 runs/s"));
        assert!(row.line().ends_with("miss"), "{}", row.line());
    }

    #[test]
    fn without_its_yardstick_a_row_is_not_judged() {
        let row = Row::new("ours", 900.0, "runs/s")
            .over(None)
            .ratio_at_least(0.8);
        assert_eq!(row.ok, None);
    }

    #[test]
    fn large_figures_are_grouped() {
        assert_eq!(short(1_234_567.0), "1,234,567");
        assert_eq!(short(999.6), "1,000");
        assert_eq!(short(12.345), "12.3");
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = Times::new([3, 1, 2].map(Duration::from_micros).to_vec());
        assert_eq!(times.percentile(0), 1.0);
        assert_eq!(times.percentile(50), 2.0);
        assert_eq!(times.percentile(100), 3.0);
    }
}
