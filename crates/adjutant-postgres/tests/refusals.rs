//! What a store says when it cannot work: what is wrong, what to do, and whether to try again.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod support;

use std::{fs, net::TcpListener, time::Duration};

use adjutant_core::{Error, RetryAdvice};
use adjutant_postgres::PostgresConfig;
use adjutant_queue::{RunLookup, RunQueue};
use adjutant_servers::{PostgresServer, PostgresSettings};
use adjutant_store::Store;
use sqlx::Connection;
use support::{Place, beside, claim, end, run, submit, words};

const SECRET: &str = "kR7-swordfish";

/// Opens and is refused, without a word of the password.
async fn refused(url: &str) -> Error {
    let error = match PostgresConfig::parse(url) {
        Ok(config) => adjutant_postgres::open(config).await.unwrap_err(),
        Err(error) => error,
    };
    let all = format!("{} {error:?}", words(&error));
    assert!(!all.contains(SECRET), "{all}");
    error
}

fn for_people(error: &Error, says: &[&str]) {
    let text = words(error);
    assert_eq!(error.retry(), RetryAdvice::Never, "{text}");
    for part in says {
        assert!(text.contains(part), "`{part}` is not in `{text}`");
    }
}

fn for_later(error: &Error, says: &[&str]) {
    let text = words(error);
    assert!(matches!(error.retry(), RetryAdvice::After(_)), "{text}");
    for part in says {
        assert!(text.contains(part), "`{part}` is not in `{text}`");
    }
}

#[tokio::test]
async fn where_nobody_listens_another_try_may_help() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = refused(&format!("postgres://me:{SECRET}@127.0.0.1:{port}/jobs")).await;
    for_later(
        &error,
        &[
            "refused",
            &format!("me@127.0.0.1:{port}/jobs"),
            "host and port",
        ],
    );
    let error = refused(&format!("postgres://me:{SECRET}@no-such-host.invalid/jobs")).await;
    for_later(&error, &["no-such-host.invalid", "host and port"]);
    let error = refused("postgres://me@%2Fno%2Fsuch%2Ffolder/jobs").await;
    for_later(&error, &["/no/such/folder", "host and port"]);
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_says_nothing_is_given_up() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgres://me:{SECRET}@127.0.0.1:{port}/jobs?connect_timeout=100ms");
    for_later(&refused(&url).await, &["no answer", "host and port"]);
}

