//! Two handles want the same thing at the same time.

use std::{
    collections::HashSet,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{Error, ErrorInfo, RunId, RunState};
use adjutant_queue::{Concurrency, Disposition, NewRun, ParentLink, RunFilter, Wait, WakeOn};
use adjutant_store::{Commit, Op};
use futures::future::{join, join_all};

use crate::{
    handles::{Handle, LONG, claim, done, new_run, submit, two},
    place::Engine,
};

/// Tasks at each handle.
const TASKS: usize = 4;

fn failed() -> Disposition {
    Disposition::Failed(ErrorInfo::permanent("broken", "no"))
}

/// Runs the same task some times at both handles.
async fn at_both<F>(one: &Handle, other: &Handle, task: impl Fn(Handle) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let handles = [one, other].into_iter().cycle().take(2 * TASKS);
    let tasks = handles.map(|handle| tokio::spawn(task(Arc::clone(handle))));
    for task in join_all(tasks).await {
        task.unwrap();
    }
}

async fn nobody_gets_a_run_twice(engine: Engine) {
    const RUNS: usize = 300;
    let (one, other, _place) = two(engine).await;
    let runs: Vec<NewRun> = (0..RUNS).map(|_| new_run()).collect();
    one.submit(runs).await.unwrap();
    let taken = Arc::<Mutex<Vec<RunId>>>::default();
    at_both(&one, &other, |handle| {
        let taken = Arc::clone(&taken);
        async move {
            // Whoever finds nothing while others are at it asks again.
            while taken.lock().unwrap().len() < RUNS {
                for claimed in handle.claim(claim(3, Duration::ZERO)).await.unwrap() {
                    assert_eq!(claimed.lease.epoch, 1);
                    taken.lock().unwrap().push(claimed.lease.run);
                }
            }
        }
    })
    .await;
    let taken = taken.lock().unwrap();
    let different: HashSet<_> = taken.iter().collect();
    assert_eq!((taken.len(), different.len()), (RUNS, RUNS));
}

async fn a_run_ends_once(engine: Engine) {
    let (one, other, _place) = two(engine).await;
    let mut won = [0; 2];
    for round in 0..60 {
        let run = submit(&one).await;
        // The one that has claimed it knows it best; so they take turns.
        let claimer = [&one, &other][round % 2];
        let lease = claimer.claim(claim(1, LONG)).await.unwrap()[0].lease;
        let answers = join(one.settle(lease, done()), other.settle(lease, failed())).await;
        let state = match answers {
            (Ok(record), Err(Error::LeaseLost { .. })) => {
                won[0] += 1;
                record.state
            }
            (Err(Error::LeaseLost { .. }), Ok(record)) => {
                won[1] += 1;
                record.state
            }
            other => panic!("{run}: {other:?}"),
        };
        assert_eq!(one.get(run).await.unwrap().unwrap().run.state, state);
        let events = other.read(run, 0, 100).await.unwrap();
        let numbers: Vec<_> = events.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, [1, 2, 3], "{run}: {events:?}");
    }
    eprintln!("{engine:?}: won by {won:?}");
}

async fn a_key_makes_one_run(engine: Engine) {
    let (one, other, _place) = two(engine).await;
    for round in 0..60 {
        let with_key = || NewRun {
            idempotency_key: Some(format!("key-{round}")),
            ..new_run()
        };
        let answers = join(one.submit(vec![with_key()]), other.submit(vec![with_key()])).await;
        let (a, b) = (&answers.0.unwrap()[0], &answers.1.unwrap()[0]);
        assert_eq!(a.run, b.run, "two runs of one key");
        assert!(a.created != b.created, "{a:?} {b:?}");
    }
}

