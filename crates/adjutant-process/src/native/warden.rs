//! The thread that watches limits and removes trees, wherever and however their owners have gone.

use std::{
    io,
    sync::{
        Arc, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::instance::Instance;
use crate::tree::Ground;

/// Time between two tries to empty and remove a tree: from, doubled each time, to.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A tree that is not empty by then is told of: its processes wait for a device, or escape faster than they are killed.
const TOO_LONG: Duration = Duration::from_secs(10);

enum Job {
    Watch(Weak<Instance>),
    End(Arc<Instance>),
    Sweep(Arc<Ground>),
}

/// The way to the thread. It ends when all these are gone and every tree is.
#[derive(Debug, Clone)]
pub(super) struct Warden {
    jobs: Sender<Job>,
}

impl Warden {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let work = move || {
            let mut thread = Thread::default();
            thread.run(&queue);
        };
        thread::Builder::new()
            .name("adjutant-warden".to_owned())
            .spawn(work)?;
        Ok(Self { jobs })
    }

    /// Watches a process as long as it has an owner.
    pub(super) fn watch(&self, instance: &Arc<Instance>) {
        let _ = self.jobs.send(Job::Watch(Arc::downgrade(instance)));
    }

    /// Ends and removes a tree.
    pub(super) fn end(&self, instance: Arc<Instance>) {
        // The thread may be gone at the very end of the program; then at least this is done.
        if let Err(refused) = self.jobs.send(Job::End(instance))
            && let Job::End(instance) = refused.0
        {
            instance.tree.remove();
        }
    }

    /// Ends and removes what dead programs have left.
    pub(super) fn sweep(&self, ground: Arc<Ground>) {
        let _ = self.jobs.send(Job::Sweep(ground));
    }
}

#[derive(Default)]
struct Thread {
    watched: Vec<(Weak<Instance>, Instant)>,
    ending: Vec<Ending>,
    sweeping: Vec<Sweeping>,
}

/// What is killed takes its time to go, and its groups can be removed only then: more than one round may be needed.
struct Sweeping {
    ground: Arc<Ground>,
    until: Instant,
    pause: Duration,
    next: Instant,
}

struct Ending {
    instance: Arc<Instance>,
    begun: Instant,
    pause: Duration,
    next: Instant,
    told: bool,
}

impl Thread {
    fn run(&mut self, queue: &Receiver<Job>) {
        loop {
            let due = self.next();
            let got = match due {
                Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match got {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if self.ending.is_empty() => return,
                Err(RecvTimeoutError::Disconnected) => thread::sleep(FIRST_PAUSE),
            }
            self.work(Instant::now());
        }
    }

    fn next(&self) -> Option<Instant> {
        let watched = self.watched.iter().map(|(_, at)| *at);
        let ending = self.ending.iter().map(|ending| ending.next);
        let sweeping = self.sweeping.iter().map(|sweeping| sweeping.next);
        watched.chain(ending).chain(sweeping).min()
    }

    fn take(&mut self, job: Job) {
        let now = Instant::now();
        match job {
            Job::Watch(instance) => self.watched.push((instance, now)),
            Job::End(instance) => self.ending.push(Ending {
                instance,
                begun: now,
                pause: FIRST_PAUSE,
                next: now,
                told: false,
            }),
            Job::Sweep(ground) => self.sweeping.push(Sweeping {
                ground,
                until: now + TOO_LONG,
                pause: FIRST_PAUSE,
                next: now,
            }),
        }
    }

    fn work(&mut self, now: Instant) {
        self.watched.retain_mut(|(instance, at)| {
            if *at > now {
                return true;
            }
            let next = instance.upgrade().and_then(|instance| instance.look());
            next.is_some_and(|wait| {
                *at = now + wait;
                true
            })
        });
        self.ending
            .retain_mut(|ending| ending.next > now || !ending.is_over(now));
        self.sweeping
            .retain_mut(|sweeping| sweeping.next > now || !sweeping.is_over(now));
    }
}

impl Sweeping {
    /// One round.
    fn is_over(&mut self, now: Instant) -> bool {
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.ground.sweep() || now > self.until
    }
}

impl Ending {
    /// One try.
    fn is_over(&mut self, now: Instant) -> bool {
        let is_gone = self.instance.tree.remove();
        if self.instance.first().reap() && is_gone {
            return true;
        }
        self.instance.tree.kill();
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if !self.told && now - self.begun > TOO_LONG {
            self.told = true;
            let left = self.instance.tree.members();
            tracing::warn!(pids = ?left, "processes could not be killed yet");
        }
        false
    }
}
