//! The place that a browser comes back to: one answer on this machine's own address.

use std::io;

use reqwest::Url;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Duration, timeout},
};

/// Longest head of a request that is read.
const MOST_BYTES: usize = 16 * 1024;

/// Time for one visitor to say what they want. Browsers connect ahead and say nothing; the one that matters waits meanwhile.
const VISIT: Duration = Duration::from_secs(2);

/// The path that browsers are sent back to.
pub(super) const PATH: &str = "/callback";

/// What a browser brings back.
pub(super) struct Brought {
    pub(super) code: String,
    pub(super) issuer: Option<String>,
}

/// Waits for the visitor with the right state. Others are turned away and change nothing; what the authorization server
/// says against the login is the error.
pub(super) async fn wait(listener: &TcpListener, state: &str) -> Result<Brought, String> {
    loop {
        let accepted = listener.accept().await;
        let (mut visitor, _) = accepted.map_err(|error| error.to_string())?;
        let Ok(Ok(url)) = timeout(VISIT, read(&mut visitor)).await else {
            continue;
        };
        let said = |name: &str| {
            let mut pairs = url.query_pairs();
            pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        };
        if url.path() != PATH || said("state").as_deref() != Some(state) {
            let _ = timeout(
                VISIT,
                say(
                    &mut visitor,
                    "400 Bad Request",
                    "This is no answer to the login.",
                ),
            )
            .await;
            continue;
        }
        let brought = match (said("error"), said("code")) {
            (None, Some(code)) => Ok(Brought {
                code,
                issuer: said("iss"),
            }),
            (Some(error), _) => {
                let more = said("error_description").unwrap_or_default();
                Err(format!("the authorization server says {error} {more}"))
            }
            (None, None) => Err("the authorization server sent no code".to_owned()),
        };
        let words = "You may close this window and go back to the terminal.";
        let _ = timeout(VISIT, say(&mut visitor, "200 OK", words)).await;
        return brought;
    }
}

/// The address in the first line of a request.
async fn read(visitor: &mut TcpStream) -> io::Result<Url> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        let count = visitor.read(&mut part).await?;
        if count == 0 || head.len() + count > MOST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(&part[..count]);
    }
    let text = String::from_utf8_lossy(&head);
    let mut words = text.split(' ');
    let target = match (words.next(), words.next()) {
        (Some("GET"), Some(target)) if target.starts_with('/') => target,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    Url::parse(&format!("http://127.0.0.1{target}")).map_err(io::Error::other)
}

async fn say(visitor: &mut TcpStream, status: &str, words: &str) -> io::Result<()> {
    let length = words.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{words}"
    );
    visitor.write_all(answer.as_bytes()).await?;
    visitor.shutdown().await
}
