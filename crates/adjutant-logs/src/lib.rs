//! The logs of agents: kept in bounded files, read back and followed, passed on.
//!
//! A [`LogBook`] takes in lines of many instances and never makes them wait: one thread reads levels and times out of
//! the lines and writes them to a file for each instance, which is cut by size and age, to stdout, or to a Fluentd.
//! What comes faster than it can be written is dropped, counted, and the count is written down. [`Reader`] reads the
//! files back, while they are written and afterwards, across their cuts, each line once.
//!
//! ```
//! use adjutant_logs::{Config, LogBook, Query, Reader, Stream};
//! use std::time::Duration;
//!
//! let dir = std::env::temp_dir().join(format!("adjutant-logs-{}", std::process::id()));
//! let book = LogBook::start(Config::in_folder(&dir))?;
//! book.instance("hello-01").line(Some("run_1"), Stream::Stderr, b"level=warn msg=\"nearly full\"");
//! book.close(Duration::from_secs(5));
//!
//! let record = Reader::new(&dir, Query::default())?.next_record()?.unwrap();
//! assert_eq!((record.level.as_str(), record.message.as_str()), ("warn", "nearly full"));
//! # std::fs::remove_dir_all(dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod error;
mod record;

mod cut;
mod line;
mod text;

mod book;
mod fluentd;
mod ring;
mod rotate;
mod writer;

mod chain;
mod query;
mod read;

pub use crate::{
    book::{InstanceLog, LogBook},
    config::{Config, Fluentd, FluentdAddress, Format, Rotation},
    cut::{LineCutter, MAX_LINE_BYTES},
    error::{Error, Result},
    line::level_of,
    query::Query,
    read::Reader,
    record::{Level, Record, Stream},
};
