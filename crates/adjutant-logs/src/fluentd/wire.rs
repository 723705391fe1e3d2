//! The forward protocol, version 1, in its forward mode with acknowledgements.

use std::{
    io::{self, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::Duration,
};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_bytes::ByteBuf;

use crate::{
    config::{Fluentd, FluentdAddress},
    record::Record,
};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream that can be read with a time limit.
trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

pub(super) struct Connection {
    stream: BufReader<Box<dyn Duplex>>,
    /// Tells this connection's chunks from those of earlier ones.
    serial: u64,
}

/// What is answered.
#[derive(Debug, Deserialize)]
struct Ack {
    ack: String,
}

#[derive(Serialize)]
struct Options<'a> {
    chunk: &'a str,
    size: usize,
}

/// Seconds and nanoseconds, as the protocol's extension type 0.
#[derive(Serialize)]
#[serde(rename = "_ExtStruct")]
struct EventTime((i8, ByteBuf));

/// A record as the protocol's map of what is worth a name.
struct Entry<'a>(&'a Record);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("level", record.level.as_str())?;
        map.serialize_entry("instance", &*record.instance)?;
        if let Some(run) = &record.run_id {
            map.serialize_entry("run_id", &**run)?;
        }
        map.serialize_entry("stream", record.stream.as_str())?;
        map.serialize_entry("message", &record.message)?;
        if !record.fields.is_empty() {
            map.serialize_entry("fields", &record.fields)?;
        }
        map.end()
    }
}

impl Connection {
    pub(super) fn open(config: &Fluentd) -> io::Result<Self> {
        let timeout = Some(config.ack_timeout);
        let stream: Box<dyn Duplex> = match &config.address {
            FluentdAddress::Tcp(address) => {
                let stream = connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)?;
                Box::new(stream)
            }
            FluentdAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)?;
                Box::new(stream)
            }
        };
        Ok(Self {
            stream: BufReader::new(stream),
            serial: 0,
        })
    }

    /// Sends records of one instance and waits until they are acknowledged. After a failure nobody knows whether they
    /// arrived, so they are sent again: at least once, not exactly once.
    pub(super) fn send(&mut self, tag: &str, batch: &[Record]) -> io::Result<()> {
        let Some(first) = batch.first() else {
            return Ok(());
        };
        self.serial += 1;
        let chunk = format!(
            "{}-{}-{}",
            std::process::id(),
            first.time.as_nanosecond(),
            self.serial
        );
        let message = encode(&format!("{tag}.{}", first.instance), batch, &chunk)?;
        let stream = self.stream.get_mut();
        stream.write_all(&message)?;
        stream.flush()?;
        let ack: Ack = rmp_serde::from_read(&mut self.stream).map_err(io::Error::other)?;
        if ack.ack == chunk {
            return Ok(());
        }
        Err(io::Error::other("another chunk was acknowledged"))
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `[tag, [[time, record], …], {chunk, size}]`
fn encode(tag: &str, batch: &[Record], chunk: &str) -> io::Result<Vec<u8>> {
    let entries: Vec<_> = batch
        .iter()
        .map(|record| (event_time(record), Entry(record)))
        .collect();
    let options = Options {
        chunk,
        size: batch.len(),
    };
    let mut message = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut message).with_struct_map();
    (tag, entries, options)
        .serialize(&mut serializer)
        .map_err(io::Error::other)?;
    Ok(message)
}

fn event_time(record: &Record) -> EventTime {
    let seconds = u32::try_from(record.time.as_second()).unwrap_or_default();
    let nanos = u32::try_from(record.time.subsec_nanosecond()).unwrap_or_default();
    let mut bytes = seconds.to_be_bytes().to_vec();
    bytes.extend_from_slice(&nanos.to_be_bytes());
    EventTime((0, ByteBuf::from(bytes)))
}