async fn a_concurrency_key_is_never_exceeded(engine: Engine) {
    const RUNS: u32 = 80;
    const LIMIT: u32 = 3;
    let (one, other, _place) = two(engine).await;
    let runs = (0..RUNS).map(|_| NewRun {
        concurrency: Some(Concurrency {
            key: Arc::from("key"),
            limit: NonZeroU32::new(LIMIT).unwrap(),
        }),
        ..new_run()
    });
    one.submit(runs.collect()).await.unwrap();
    let (running, most, ended) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let counts = Arc::new([running, most, ended]);
    let all = at_both(&one, &other, |handle| {
        let counts = Arc::clone(&counts);
        async move {
            let [running, most, ended] = &*counts;
            while ended.load(SeqCst) < RUNS {
                let wait = Duration::from_millis(100);
                for claimed in handle.claim(claim(1, wait)).await.unwrap() {
                    let now = running.fetch_add(1, SeqCst) + 1;
                    most.fetch_max(now, SeqCst);
                    assert!(now <= LIMIT, "{now} at a time");
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, SeqCst);
                    handle.settle(claimed.lease, done()).await.unwrap();
                    ended.fetch_add(1, SeqCst);
                }
            }
        }
    });
    let left = tokio::time::timeout(2 * LONG, all).await;
    assert!(left.is_ok(), "held back for ever: {counts:?}");
    eprintln!("{engine:?}: at most {:?} at a time", counts[1]);
}

async fn a_fan_out_is_counted_right(engine: Engine) {
    const CHILDREN: usize = 24;
    let (one, other, _place) = two(engine).await;
    for _ in 0..4 {
        let parent = submit(&one).await;
        let lease = one.claim(claim(1, LONG)).await.unwrap()[0].lease;
        let group: Arc<str> = Arc::from("group");
        let children = (0..CHILDREN).map(|_| {
            let parent = Some(ParentLink {
                run: parent,
                group: Arc::clone(&group),
            });
            Op::Spawn(Box::new(NewRun {
                parent,
                ..new_run()
            }))
        });
        let wait = Wait {
            wake_on: vec![WakeOn::Group {
                key: Arc::clone(&group),
                fail_fast: false,
            }],
            input_required: false,
        };
        let commit = Commit {
            lease,
            ops: children.collect(),
            end: Some(Disposition::Waiting(wait)),
        };
        other.commit(commit).await.unwrap();
        let woken = Arc::<AtomicU32>::default();
        at_both(&one, &other, |handle| {
            let woken = Arc::clone(&woken);
            async move {
                while woken.load(SeqCst) == 0 {
                    let claimed = handle.claim(claim(2, Duration::from_millis(20))).await;
                    for claimed in claimed.unwrap() {
                        let lease = claimed.lease;
                        let end = match lease.run.as_bytes()[15] % 2 {
                            0 => done(),
                            _ => failed(),
                        };
                        if lease.run == parent {
                            assert_eq!(lease.epoch, 2);
                            check_children(&handle, parent, CHILDREN).await;
                            woken.fetch_add(1, SeqCst);
                        }
                        handle.settle(lease, end).await.unwrap();
                    }
                }
            }
        })
        .await;
        assert_eq!(woken.load(SeqCst), 1);
    }
}

/// The parent goes on when all of them have ended, and not before.
async fn check_children(handle: &Handle, parent: RunId, count: usize) {
    let filter = RunFilter {
        parent: Some(parent),
        limit: 1000,
        ..RunFilter::default()
    };
    let children = handle.list(filter).await.unwrap();
    assert_eq!(children.len(), count);
    for child in children {
        let ended = matches!(child.state, RunState::Succeeded | RunState::Failed);
        assert!(ended && child.epoch == 1, "{child:?}");
    }
}

macro_rules! races {
    ($($engine:ident in $module:ident: $($name:ident)*;)*) => {
        $(
            mod $module {
                use crate::place::Engine;

                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        super::$name(Engine::$engine).await;
                    }
                )*
            }
        )*
    };
}

races! {
    Sqlite in sqlite: nobody_gets_a_run_twice a_run_ends_once a_key_makes_one_run
        a_concurrency_key_is_never_exceeded a_fan_out_is_counted_right;
    Postgres in postgres: nobody_gets_a_run_twice a_run_ends_once a_key_makes_one_run
        a_concurrency_key_is_never_exceeded a_fan_out_is_counted_right;
    Redis in redis: nobody_gets_a_run_twice a_run_ends_once a_key_makes_one_run
        a_concurrency_key_is_never_exceeded a_fan_out_is_counted_right;
}