#[tokio::test]
async fn a_url_with_a_mistake_names_it() {
    let at = format!("postgres://me:{SECRET}@127.0.0.1/jobs");
    for (query, says) in [
        ("shcema=x", "unknown parameter `shcema`; known are schema, "),
        ("readers=0", "`readers` must be a number above 0"),
        ("lock_timeout=soon", "`lock_timeout` must be a time such as"),
        ("schema=a-b", "schema"),
        ("sslmode=maybe", "maybe"),
        ("port=x", "url"),
        ("connect_timeout=0", "connect_timeout"),
    ] {
        for_people(&refused(&format!("{at}?{query}")).await, &[says]);
    }
    let port = format!("postgres://me:{SECRET}@127.0.0.1:port/jobs");
    for_people(&refused(&port).await, &["url"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_let_us_in_says_why() {
    let mut server = PostgresServer::start_tcp().unwrap();
    let url = format!("postgres://postgres@{}/postgres", server.address().unwrap());
    let mut conn = beside(&PostgresConfig::parse(&url).unwrap()).await;
    run(
        &mut conn,
        format!("create role me login password '{SECRET}'"),
    )
    .await;
    conn.close().await.unwrap();
    let rules = "local all postgres trust\nhost all me 127.0.0.1/32 scram-sha-256\n";
    server.stop().unwrap();
    fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
    server.restart().unwrap();
    let address = server.address().unwrap();

    let error = refused(&format!("postgres://me:wrong@{address}/postgres")).await;
    for_people(&error, &["28P01", "check user and password"]);
    assert!(!words(&error).contains("wrong"));
    let error = refused(&format!("postgres://you:{SECRET}@{address}/postgres")).await;
    for_people(&error, &["28000", "pg_hba.conf"]);
    let error = refused(&format!("postgres://me:{SECRET}@{address}/jobs")).await;
    for_people(&error, &["\"jobs\"", "createdb"]);
    let secure = format!("postgres://me:{SECRET}@{address}/postgres?sslmode=require");
    for_people(&refused(&secure).await, &["TLS", "`sslmode`"]);
    // Right in all of this, but without the right to make a schema.
    let error = refused(&format!("postgres://me:{SECRET}@{address}/postgres")).await;
    for_people(&error, &["42501", "grant `create` on the database"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_not_ours_to_use_are_told_of() {
    let place = Place::new();
    let store = place.open().await;
    let mut conn = beside(&place.config).await;
    let (schema, role) = (&place.config.schema, format!("r{}", place.config.schema));
    run(&mut conn, format!("create role {role} login")).await;
    let mut other = place.config.clone();
    other.connect = other.connect.clone().username(&role);
    let error = adjutant_postgres::open(other.clone()).await.unwrap_err();
    for_people(
        &error,
        &["42501", "all rights on the schema and its tables"],
    );
    // What the message says helps.
    run(
        &mut conn,
        format!("grant usage on schema {schema} to {role}; grant all on all tables in schema {schema} to {role}"),
    )
    .await;
    let allowed = adjutant_postgres::open(other).await.unwrap();
    let id = submit(&allowed).await;
    assert!(store.get(id).await.unwrap().is_some());
    allowed.close().await;
    run(&mut conn, format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_refused() {
    let mut place = Place::new();
    let options = [("default_transaction_read_only", "on")];
    place.config.connect = place.config.connect.clone().options(options);
    let error = adjutant_postgres::open(place.config.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    for_people(&error, &["read-only", &place.config.schema]);
}

#[tokio::test]
async fn a_database_that_is_not_in_utf8_is_refused() {
    let server = PostgresServer::start().unwrap();
    let direct = PostgresConfig::parse(&server.url()).unwrap();
    let mut conn = beside(&direct).await;
    run(
        &mut conn,
        "create database latin encoding 'LATIN1' locale 'C' template template0",
    )
    .await;
    let url = server.url();
    let place = url.strip_suffix("postgres").unwrap();
    let error = refused(&format!("{place}latin")).await;
    for_people(&error, &["LATIN1", "--encoding=UTF8"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_or_a_lock_that_takes_too_long_is_given_up_and_tried_later() {
    let mut place = Place::new();
    place.config.statement_timeout = Duration::from_millis(100);
    place.config.lock_timeout = Duration::from_secs(5);
    let slow = place.open().await;
    place.config.statement_timeout = Duration::from_secs(30);
    place.config.lock_timeout = Duration::from_millis(10);
    let hasty = place.open().await;
    let id = submit(&slow).await;
    let mut conn = beside(&place.config).await;
    run(&mut conn, "begin; lock table runs in access exclusive mode").await;
    let error = slow.claim(claim(Duration::ZERO)).await.unwrap_err();
    for_later(&error, &["57014", "`statement_timeout`"]);
    let error = slow.get(id).await.unwrap_err();
    for_later(&error, &["57014", "`statement_timeout`"]);
    let error = hasty.claim(claim(Duration::ZERO)).await.unwrap_err();
    for_later(&error, &["55P03", "`lock_timeout`"]);
    run(&mut conn, "rollback").await;
    let lease = slow.claim(claim(Duration::ZERO)).await.unwrap()[0].lease;
    hasty.commit(end(lease)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_all_connections_taken_says_which_setting_to_change() {
    let server = PostgresServer::with(PostgresSettings {
        more: vec![
            ("max_connections".to_owned(), "4".to_owned()),
            ("superuser_reserved_connections".to_owned(), "0".to_owned()),
            ("max_wal_senders".to_owned(), "0".to_owned()),
        ],
        ..PostgresSettings::default()
    })
    .unwrap();
    let config = PostgresConfig::parse(&server.url()).unwrap();
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(beside(&config).await);
    }
    let error = refused(&server.url()).await;
    for_later(&error, &["53300", "`max_connections`"]);
    taken.clear();
    support::until(|| async { adjutant_postgres::open(config.clone()).await.is_ok() }).await;
}
