//! Secrets that a process says are not passed on: they become `***` before anybody reads what it says.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// What is read instead of a secret.
const MASK: &[u8] = b"***";

/// Shorter values are in every other word, and no secrets.
const MIN_BYTES: usize = 4;

/// How much is read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// The byte strings that are looked for: values as they are, and as JSON writes them.
#[derive(Clone, Default)]
pub(crate) struct Needles(Arc<[Vec<u8>]>);

impl Needles {
    pub(super) fn new(values: &[String]) -> Self {
        Self::default().with(values)
    }

    /// These and other values.
    pub(crate) fn with(&self, values: &[String]) -> Self {
        let long_enough = values.iter().filter(|value| value.len() >= MIN_BYTES);
        let mut needles: Vec<Vec<u8>> = long_enough
            .flat_map(|value| {
                let json = serde_json::to_string(value).unwrap_or_default();
                let inner = json.trim_matches('"').as_bytes().to_vec();
                [value.clone().into_bytes(), inner]
            })
            .collect();
        needles.extend_from_slice(&self.0);
        // The longest first, for one may begin with another.
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Self(needles.into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The length of the needle that `text` begins with.
    fn at(&self, text: &[u8]) -> Option<usize> {
        let found = self.0.iter().find(|needle| text.starts_with(needle));
        found.map(Vec::len)
    }

    /// Whether `text` may be the beginning of a needle.
    fn may_begin(&self, text: &[u8]) -> bool {
        self.0.iter().any(|needle| needle.starts_with(text))
    }

    /// Moves what is clear from `text` to `clear`; what may be half a secret stays, unless this is the `end`.
    fn sift(&self, text: &mut Vec<u8>, clear: &mut Vec<u8>, end: bool) {
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            if !end && self.may_begin(rest) {
                break;
            }
            match self.at(rest) {
                Some(length) => {
                    clear.extend_from_slice(MASK);
                    at += length;
                }
                None => {
                    clear.extend(rest.first());
                    at += 1;
                }
            }
        }
        text.drain(..at);
    }
}

/// A stream without secrets.
pub(crate) struct Redacted<S> {
    stream: S,
    needles: Needles,
    chunk: Box<[u8]>,
    /// Read, and perhaps the beginning of a secret.
    doubtful: Vec<u8>,
    clear: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<S> Redacted<S> {
    pub(crate) fn new(stream: S, needles: Needles) -> Self {
        Self {
            stream,
            needles,
            chunk: vec![0; CHUNK_BYTES].into_boxed_slice(),
            doubtful: Vec::new(),
            clear: Vec::new(),
            given: 0,
            ended: false,
        }
    }

    /// Hands out what is clear; whether there was anything.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = self.clear.get(self.given..).unwrap_or_default();
        let piece = rest.get(..rest.len().min(buf.remaining())).unwrap_or(rest);
        buf.put_slice(piece);
        self.given += piece.len();
        let gave = !piece.is_empty();
        if self.given == self.clear.len() {
            self.clear.clear();
            self.given = 0;
        }
        gave
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Redacted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if buf.remaining() == 0 || this.give(buf) || this.ended {
                return Poll::Ready(Ok(()));
            }
            let mut chunk = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut chunk))?;
            this.ended = chunk.filled().is_empty();
            this.doubtful.extend_from_slice(chunk.filled());
            this.needles
                .sift(&mut this.doubtful, &mut this.clear, this.ended);
            if this.ended && this.give(buf) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn needles(values: &[&str]) -> Needles {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        Needles::new(&values)
    }

    /// Reads `text` in pieces of every size.
    async fn check(values: &[&str], text: &str, expected: &str) {
        for size in 1..=text.len().max(1) {
            let pieces = text.as_bytes().chunks(size);
            let mut pieces = in_pieces(pieces.map(<[u8]>::to_vec).collect());
            let mut stream = Redacted::new(&mut pieces, needles(values));
            let mut read = String::new();
            stream.read_to_string(&mut read).await.unwrap();
            assert_eq!(read, expected, "{text} in pieces of {size}");
        }
    }

    /// A stream that gives one piece at a time.
    fn in_pieces(pieces: Vec<Vec<u8>>) -> impl AsyncRead + Unpin {
        struct Pieces(std::collections::VecDeque<Vec<u8>>);
        impl AsyncRead for Pieces {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                buf.put_slice(&self.0.pop_front().unwrap_or_default());
                Poll::Ready(Ok(()))
            }
        }
        Pieces(pieces.into())
    }

    #[tokio::test]
    async fn secrets_are_masked_wherever_the_pieces_end() {
        check(&["hunter2"], "a hunter2 b\n", "a *** b\n").await;
        check(&["hunter2"], "hunterhunter2hunter", "hunter***hunter").await;
        check(&["abab"], "abaabab", "aba***").await;
        check(&["abcd", "abcdef"], "abcde abcdef", "***e ***").await;
        check(
            &["a\"b\\c"],
            r#"{"k":"a\"b\\c"} a"b\c"#,
            r#"{"k":"***"} ***"#,
        )
        .await;
        check(&["abc", ""], "abc", "abc").await;
    }

    #[tokio::test]
    async fn a_line_is_not_held_back() {
        let (mut tx, rx) = tokio::io::duplex(64);
        let mut stream = Redacted::new(rx, needles(&["hunter2"]));
        tokio::io::AsyncWriteExt::write_all(&mut tx, b"hunt\n")
            .await
            .unwrap();
        let mut line = [0; 5];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"hunt\n");
    }
}
