//! Which run a message is about, and whether anybody still wants to hear of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use adjutant_wire::{
    ErrorCode, Message, Notification, Request, RequestId, Response, RpcError, RunCancel, encode,
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::seat::Pipe;

/// The runs of one process.
pub(super) struct Routes {
    /// Runs at once, and in all.
    capacity: usize,
    most: u32,
    runs: HashMap<String, Route>,
    /// The host's open requests by the numbers that the process knows, with the run and the run's own number.
    asked: HashMap<i64, (String, RequestId)>,
    last_id: i64,
    /// What is still to be written to the process.
    unwritten: Vec<u8>,
    given: u32,
    /// A run did not end when it was told to: its place is lost, and with it the process.
    spoilt: bool,
    /// It is to take no more runs.
    retired: bool,
    closed: bool,
    /// Since when it has no run.
    resting: Option<Instant>,
}

/// One run's place.
struct Route {
    /// Where its conversation listens; `None` once that was given up.
    pipe: Option<Arc<Pipe>>,
    log: Option<mpsc::Sender<String>>,
    /// The agent's requests that the conversation has not answered.
    open: HashSet<RequestId>,
    /// Whether `run/start` is open.
    started: bool,
}

/// A line and who is to get it.
pub(super) type Delivery = (Arc<Pipe>, String);

impl Routes {
    pub(super) fn new(capacity: usize, most: u32) -> Self {
        Self {
            capacity,
            most,
            runs: HashMap::new(),
            asked: HashMap::new(),
            last_id: 0,
            unwritten: Vec::new(),
            given: 0,
            spoilt: false,
            retired: false,
            closed: false,
            resting: Some(Instant::now()),
        }
    }

    /// Takes in a run, if there is room for it. Not while its earlier attempt is on its way out.
    pub(super) fn enter(&mut self, run: &str, pipe: Arc<Pipe>, log: mpsc::Sender<String>) -> bool {
        let room = self.runs.len() < self.capacity && !self.runs.contains_key(run);
        if self.takes_no_more() || !room {
            return false;
        }
        self.given += 1;
        self.resting = None;
        let route = Route {
            pipe: Some(pipe),
            log: Some(log),
            open: HashSet::new(),
            started: false,
        };
        self.runs.insert(run.to_owned(), route);
        true
    }

    /// Whether it will never take another run.
    pub(super) const fn takes_no_more(&self) -> bool {
        self.closed || self.spoilt || self.retired || self.given >= self.most
    }

    /// From now on it takes no more runs.
    pub(super) const fn retire(&mut self) {
        self.retired = true;
    }

    /// Since when it has no run, if it has none.
    pub(super) const fn resting(&self) -> Option<Instant> {
        self.resting
    }

    /// Whether the process may be let go, for no conversation is under way; then there will be none.
    pub(super) fn leave(&mut self) -> bool {
        let leaves = self.takes_no_more() && self.runs.values().all(|route| route.pipe.is_none());
        self.retired |= leaves;
        leaves
    }

    fn remove(&mut self, run: &str) {
        self.runs.remove(run);
        if self.runs.is_empty() {
            self.resting = Some(Instant::now());
        }
    }

    pub(super) fn used(&self) -> usize {
        self.runs.len()
    }

    pub(super) const fn given(&self) -> u32 {
        self.given
    }

