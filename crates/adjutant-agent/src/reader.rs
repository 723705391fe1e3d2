//! Reads what the host says, also while the agent works.

use std::{
    io::{ErrorKind, Read, Write},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use adjutant_wire::{
    Decoder, Empty, ErrorCode, Frame, HealthAnswer, HostNotice, HostRequest, Initialize,
    MAX_GARBAGE_LINES, MIN_PROTOCOL_VERSION, Message, Notification, Outcome, Request, RequestId,
    Response, RpcError, RunHealth, Shutdown, negotiate,
};
use serde::Serialize;

use crate::{
    link::lock,
    server::{Host, start_run},
};

/// Bytes asked for at once.
const PIECE: usize = 64 * 1024;
/// A shorter interval than this would only make noise.
const MIN_HEARTBEAT: Duration = Duration::from_millis(20);

/// Reads until the host is gone or speaks another language.
pub(crate) fn read(host: &Arc<Host>, mut input: impl Read) {
    let mut decoder = Decoder::default();
    let mut piece = vec![0; PIECE];
    let mut garbage = 0;
    loop {
        let count = match input.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        decoder.push(piece.get(..count).unwrap_or_default());
        while let Some(frame) = decoder.next_frame() {
            garbage = if matches!(frame, Frame::Garbage { .. }) {
                garbage + 1
            } else {
                0
            };
            handle(host, frame);
        }
        if garbage >= MAX_GARBAGE_LINES {
            break;
        }
    }
    if let Some(frame) = decoder.finish() {
        handle(host, frame);
    }
    host.close();
}

fn handle(host: &Arc<Host>, frame: Frame) {
    match frame {
        Frame::Message(Message::Request(request)) => on_request(host, request),
        Frame::Message(Message::Notification(notification)) => on_notification(host, notification),
        Frame::Message(Message::Response(response)) => {
            host.link.resolve(response);
        }
        Frame::Invalid(response) => host.link.answer(*response),
        Frame::TooLong { limit } => {
            let error = RpcError::new(ErrorCode::TooLarge, format!("a line over {limit} bytes"));
            host.link.answer(Response::error(None, error));
        }
        Frame::Garbage { excerpt } => {
            // Stderr, for stdout is the protocol. If that is closed too, the line is lost.
            let _ = writeln!(
                std::io::stderr(),
                "adjutant-agent: not a message: {excerpt}"
            );
        }
    }
}

fn on_request(host: &Arc<Host>, request: Request) {
    let id = request.id.clone();
    match HostRequest::read(request) {
        Ok(HostRequest::RunStart(start)) => start_run(host, &id, start),
        Ok(HostRequest::Initialize(offer)) => answer(host, id, initialize(host, &offer)),
        Ok(HostRequest::HealthCheck(_)) => answer(host, id, Ok(health(host))),
        Ok(HostRequest::Shutdown(shutdown)) => {
            answer(host, id, Ok(Empty {}));
            stop(host, &shutdown);
        }
        Ok(_) => host.link.answer(Response::error(
            Some(id),
            RpcError::method_not_found("this"),
        )),
        Err(error) => host.link.answer(Response::error(Some(id), error)),
    }
}

fn answer<T: Serialize>(host: &Host, id: RequestId, result: Result<T, RpcError>) {
    let outcome: Outcome = result.and_then(|value| {
        serde_json::to_value(value)
            .map_err(|error| RpcError::new(ErrorCode::Internal, error.to_string()))
    });
    host.link.answer(Response {
        id: Some(id),
        outcome,
    });
}

fn initialize(host: &Host, offer: &Initialize) -> Result<adjutant_wire::Initialized, RpcError> {
    let Some(version) = negotiate(offer.protocol_version) else {
        let offered = offer.protocol_version;
        let why =
            format!("version {offered} of the wire is offered; {MIN_PROTOCOL_VERSION} is needed");
        return Err(RpcError::new(ErrorCode::InvalidParams, why));
    };
    host.link.set_limits(&offer.limits);
    lock(&host.state).heartbeat = Duration::from_millis(offer.heartbeat_ms).max(MIN_HEARTBEAT);
    host.pulse.notify_all();
    let mut profile = host.profile.clone();
    profile.protocol_version = version;
    Ok(profile)
}

fn health(host: &Host) -> HealthAnswer {
    let state = lock(&host.state);
    let runs = state.runs.iter().map(|(run_id, attempt)| RunHealth {
        run_id: run_id.clone(),
        last_progress_ms: attempt.last_progress_ms(),
    });
    HealthAnswer {
        runs: runs.collect(),
        ..HealthAnswer::default()
    }
}

fn stop(host: &Host, shutdown: &Shutdown) {
    let mut state = lock(&host.state);
    state.stop_at(Instant::now() + Duration::from_millis(shutdown.grace_ms));
    state
        .runs
        .values()
        .for_each(|attempt| attempt.stopping.store(true, Ordering::Relaxed));
    drop(state);
    host.changed.notify_all();
}

fn on_notification(host: &Host, notification: Notification) {
    // What this version does not know or cannot read is none of its business.
    let Ok(notice) = HostNotice::read(notification) else {
        return;
    };
    let runs: Vec<_> = lock(&host.state).runs.values().cloned().collect();
    match notice {
        HostNotice::RunCancel(cancel) => {
            runs.iter()
                .filter(|run| run.scope.run_id == cancel.run_id)
                .filter(|run| cancel.epoch.is_none_or(|epoch| epoch == run.scope.epoch))
                .for_each(|run| run.cancel());
        }
        HostNotice::RunSteer(steer) => {
            if let Some(run) = runs.iter().find(|run| run.scope == steer.scope) {
                run.steer(steer.messages);
            }
        }
        HostNotice::LlmDelta(delta) => {
            if let Some(run) = runs.iter().find(|run| run.scope == delta.scope) {
                run.delta(&delta);
            }
        }
        HostNotice::CancelRequest(cancel) => {
            for run in runs.iter().filter(|run| run.request == cancel.request_id) {
                run.given_up.store(true, Ordering::Relaxed);
                run.cancel();
            }
        }
        _ => {}
    }
}
