//! Notices lines that are too long to be read, and whose answers they are.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rmcp::model::RequestId;
use tokio::io::{AsyncRead, ReadBuf};

use super::tickets::Tickets;

/// The longest line that is read. The library throws a longer one away without a word.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// The number of an answer is within its first bytes, if it is to be found at all.
const HEAD_BYTES: usize = 256;

/// A server's output.
pub(super) struct Widths<R> {
    inner: R,
    tickets: Arc<Tickets>,
    head: Vec<u8>,
    length: usize,
}

impl<R> Widths<R> {
    pub(super) fn new(inner: R, tickets: Arc<Tickets>) -> Self {
        Self {
            inner,
            tickets,
            head: Vec::with_capacity(HEAD_BYTES),
            length: 0,
        }
    }

    fn look(&mut self, bytes: &[u8]) {
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            self.lengthen(part);
            if lines.peek().is_some() {
                self.length = 0;
                self.head.clear();
            }
        }
    }

    fn lengthen(&mut self, part: &[u8]) {
        let room = HEAD_BYTES.saturating_sub(self.head.len()).min(part.len());
        self.head.extend(part.iter().take(room));
        let fitted = self.length < MAX_LINE_BYTES;
        self.length += part.len();
        if fitted && self.length >= MAX_LINE_BYTES {
            tracing::warn!(bytes = MAX_LINE_BYTES, "a message is too long to be read");
            if let Some(id) = answer_to(&self.head) {
                self.tickets.too_long(&RequestId::Number(id));
            }
        }
    }
}

/// The number of the request that is answered by a message which begins so.
fn answer_to(head: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(head);
    let (_, after) = text.split_once("\"id\"")?;
    let number = after.trim_start().strip_prefix(':')?.trim_start();
    let end = number.find(|c: char| !c.is_ascii_digit())?;
    number.get(..end)?.parse().ok()
}

impl<R: AsyncRead + Unpin> AsyncRead for Widths<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(bytes) = buf.filled().get(before..) {
            self.look(bytes);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_number_is_read_from_its_beginning() {
        let cases = [
            (r#"{"jsonrpc":"2.0","id":17,"result":{"#, Some(17)),
            (r#"{"id" : 3 ,"x"#, Some(3)),
            (r#"{"jsonrpc":"2.0","id":"a","result":{"#, None),
            ("garbage", None),
        ];
        for (head, id) in cases {
            assert_eq!(answer_to(head.as_bytes()), id, "{head}");
        }
    }
}
