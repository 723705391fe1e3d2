//! Random tasks: an engine and the memory ledger give the same answers and end with the same balances.

use std::{sync::Arc, time::Duration};

use adjutant_core::{Error, Result, RunId};

use super::{
    Fixture,
    fixture::{account, key},
};
use crate::{
    Amount, BalanceFilter, BudgetLedger, Caps, Claim, MOST_LISTED, MemoryLedger, Period, Reserve,
};

/// A small generator, so that a seed means the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn amount(&mut self, most: u64) -> Amount {
        Amount {
            tokens: self.below(most),
            micro_usd: self.below(most),
            tool_calls: self.below(3),
            model_calls: self.below(2),
            runs: self.below(2),
        }
    }

    fn caps(&mut self) -> Caps {
        let mut cap = |most: u64| (self.below(2) == 0).then(|| self.below(most));
        Caps {
            tokens: cap(2000),
            micro_usd: cap(2000),
            tool_calls: cap(60),
            model_calls: cap(60),
            runs: cap(60),
        }
    }

    fn claims(&mut self) -> Vec<Claim> {
        const PERIODS: [Option<Period>; 4] = [
            None,
            Some(Period::Hour),
            Some(Period::Day),
            Some(Period::Month),
        ];
        let names = ["tenant:a", "tenant:b", "agent:x", "run:1", "tree:1"];
        let claims = (0..self.below(4)).map(|_| {
            let name = names[usize::try_from(self.below(5)).unwrap()];
            let mut claim = Claim::new(account(name), self.caps());
            claim.period = PERIODS[usize::try_from(self.below(4)).unwrap()];
            claim.warn_percent =
                [None, Some(50), Some(80)][usize::try_from(self.below(3)).unwrap()];
            claim
        });
        claims.collect()
    }
}

#[derive(Debug)]
enum Call {
    Reserve(Reserve),
    Settle(u64, Amount),
    Release(u64),
    Open(RunId),
    Reset(&'static str),
    Prune(Duration, usize),
    List,
}

impl Call {
    fn roll(dice: &mut Dice, runs: &[RunId]) -> Self {
        let run = runs[usize::try_from(dice.below(3)).unwrap()];
        match dice.below(100) {
            0..45 => Self::Reserve(Reserve {
                key: key(&dice.below(300).to_string()),
                run,
                claims: dice.claims(),
                amount: dice.amount(100),
            }),
            45..80 => Self::Settle(dice.below(300), dice.amount(120)),
            80..88 => Self::Release(dice.below(300)),
            88..92 => Self::Open(run),
            92..94 => Self::Reset(["tenant:a", "agent:x"][usize::try_from(dice.below(2)).unwrap()]),
            94..97 => {
                let back = Duration::from_secs(60 * dice.below(5000));
                Self::Prune(back, MOST_LISTED)
            }
            _ => Self::List,
        }
    }

    /// The answer as text, for values of many types.
    async fn ask(&self, ledger: &dyn BudgetLedger, f: &Fixture) -> String {
        fn text<T: std::fmt::Debug>(answer: Result<T>) -> String {
            match answer {
                Ok(answer) => format!("{answer:?}"),
                Err(error @ (Error::Invalid { .. } | Error::Conflict { .. })) => error.to_string(),
                Err(error) => panic!("{error}"),
            }
        }
        match self {
            Self::Reserve(reserve) => text(ledger.reserve(reserve.clone()).await),
            Self::Settle(name, actual) => {
                text(ledger.settle(&key(&name.to_string()), *actual).await)
            }
            Self::Release(name) => text(ledger.release(&key(&name.to_string())).await),
            Self::Open(run) => text(ledger.open(*run).await),
            Self::Reset(name) => text(ledger.reset(&account(name)).await),
            Self::Prune(back, limit) => {
                let now = f.clock.now().as_micros();
                let back = i64::try_from(back.as_micros()).unwrap();
                let before = adjutant_core::Timestamp::from_micros(now - back);
                text(ledger.prune(before, *limit).await)
            }
            Self::List => text(ledger.balances(&everything()).await),
        }
    }
}

fn everything() -> BalanceFilter {
    BalanceFilter {
        limit: MOST_LISTED,
        ..BalanceFilter::default()
    }
}

/// Gives the same random tasks to the fixture's ledger and to one in memory.
pub async fn compare(f: &Fixture, seed: u64, steps: usize) {
    println!("seed {seed}");
    let memory = MemoryLedger::new(Arc::clone(&f.clock));
    let mut dice = Dice(seed);
    let runs = [RunId::new(), RunId::new(), RunId::new()];
    for step in 0..steps {
        if dice.below(10) == 0 {
            (f.advance)(Duration::from_secs(60 * dice.below(120)));
        }
        let call = Call::roll(&mut dice, &runs);
        let (one, other) = (call.ask(&*f.ledger, f).await, call.ask(&memory, f).await);
        assert_eq!(one, other, "seed {seed}, step {step}: {call:?}");
    }
    let (one, other) = (
        f.ledger.balances(&everything()).await.unwrap(),
        memory.balances(&everything()).await.unwrap(),
    );
    assert_eq!(one, other, "seed {seed}");
    for run in runs {
        let (one, other) = (f.ledger.open(run).await, memory.open(run).await);
        assert_eq!(one.unwrap(), other.unwrap(), "seed {seed}");
    }
}

pub async fn random_tasks_give_the_answers_of_the_memory_ledger(f: &Fixture) {
    let mut seed = [0; 8];
    seed.copy_from_slice(&RunId::new().as_bytes()[8..]);
    compare(f, u64::from_le_bytes(seed), 1000).await;
}
