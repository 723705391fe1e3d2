//! The way to the host: stdin and stdout, or the socket that the environment names.

use std::{
    env, fmt,
    io::{self, Read, Write},
};

use adjutant_wire::{
    Hello, Message, Notification, encode,
    transport::{ADDRESS_VARIABLE, Address, TOKEN_VARIABLE, UnknownAddress},
};

pub(crate) type Input = Box<dyn Read + Send>;
pub(crate) type Output = Box<dyn Write + Send>;

/// Why the host cannot be reached.
#[derive(Debug)]
pub(crate) enum Unreachable {
    Address(UnknownAddress),
    Io(Address, io::Error),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::Io(address, error) => write!(f, "connect to {address}: {error}"),
        }
    }
}

/// Reaches the host and says who comes.
pub(crate) fn connect() -> Result<(Input, Output), Unreachable> {
    let address = env::var(ADDRESS_VARIABLE).unwrap_or_default();
    let address: Address = address.parse().map_err(Unreachable::Address)?;
    let failed = |error| Unreachable::Io(address.clone(), error);
    let (input, mut output) = match &address {
        Address::Stdio => return Ok((Box::new(io::stdin()), Box::new(io::stdout()))),
        Address::Unix(path) => unix(path).map_err(failed)?,
        Address::WebSocket(url) => websocket(url, &address)?,
    };
    let token = env::var(TOKEN_VARIABLE).unwrap_or_default();
    greet(&mut output, token).map_err(failed)?;
    Ok((input, output))
}

fn greet(output: &mut Output, token: String) -> io::Result<()> {
    let hello = Notification::notice(&Hello { token }).map_err(io::Error::other)?;
    output.write_all(encode(&Message::from(hello)).as_bytes())?;
    output.flush()
}

#[cfg(unix)]
fn unix(path: &std::path::Path) -> io::Result<(Input, Output)> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    let output = stream.try_clone()?;
    Ok((Box::new(stream), Box::new(output)))
}

#[cfg(not(unix))]
fn unix(_path: &std::path::Path) -> io::Result<(Input, Output)> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(feature = "websocket")]
fn websocket(url: &str, address: &Address) -> Result<(Input, Output), Unreachable> {
    crate::websocket::connect(url).map_err(|error| Unreachable::Io(address.clone(), error))
}

#[cfg(not(feature = "websocket"))]
fn websocket(_url: &str, address: &Address) -> Result<(Input, Output), Unreachable> {
    let why = "built without the library's feature `websocket`";
    let error = io::Error::new(io::ErrorKind::Unsupported, why);
    Err(Unreachable::Io(address.clone(), error))
}
