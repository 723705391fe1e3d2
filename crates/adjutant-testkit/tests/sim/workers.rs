//! Workers that die at a write, at any moment, or are told to stop, and come back.

use std::{sync::Arc, time::Duration};

use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_store::Store;
use adjutant_testkit::{FaultPlan, FaultStore, FaultyCall, Reaction};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{agents, dice::Dice, world::World};

const LEASE_TTL: Duration = Duration::from_secs(4);

/// One worker's life, over all its incarnations, until `world.over`.
pub async fn live(world: Arc<World>, mut dice: Dice) {
    while !world.calm.is_cancelled() {
        let plan = plan(&mut dice);
        let store = Arc::new(FaultStore::new(
            Arc::clone(&world.observer) as Arc<dyn Store>,
            plan,
        ));
        let stop = CancellationToken::new();
        let work = run(&world, &store, &mut dice, stop.clone());
        let gently = dice.percent(25);
        let lifetime = async {
            let () = tokio::time::sleep(dice.millis(500, 20_000)).await;
            if gently {
                stop.cancel();
                std::future::pending::<()>().await;
            }
        };
        // Whatever is dropped here has died: nothing of it is given back.
        tokio::select! {
            () = work => {}
            () = store.died() => world.died.lock().unwrap().push("at a write"),
            () = lifetime => world.died.lock().unwrap().push("at any moment"),
        }
        tokio::time::sleep(dice.millis(0, 6000)).await;
    }
    let store = Arc::new(FaultStore::new(
        Arc::clone(&world.observer) as Arc<dyn Store>,
        FaultPlan::default(),
    ));
    run(&world, &store, &mut dice, world.over.clone()).await;
}

fn run(
    world: &World,
    store: &Arc<FaultStore>,
    dice: &mut Dice,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let config = RunnerConfig {
        concurrency: usize::try_from(1 + dice.below(4)).unwrap(),
        run_timeout: Duration::from_secs(60),
        heartbeat_interval: dice.millis(500, 2000),
        lease_ttl: LEASE_TTL,
        cancel_grace: Duration::from_secs(1),
        drain_grace: dice.millis(0, 2000),
        ..RunnerConfig::default()
    };
    let store = Arc::clone(store) as Arc<dyn Store>;
    let agents = agents::registry(&world.observer);
    let runner = AgentRunner::with_clock(store, agents, config, Arc::new(world.clock)).unwrap();
    async move {
        let _drained = runner.run_loop(stop).await.unwrap();
    }
}

/// What will happen to the calls of one incarnation.
fn plan(dice: &mut Dice) -> FaultPlan {
    let dies_at = dice.percent(50).then(|| {
        let moment = if dice.percent(50) {
            adjutant_testkit::Moment::Before
        } else {
            adjutant_testkit::Moment::After
        };
        (1 + dice.below(40), moment)
    });
    let flaky = dice.percent(30);
    let slow = dice.percent(30);
    // Heartbeats that fail or hang for a while: the worker is cut off and does not know it.
    let cut_off = dice.percent(30).then(|| {
        let from = Instant::now() + dice.millis(0, 10_000);
        let how = if dice.percent(50) {
            Reaction::Fail
        } else {
            Reaction::Delay(dice.millis(1000, 10_000))
        };
        (from, from + dice.millis(1000, 10_000), how)
    });
    let seed = dice.split();
    FaultPlan::script(move |fault| {
        if dies_at == Some((fault.number, fault.moment)) {
            return Reaction::Die;
        }
        if let (FaultyCall::Heartbeat, Some((from, to, how))) = (fault.call, cut_off) {
            let now = Instant::now();
            if from <= now && now < to {
                return how;
            }
        }
        let side = fault.moment as u64;
        let mut dice = seed.at(fault.number * 2 + side);
        if flaky && dice.percent(3) {
            return Reaction::Fail;
        }
        if flaky && fault.call == FaultyCall::Commit && dice.percent(1) {
            return Reaction::LoseLease;
        }
        if slow && dice.percent(10) {
            return Reaction::Delay(dice.millis(1, 3000));
        }
        Reaction::GoOn
    })
}
