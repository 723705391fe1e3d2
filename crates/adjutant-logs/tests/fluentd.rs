//! A Fluentd gets every line at least once, whatever becomes of the connection.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::mpsc,
    time::Duration,
};

use adjutant_logs::{Config, Fluentd, FluentdAddress, LogBook, Stream};
use serde::Deserialize;
use serde_bytes::ByteBuf;

const PATIENCE: Duration = Duration::from_secs(30);

/// What the protocol calls an event time.
#[derive(Debug, Deserialize)]
#[serde(rename = "_ExtStruct")]
struct EventTime((i8, ByteBuf));

#[derive(Debug, Deserialize)]
struct Options {
    chunk: String,
    size: usize,
}

type Chunk = (String, Vec<(EventTime, serde_json::Value)>, Options);

/// What a server does with the chunks of one connection.
#[derive(Clone, Copy)]
enum Manner {
    Acknowledge,
    /// Takes one chunk and hangs up without a word.
    HangUp,
    /// Acknowledges what nobody sent.
    Confuse,
}

/// Serves one connection: hands on the chunks and answers them in its manner.
fn serve(stream: impl Read + Write, manner: Manner, chunks: &mpsc::Sender<Chunk>) {
    let mut stream = stream;
    loop {
        let Ok(chunk) = rmp_serde::from_read::<_, Chunk>(&mut stream) else {
            return;
        };
        let ack = match manner {
            Manner::Acknowledge => chunk.2.chunk.clone(),
            Manner::Confuse => "another".to_owned(),
            Manner::HangUp => {
                chunks.send(chunk).unwrap();
                return;
            }
        };
        chunks.send(chunk).unwrap();
        let answer = rmp_serde::to_vec_named(&serde_json::json!({ "ack": ack })).unwrap();
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn book(address: FluentdAddress) -> LogBook {
    let fluentd = Fluentd {
        retry: Duration::from_millis(5),
        ..Fluentd::at(address)
    };
    let config = Config {
        fluentd: Some(fluentd),
        ..Config::default()
    };
    LogBook::start(config).unwrap()
}

fn messages(chunk: &Chunk) -> Vec<&str> {
    let entries = chunk.1.iter();
    entries
        .map(|(_, entry)| entry["message"].as_str().unwrap())
        .collect()
}

#[test]
fn lines_arrive_with_tag_time_and_what_is_known_of_them() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = FluentdAddress::Tcp(listener.local_addr().unwrap().to_string());
    let (send, chunks) = mpsc::channel();
    std::thread::spawn(move || serve(listener.accept().unwrap().0, Manner::Acknowledge, &send));
    let book = book(address);
    let log = book.instance("a-01");
    log.line(
        Some("run_1"),
        Stream::Stderr,
        br#"{"level":"warn","msg":"full","free":3}"#,
    );
    let (tag, entries, options) = chunks.recv_timeout(PATIENCE).unwrap();
    assert_eq!((tag.as_str(), options.size), ("adjutant.a-01", 1));
    let (EventTime((kind, time)), entry) = &entries[0];
    assert_eq!((*kind, time.len()), (0, 8));
    let seconds = u32::from_be_bytes(time[..4].try_into().unwrap());
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    assert!(now - u64::from(seconds) < 60);
    assert_eq!(
        *entry,
        serde_json::json!({
            "level": "warn", "instance": "a-01", "run_id": "run_1", "stream": "stderr", "message": "full",
            "fields": { "free": 3 }
        })
    );
    assert!(book.close(PATIENCE));
}

#[test]
fn what_is_not_acknowledged_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fluentd.sock");
    // Nobody listens yet, which must not matter either.
    let book = book(FluentdAddress::Unix(path.clone()));
    let log = book.instance("a-01");
    log.line(None, Stream::Stderr, b"first");
    std::thread::sleep(Duration::from_millis(20));
    let listener = UnixListener::bind(path).unwrap();
    let (send, chunks) = mpsc::channel();
    std::thread::spawn(move || {
        for manner in [Manner::HangUp, Manner::Confuse, Manner::Acknowledge] {
            serve(listener.accept().unwrap().0, manner, &send);
        }
    });
    for _ in 0..3 {
        let chunk = chunks.recv_timeout(PATIENCE).unwrap();
        assert_eq!(messages(&chunk)[0], "first");
    }
    log.line(None, Stream::Stderr, b"second");
    let chunk = chunks.recv_timeout(PATIENCE).unwrap();
    assert_eq!(messages(&chunk), ["second"]);
    assert!(book.close(PATIENCE));
    assert!(
        chunks.try_recv().is_err(),
        "nothing is sent once more than needed"
    );
}

#[test]
fn a_fluentd_that_is_not_there_holds_up_neither_lines_nor_the_end() {
    let book = book(FluentdAddress::Tcp("127.0.0.1:1".to_owned()));
    let log = book.instance("a-01");
    for _ in 0..100_000 {
        log.line(None, Stream::Stderr, &[b'x'; 200]);
    }
    let start = std::time::Instant::now();
    book.close(Duration::from_millis(100));
    assert!(start.elapsed() < PATIENCE);
}
