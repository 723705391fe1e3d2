//! Samples of one instance, taken from time to time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    figures::{Sample, Usage},
    proc::{Found, Ledger},
};

/// Samples that are kept.
const LENGTH: usize = 120;

/// A share of a core cannot be told of a shorter time: the kernel counts in hundredths of a second.
pub(super) const SHORTEST: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct History {
    began: Instant,
    ledger: Ledger,
    samples: VecDeque<Sample>,
    /// When the last sample was taken, and the processor time until then.
    last: Option<(Instant, Duration)>,
    peak: u64,
}

impl History {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            ledger: Ledger::default(),
            samples: VecDeque::new(),
            last: None,
            peak: 0,
        }
    }

    /// Whether the last sample is old enough for another one.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|(last, _)| now.saturating_duration_since(last) >= SHORTEST)
    }

    /// Looks at the processes; `cpu` is their time if somebody counts it better. The rest of the sample is `told`.
    pub(super) fn take(
        &mut self,
        members: &[i32],
        cpu: Option<Duration>,
        told: Sample,
        now: Instant,
    ) {
        let found = self.ledger.look(members);
        let cpu = cpu.unwrap_or_else(|| ticks(found.ticks));
        let (since, before) = self.last.unwrap_or((self.began, Duration::ZERO));
        let cpu = cpu.max(before);
        let passed = now.saturating_duration_since(since).max(SHORTEST);
        let percent = 100.0 * (cpu - before).as_secs_f64() / passed.as_secs_f64();
        self.peak = self.peak.max(found.rss_bytes).max(found.peak_bytes);
        self.last = Some((now, cpu));
        if self.samples.len() == LENGTH {
            self.samples.pop_front();
        }
        self.samples.push_back(sample(&found, percent, told));
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            now: self.samples.back().copied().unwrap_or_default(),
            peak_rss_bytes: self.peak,
            cpu_seconds: self.last.map_or(0.0, |(_, cpu)| cpu.as_secs_f64()),
            ..Usage::default()
        }
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.samples.iter().copied().collect()
    }
}

fn sample(found: &Found, percent: f64, told: Sample) -> Sample {
    Sample {
        rss_bytes: found.rss_bytes,
        // Tenths are all that a tick is good for.
        cpu_percent: (percent * 10.0).round() / 10.0,
        open_files: found.open_files,
        threads: found.threads,
        children: found.processes.saturating_sub(1),
        read_bytes: found.read_bytes,
        written_bytes: found.written_bytes,
        ..told
    }
}

fn ticks(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks * 1000 / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_has_an_end_and_time_does_not_run_backwards() {
        let start = Instant::now();
        let mut history = History::new(start);
        for second in 1..=200 {
            let cpu = Duration::from_millis(500 * second.min(100));
            let now = start + Duration::from_secs(second);
            history.take(&[], Some(cpu), Sample::default(), now);
        }
        let percents: Vec<f64> = history
            .samples()
            .iter()
            .map(|sample| sample.cpu_percent)
            .collect();
        assert_eq!(percents.len(), LENGTH);
        assert_eq!((percents[0], percents[LENGTH - 1]), (50.0, 0.0));
        assert!((history.usage().cpu_seconds - 50.0).abs() < 0.001);
        history.take(
            &[],
            None,
            Sample::default(),
            start + Duration::from_secs(201),
        );
        assert!((history.usage().cpu_seconds - 50.0).abs() < 0.001);
    }
}
