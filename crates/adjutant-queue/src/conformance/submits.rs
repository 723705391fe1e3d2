//! Submitting.

use adjutant_core::{Error, Json, Limits, RunState};

use super::{Fixture, fixture::is_conflict};
use crate::{RunFilter, Submitted};

fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap()
}

pub async fn the_same_id_again_is_the_same_run(f: &Fixture) {
    let run = f.run();
    for created in [true, false, false] {
        let answer = f.engine.submit(vec![run.clone()]).await.unwrap();
        assert_eq!(
            answer,
            [Submitted {
                run: run.id,
                created
            }]
        );
    }
    assert_eq!(f.engine.list(RunFilter::default()).await.unwrap().len(), 1);
    assert_eq!(f.claim_ids().await, [run.id]);
}

pub async fn the_same_idempotency_key_again_is_the_same_run(f: &Fixture) {
    let mut first = f.run();
    first.idempotency_key = Some("order-7".to_owned());
    let mut second = f.run();
    second.idempotency_key = first.idempotency_key.clone();
    assert_eq!(f.submit(first.clone()).await, first.id);
    let again = f.engine.submit(vec![second]).await.unwrap();
    assert_eq!(
        again,
        [Submitted {
            run: first.id,
            created: false
        }]
    );
    assert_eq!(f.claim_ids().await, [first.id]);
}

pub async fn a_key_or_id_used_for_another_request_is_a_conflict(f: &Fixture) {
    let mut run = f.run();
    run.idempotency_key = Some("k".to_owned());
    f.submit(run.clone()).await;
    let mut other_input = run.clone();
    other_input.input = json(r#"{"data":2}"#);
    assert!(is_conflict(
        f.engine.submit(vec![other_input.clone()]).await
    ));
    other_input.id = adjutant_core::RunId::new();
    assert!(is_conflict(f.engine.submit(vec![other_input]).await));
    let mut other_agent = run.clone();
    other_agent.agent = "b".into();
    other_agent.idempotency_key = None;
    assert!(is_conflict(f.engine.submit(vec![other_agent]).await));
    assert_eq!(f.claim_ids().await, [run.id]);
}

pub async fn key_order_in_the_input_does_not_make_another_request(f: &Fixture) {
    let mut run = f.run();
    run.input = json(r#"{"data":{"a":1,"b":2}}"#);
    f.submit(run.clone()).await;
    run.input = json(r#"{ "data": {"b":2, "a":1} }"#);
    assert!(!f.engine.submit(vec![run]).await.unwrap()[0].created);
}

pub async fn a_batch_is_queued_whole_or_not_at_all(f: &Fixture) {
    let known = f.run();
    f.submit(known.clone()).await;
    let mut clash = known.clone();
    clash.input = json(r#"{"data":2}"#);
    let fresh = f.run();
    assert!(is_conflict(
        f.engine.submit(vec![fresh.clone(), clash]).await
    ));
    assert!(f.engine.get(fresh.id).await.unwrap().is_none());
    let mut empty = f.run();
    empty.agent = "".into();
    assert!(f.engine.submit(vec![fresh.clone(), empty]).await.is_err());
    assert!(f.engine.get(fresh.id).await.unwrap().is_none());
    assert_eq!(f.engine.stats().await.unwrap().ready, 1);
}

pub async fn a_batch_may_name_a_run_twice(f: &Fixture) {
    let run = f.run();
    let answer = f
        .engine
        .submit(vec![run.clone(), f.run(), run.clone()])
        .await
        .unwrap();
    let created: Vec<_> = answer.iter().map(|submitted| submitted.created).collect();
    assert_eq!(created, [true, true, false]);
    let mut other = run.clone();
    other.id = adjutant_core::RunId::new();
    let mut twin = other.clone();
    twin.input = json(r#"{"data":2}"#);
    assert!(is_conflict(
        f.engine.submit(vec![other.clone(), twin]).await
    ));
    assert!(f.engine.get(other.id).await.unwrap().is_none());
}

pub async fn what_is_not_acceptable_is_refused_with_the_field(f: &Fixture) {
    let mut run = f.run();
    run.priority = 101;
    let error = f.engine.submit(vec![run]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Invalid {
                field: "priority",
                ..
            }
        ),
        "{error}"
    );
    let mut run = f.run();
    run.input = Json::from("x".repeat(Limits::default().input).as_str());
    let error = f.engine.submit(vec![run]).await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { what: "input", .. }),
        "{error}"
    );
}

pub async fn what_was_given_comes_back_unchanged(f: &Fixture) {
    let mut run = f.run();
    run.metadata = json(r#"{"who":"ann","n":[1,2]}"#);
    run.priority = 3;
    run.idempotency_key = Some("k".to_owned());
    run.timeout = Some(super::LEASE);
    run.max_deaths = 2;
    let id = f.submit(run.clone()).await;
    let view = f.engine.get(id).await.unwrap().unwrap();
    assert_eq!(
        (&view.payload.input, &view.payload.metadata),
        (&run.input, &run.metadata)
    );
    assert_eq!(view.outcome, None);
    let record = view.run;
    assert_eq!(
        (record.state, record.epoch, record.attempt),
        (RunState::Pending, 0, 0)
    );
    assert_eq!((record.priority, record.max_deaths), (3, 2));
    assert_eq!((&record.retry, record.timeout), (&run.retry, run.timeout));
    assert_eq!(record.idempotency_key, run.idempotency_key);
    assert_eq!((record.created_at, record.ready_at), (f.now(), f.now()));
    let claimed = f.claim_one().await;
    assert_eq!((claimed.payload, claimed.run.id), (view.payload, id));
    assert_eq!(claimed.run, f.record(id).await);
}
