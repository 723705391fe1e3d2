//! Logs are written without making anybody wait, and read back whole.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use adjutant_logs::{Config, Format, Level, LogBook, Query, Reader, Record, Rotation, Stream};
use serde_json::Map;

const PATIENCE: Duration = Duration::from_secs(30);

fn all(reader: &mut Reader) -> Vec<Record> {
    std::iter::from_fn(|| reader.next_record().unwrap()).collect()
}

fn messages(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| &*record.message).collect()
}

/// Reads on until a line says `last`.
fn follow(reader: &mut Reader, last: &str, seen: &AtomicUsize) -> Vec<Record> {
    let start = Instant::now();
    let mut records = Vec::new();
    while records
        .last()
        .is_none_or(|record: &Record| record.message != last)
    {
        match reader.next_record().unwrap() {
            Some(record) => {
                records.push(record);
                seen.store(records.len(), Ordering::Relaxed);
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
        let told = || {
            records
                .iter()
                .rev()
                .take(3)
                .map(|r| &r.message)
                .collect::<Vec<_>>()
        };
        assert!(
            start.elapsed() < PATIENCE,
            "{last:?} never came after {}: {:?}",
            records.len(),
            told()
        );
    }
    records
}

#[test]
fn a_follower_sees_each_line_once_across_cuts() {
    const LINES: usize = 20_000;
    for format in [Format::Json, Format::Text] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            format,
            rotation: Rotation {
                max_bytes: 20_000,
                files: 1000,
                ..Rotation::default()
            },
            ..Config::in_folder(dir.path())
        };
        let mut reader = Reader::new(dir.path(), Query::default()).unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let seen_there = Arc::clone(&seen);
        let writer = std::thread::spawn(move || {
            let book = LogBook::start(config).unwrap();
            let log = book.instance("a-01");
            for number in 0..LINES {
                log.line(
                    Some("run_1"),
                    Stream::Stderr,
                    format!("line {number}").as_bytes(),
                );
                // So that nothing has to be dropped.
                while number > seen_there.load(Ordering::Relaxed) + 1000 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            assert!(book.close(PATIENCE));
        });
        let seen = follow(&mut reader, &format!("line {}", LINES - 1), &seen);
        writer.join().unwrap();
        let expected: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
        assert_eq!(messages(&seen), expected, "{format:?}");
        assert!(!reader.lost_lines());
        let again = all(&mut Reader::new(dir.path(), Query::default()).unwrap());
        assert_eq!(again, seen);
    }
}

#[test]
fn lines_of_several_instances_come_in_the_order_of_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let book = LogBook::start(Config::in_folder(dir.path())).unwrap();
    let logs = [book.instance("a-01"), book.instance("b-01")];
    for number in 0..10 {
        let line = format!("{number}");
        logs[number % 2].line(None, Stream::Stderr, line.as_bytes());
    }
    assert!(book.close(PATIENCE));
    let records = all(&mut Reader::new(dir.path(), Query::default()).unwrap());
    assert_eq!(
        messages(&records),
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    );
}

#[test]
fn a_query_takes_what_it_names_only() {
    let dir = tempfile::tempdir().unwrap();
    let book = LogBook::start(Config::in_folder(dir.path())).unwrap();
    let (a, b) = (book.instance("a-01"), book.instance("b-01"));
    a.line(Some("run_1"), Stream::Stderr, b"ERROR: disk gone");
    a.line(
        Some("run_2"),
        Stream::Stderr,
        b"level=warn msg=\"disk slow\"",
    );
    a.line(Some("run_2"), Stream::Stdout, b"hello");
    b.record(
        Some("run_2"),
        Stream::Wire,
        Level::Debug,
        "disk fine",
        Map::new(),
    );
    assert!(book.close(PATIENCE));
    let seen = |query: Query| {
        let records = all(&mut Reader::new(dir.path(), query).unwrap());
        messages(&records).join(", ")
    };
    let query = Query::default;
    assert_eq!(seen(query()), "disk gone, disk slow, hello, disk fine");
    let run_id = Some("run_2".to_owned());
    assert_eq!(
        seen(Query { run_id, ..query() }),
        "disk slow, hello, disk fine"
    );
    let instance = Some("b-01".to_owned());
    assert_eq!(
        seen(Query {
            instance,
            ..query()
        }),
        "disk fine"
    );
    let level = Some(Level::Warn);
    assert_eq!(seen(Query { level, ..query() }), "disk gone, disk slow");
    let grep = Some(regex::Regex::new("^disk (s|f)").unwrap());
    assert_eq!(seen(Query { grep, ..query() }), "disk slow, disk fine");
    let since = Some(jiff::Timestamp::MAX);
    assert_eq!(seen(Query { since, ..query() }), "");
}

/// A stdout whose reader is asleep.
struct Stuck {
    wake: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Until the other end is dropped.
        let _ = self.wake.lock().unwrap().recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_flood_makes_nobody_wait_and_what_is_dropped_is_told() {
    const LINES: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let (wake, asleep) = mpsc::channel();
    let wake_later = Arc::new(Mutex::new(asleep));
    let stuck = Stuck { wake: wake_later };
    let book = LogBook::with_stdout(Config::in_folder(dir.path()), Some(Box::new(stuck))).unwrap();
    let (flood, quiet) = (book.instance("flood-01"), book.instance("quiet-01"));
    // The writer sleeps with the first line, so this would never end if anything waited for it.
    for number in 0..LINES {
        flood.line(None, Stream::Stderr, format!("line {number}").as_bytes());
    }
    quiet.line(None, Stream::Stderr, b"still heard");
    drop(wake);
    assert!(book.close(PATIENCE));
    let records = all(&mut Reader::new(dir.path(), Query::default()).unwrap());
    let told: u64 = records
        .iter()
        .filter_map(|record| record.fields.get("dropped")?.as_u64())
        .sum();
    let kept = records
        .iter()
        .filter(|record| record.stream == Stream::Stderr);
    assert_eq!(kept.count() as u64 + told, LINES + 1);
    assert!(told > LINES / 2, "only {told} were dropped");
    assert!(messages(&records).contains(&"still heard"));
}

fn has(book: &LogBook, number: usize) -> bool {
    let recent = book.recent("a-01");
    let last = recent.last();
    last.is_some_and(|last| last.message.starts_with(&format!("{number} ")))
}

#[test]
fn the_last_lines_are_kept_in_memory_within_a_mebibyte() {
    let book = LogBook::start(Config::default()).unwrap();
    let log = book.instance("a-01");
    for number in 0..3000 {
        log.line(
            None,
            Stream::Stderr,
            format!("{number} {}", "x".repeat(1000)).as_bytes(),
        );
        // So that nothing has to be dropped.
        let start = Instant::now();
        while number % 500 == 499 && !has(&book, number) {
            std::thread::sleep(Duration::from_millis(1));
            assert!(start.elapsed() < PATIENCE, "{number} never came");
        }
    }
    assert!(book.close(PATIENCE));
    let recent = book.recent("a-01");
    assert!((500..1100).contains(&recent.len()), "{}", recent.len());
    assert!(recent.last().unwrap().message.starts_with("2999 "));
    assert_eq!(book.recent("b-01"), []);
}

#[test]
fn a_reader_of_no_folder_waits_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let mut reader = Reader::new(&logs, Query::default()).unwrap();
    assert_eq!(reader.next_record().unwrap(), None);
    let book = LogBook::start(Config::in_folder(&logs)).unwrap();
    book.instance("a-01").line(None, Stream::Stderr, b"here");
    assert!(book.close(PATIENCE));
    assert_eq!(messages(&all(&mut reader)), ["here"]);
}