    pub(super) fn take_unwritten(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unwritten)
    }

    /// Leaves a message to be written to the process.
    pub(super) fn write(&mut self, message: &Message) {
        self.unwritten.extend(encode(message).into_bytes());
    }

    /// Shows a line of the process's log to all conversations; nobody knows which run it is about.
    pub(super) fn tell_log(&self, line: &str) {
        for log in self.runs.values().filter_map(|route| route.log.as_ref()) {
            // A conversation that does not keep up hears less.
            let _ = log.try_send(line.to_owned());
        }
    }

    /// Passes on what a conversation says.
    pub(super) fn say(&mut self, run: &str, mut message: Message) {
        match &mut message {
            Message::Request(request) => {
                self.last_id += 1;
                let own = std::mem::replace(&mut request.id, RequestId::Number(self.last_id));
                self.asked.insert(self.last_id, (run.to_owned(), own));
                if let Some(route) = self.runs.get_mut(run) {
                    route.started = true;
                }
            }
            Message::Response(response) => {
                if let (Some(route), Some(id)) = (self.runs.get_mut(run), &response.id) {
                    route.open.remove(id);
                }
            }
            Message::Notification(_) => {}
        }
        self.write(&message);
    }

    /// Sorts what the process says.
    pub(super) fn sort(&mut self, message: Message) -> Vec<Delivery> {
        match message {
            Message::Response(response) => self.answered(response),
            Message::Request(request) => self.requested(request).into_iter().collect(),
            Message::Notification(notice) => self.told(notice),
        }
    }

    fn answered(&mut self, mut response: Response) -> Vec<Delivery> {
        let Some(id) = &response.id else {
            // The process could not read a line, and nobody knows whose it was.
            return self.everybody(&response.into());
        };
        let known = match id {
            RequestId::Number(number) => self.asked.remove(number),
            RequestId::Text(_) => None,
        };
        let Some((run, own)) = known else {
            return Vec::new();
        };
        response.id = Some(own);
        let Some(route) = self.runs.get_mut(&run) else {
            return Vec::new();
        };
        route.started = false;
        match route.pipe.clone() {
            Some(pipe) => vec![(pipe, encode(&response.into()))],
            None => {
                // It has ended at last, and makes room.
                self.remove(&run);
                Vec::new()
            }
        }
    }

    fn requested(&mut self, request: Request) -> Option<Delivery> {
        let refusal = match request.params.get("runId").and_then(Value::as_str) {
            None => RpcError::new(ErrorCode::InvalidParams, "`runId` is missing"),
            Some(run) => match self.runs.get_mut(run) {
                Some(Route {
                    pipe: Some(pipe),
                    open,
                    ..
                }) => {
                    open.insert(request.id.clone());
                    let pipe = Arc::clone(pipe);
                    return Some((pipe, encode(&request.into())));
                }
                Some(_) => fenced(),
                None => {
                    let why = format!("this process does not work on {run:?}");
                    RpcError::new(ErrorCode::UnknownRun, why)
                }
            },
        };
        self.write(&request.answer(Err(refusal)).into());
        None
    }

    fn told(&self, notice: Notification) -> Vec<Delivery> {
        let run = notice.params.get("runId").and_then(Value::as_str);
        let Some(run) = run else {
            return self.everybody(&notice.into());
        };
        let pipe = self.runs.get(run).and_then(|route| route.pipe.clone());
        let line = encode(&notice.into());
        pipe.into_iter().map(|pipe| (pipe, line.clone())).collect()
    }

    fn everybody(&self, message: &Message) -> Vec<Delivery> {
        let line = encode(message);
        let pipes = self.runs.values().filter_map(|route| route.pipe.clone());
        pipes.map(|pipe| (pipe, line.clone())).collect()
    }

    /// A conversation is over. Whether the run's code still goes on; then it is told to stop, and its place is taken until
    /// it has.
    pub(super) fn give_up(&mut self, run: &str) -> bool {
        let Some(route) = self.runs.get_mut(run) else {
            return false;
        };
        route.pipe = None;
        route.log = None;
        let open: Vec<_> = route.open.drain().collect();
        if !route.started || self.closed {
            self.remove(run);
            return false;
        }
        for id in open {
            self.write(&Response::error(Some(id), fenced()).into());
        }
        let cancel = RunCancel {
            run_id: run.to_owned(),
            reason: "fenced".to_owned(),
            ..RunCancel::default()
        };
        if let Ok(notice) = Notification::notice(&cancel) {
            self.write(&notice.into());
        }
        true
    }

    /// The time to stop is over; whether a run that was told to has not.
    pub(super) fn lose(&mut self, run: &str) -> bool {
        let lost = self.runs.get(run).is_some_and(|route| route.pipe.is_none());
        self.spoilt |= lost;
        lost
    }

    /// The process has ended.
    pub(super) fn close(&mut self) {
        self.closed = true;
        // Those that did not stop have stopped now; the others are waited for.
        self.runs.retain(|_, route| route.pipe.is_some());
        for route in self.runs.values_mut() {
            route.pipe = None;
            route.log = None;
        }
    }
}

fn fenced() -> RpcError {
    RpcError::new(ErrorCode::Fenced, "this attempt is over")
}
