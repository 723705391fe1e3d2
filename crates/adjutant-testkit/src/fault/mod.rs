//! A store that fails on purpose.

mod ports;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{Error, Result};
use adjutant_queue::Lease;
use adjutant_store::Store;
use tokio::sync::watch;

/// A call that a worker makes as, or to become, the holder of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultyCall {
    /// [`Store::commit`].
    Commit,
    /// `RunQueue::claim`.
    Claim,
    /// `RunQueue::heartbeat`.
    Heartbeat,
    /// `RunQueue::settle`.
    Settle,
    /// `StateStore::write`.
    Write,
}

/// Which side of the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Nothing has been written.
    Before,
    /// It has been written, and the answer is lost.
    After,
}

/// A fault that is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// At this call.
    pub call: FaultyCall,
    /// On this side of it.
    pub moment: Moment,
    /// The call's number among all counted calls, from 1.
    pub number: u64,
}

/// What a script makes of a call at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing happens to it.
    GoOn,
    /// It fails with a transient error; afterwards, although it was carried out.
    Fail,
    /// It takes this much longer.
    Delay(Duration),
    /// The lease is said to be lost.
    LoseLease,
    /// It never returns, and no later call on this store does: whoever uses it is dead.
    Die,
}

/// Calls that fail by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failures {
    /// The same seed fails the same calls.
    pub seed: u64,
    /// Share of calls that fail with nothing written, 0 to 1.
    pub before: f64,
    /// Share of calls that fail although they were carried out, 0 to 1.
    pub after: f64,
}

/// Which calls meet a fault.
#[derive(Clone)]
pub struct FaultPlan {
    /// Call `on_fault` before the call with this number, from 1.
    pub abort_before: Option<u64>,
    /// Call `on_fault` after the call with this number has been carried out, before it is answered.
    pub abort_after: Option<u64>,
    /// What a fault does; when it returns, the call goes on. Default: it aborts the process.
    pub on_fault: Arc<dyn Fn(Fault) + Send + Sync>,
    /// Calls that fail with a transient error.
    pub fail: Option<Failures>,
    /// Asked at both moments of every counted call.
    pub script: Option<Script>,
}

/// Decides what happens to calls.
pub type Script = Arc<dyn Fn(Fault) -> Reaction + Send + Sync>;

impl FaultPlan {
    /// A plan of nothing but this script.
    pub fn script(script: impl Fn(Fault) -> Reaction + Send + Sync + 'static) -> Self {
        Self {
            script: Some(Arc::new(script)),
            ..Self::default()
        }
    }
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self {
            abort_before: None,
            abort_after: None,
            on_fault: Arc::new(|_fault| std::process::abort()),
            fail: None,
            script: None,
        }
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPlan")
            .field("abort_before", &self.abort_before)
            .field("abort_after", &self.abort_after)
            .field("fail", &self.fail)
            .finish_non_exhaustive()
    }
}

/// A store that counts the calls of lease holders and meets them with the plan's faults. Everything else
/// goes through untouched.
#[derive(Clone)]
pub struct FaultStore {
    store: Arc<dyn Store>,
    plan: FaultPlan,
    calls: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
    dead: Arc<watch::Sender<bool>>,
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore")
            .field("plan", &self.plan)
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}

impl FaultStore {
    /// A store with these faults.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, plan: FaultPlan) -> Self {
        Self {
            store,
            plan,
            calls: Arc::default(),
            failures: Arc::default(),
            dead: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Calls counted so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    /// Calls that failed by chance so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(SeqCst)
    }

    /// Returns once the script has said [`Reaction::Die`].
    pub async fn died(&self) {
        let mut dead = self.dead.subscribe();
        // The sender lives as long as this store does.
        let _dead = dead.wait_for(|dead| *dead).await;
    }

    /// Lets no call of the dead through.
    async fn alive(&self) {
        if *self.dead.borrow() {
            std::future::pending::<()>().await;
        }
    }

    async fn around<T>(
        &self,
        call: FaultyCall,
        lease: Option<Lease>,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.alive().await;
        let number = self.calls.fetch_add(1, SeqCst) + 1;
        self.meet(call, lease, Moment::Before, number).await?;
        let answer = work.await?;
        self.meet(call, lease, Moment::After, number).await?;
        // Others may have died while this call was under way.
        self.alive().await;
        Ok(answer)
    }

    async fn meet(
        &self,
        call: FaultyCall,
        lease: Option<Lease>,
        moment: Moment,
        number: u64,
    ) -> Result<()> {
        let fault = Fault {
            call,
            moment,
            number,
        };
        let (abort, share, side) = match (moment, self.plan.fail) {
            (Moment::Before, fail) => (self.plan.abort_before, fail.map(|fail| fail.before), 0),
            (Moment::After, fail) => (self.plan.abort_after, fail.map(|fail| fail.after), 1),
        };
        if abort == Some(number) {
            (self.plan.on_fault)(fault);
        }
        let seed = self.plan.fail.map_or(0, |fail| fail.seed);
        if share.is_some_and(|share| chance(seed, number * 2 + side) < share) {
            return Err(self.failure(fault));
        }
        let script = self.plan.script.as_ref();
        match script.map_or(Reaction::GoOn, |script| script(fault)) {
            Reaction::GoOn => Ok(()),
            Reaction::Fail => Err(self.failure(fault)),
            Reaction::Delay(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Reaction::LoseLease => match lease {
                Some(lease) => Err(Error::LeaseLost {
                    run: lease.run,
                    epoch: lease.epoch,
                }),
                None => Ok(()),
            },
            Reaction::Die => {
                self.dead.send_replace(true);
                std::future::pending().await
            }
        }
    }

    fn failure(&self, fault: Fault) -> Error {
        self.failures.fetch_add(1, SeqCst);
        let Fault {
            call,
            moment,
            number,
        } = fault;
        Error::Backend {
            action: "reach the store",
            transient: true,
            source: format!("injected {moment:?} {call:?} {number}").into(),
        }
    }
}

/// A number in 0..1 that depends on nothing but its arguments (`SplitMix64`).
fn chance(seed: u64, place: u64) -> f64 {
    let mut z = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    f64::from((z >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
}
