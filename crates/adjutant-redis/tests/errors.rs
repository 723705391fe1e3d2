//! What is told when a server cannot be used.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod support;

use std::{error::Error as _, time::Duration};

use adjutant_core::{Error, RetryAdvice};
use adjutant_queue::RunQueue;
use adjutant_redis::RedisConfig;
use adjutant_servers::{AppendFsync, RedisServer, RedisSettings};
use adjutant_store::Store;
use support::{new_run, open, submit};

const SECRET: &str = "s3cret";

/// The error of opening it, with its sources; no secret is in it.
async fn refused(url: &str) -> (String, RetryAdvice) {
    let mut config = RedisConfig::parse(url).unwrap();
    config.connect_timeout = Duration::from_secs(1);
    let error = adjutant_redis::open(config).await.unwrap_err();
    let advice = error.retry();
    (whole(&error), advice)
}

fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    assert!(!text.contains(SECRET), "{text}");
    text
}

fn server(password: Option<&str>, more: &[(&str, &str)]) -> RedisServer {
    let more = more
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    RedisServer::with(RedisSettings {
        tcp: true,
        password: password.map(ToOwned::to_owned),
        more: more.collect(),
        ..RedisSettings::default()
    })
    .unwrap()
}

#[tokio::test]
async fn a_server_that_is_not_there_may_come() {
    let (text, advice) = refused(&format!("redis://:{SECRET}@127.0.0.1:1")).await;
    assert!(text.contains("is the server running there"), "{text}");
    assert_ne!(advice, RetryAdvice::Never);
}

#[tokio::test]
async fn passwords_are_asked_for_and_never_shown() {
    let server = server(Some("right"), &[]);
    let address = server.address().unwrap();
    for (url, part) in [
        (format!("redis://{address}"), "asks for a password"),
        (
            format!("redis://:{SECRET}@{address}"),
            "check user and password",
        ),
    ] {
        let (text, advice) = refused(&url).await;
        assert!(text.contains(part), "{text}");
        assert_eq!(advice, RetryAdvice::Never, "{text}");
    }
}

#[tokio::test]
async fn tls_to_a_plain_port_is_told() {
    let server = server(None, &[]);
    let (text, _) = refused(&format!("rediss://{}", server.address().unwrap())).await;
    assert!(text.contains("may not speak TLS"), "{text}");
}

#[tokio::test]
async fn a_replica_is_read_only() {
    let primary = server(None, &[]);
    let port = primary
        .address()
        .unwrap()
        .replace("127.0.0.1:", "127.0.0.1 ");
    let replica = server(None, &[("replicaof", &port)]);
    let (text, advice) = refused(&replica.url()).await;
    assert!(
        text.contains("replica") && text.contains("redis-sentinel://"),
        "{text}"
    );
    assert_eq!(advice, RetryAdvice::Never);
}

#[tokio::test]
async fn a_user_without_rights_is_told_before_a_run_is_written() {
    let server = server(None, &[]);
    let address = server.address().unwrap();
    server
        .command(&[
            "ACL",
            "SETUSER",
            "poor",
            "on",
            &format!(">{SECRET}"),
            "~*",
            "&*",
            "+@all",
            "-ltrim",
        ])
        .unwrap();
    let (text, advice) = refused(&format!("redis://poor:{SECRET}@{address}")).await;
    assert!(text.contains("lacks rights"), "{text}");
    assert_eq!(advice, RetryAdvice::Never);
    // The version of the schema may be there.
    let keys = server.command(&["DBSIZE"]).unwrap();
    assert!(keys == "0" || keys == "1", "{keys} keys");
}

#[tokio::test]
async fn the_rights_in_the_guide_are_enough() {
    let server = server(None, &[]);
    let address = server.address().unwrap();
    let rule = include_str!("../../../docs/guide/redis.md");
    let rule = rule
        .lines()
        .find(|line| line.starts_with("ACL SETUSER adjutant "))
        .unwrap();
    let rule = rule.replace("PASSWORD", SECRET);
    server
        .command(&rule.split_whitespace().collect::<Vec<_>>())
        .unwrap();
    let config = RedisConfig::parse(&format!("redis://adjutant:{SECRET}@{address}")).unwrap();
    let store = adjutant_redis::open(config).await.unwrap();
    submit(&store).await;
    let claimed = store.claim(support::claim(Duration::ZERO)).await.unwrap();
    store.commit(support::end(claimed[0].lease)).await.unwrap();
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_server_that_throws_runs_away_is_refused() {
    let server = server(
        None,
        &[("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")],
    );
    let (text, advice) = refused(&server.url()).await;
    assert!(
        text.contains("noeviction") && text.contains("allkeys-lru"),
        "{text}"
    );
    assert_eq!(advice, RetryAdvice::Never);
}

#[tokio::test]
async fn a_full_memory_refuses_writes_whole_and_goes_on_with_more_room() {
    let server = server(None, &[]);
    let store = open(&server).await;
    submit(&store).await;
    let keys = server.command(&["DBSIZE"]).unwrap();
    server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    let error = store.submit(vec![new_run()]).await.unwrap_err();
    assert!(matches!(error, Error::StorageFull { .. }), "{error:?}");
    assert_ne!(error.retry(), RetryAdvice::Never);
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), keys);
    server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .unwrap();
    submit(&store).await;
}

#[tokio::test]
async fn what_can_be_lost_is_told() {
    for (fsync, part) in [
        (AppendFsync::Off, Some("appendonly = no")),
        (AppendFsync::EverySecond, Some("appendfsync = everysec")),
        (AppendFsync::Always, None),
    ] {
        let server = RedisServer::with(RedisSettings {
            fsync,
            ..RedisSettings::default()
        })
        .unwrap();
        let store = open(&server).await;
        let checks = store.check().await.unwrap().checks;
        let (_, told) = checks
            .into_iter()
            .find(|(name, _)| name == "settings")
            .unwrap();
        match part {
            Some(part) => assert!(told.unwrap().contains(part)),
            None => assert_eq!(told, None),
        }
    }
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let server = server(None, &[]);
    server
        .command(&["SET", "{adjutant:0}:schema", "99"])
        .unwrap();
    let (text, _) = refused(&server.url()).await;
    assert!(text.contains("99"), "{text}");
}
