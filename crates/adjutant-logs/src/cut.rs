//! Cutting a stream of bytes into lines of bounded length.

/// Longer lines are cut.
pub const MAX_LINE_BYTES: usize = 8 * 1024;

/// Cuts a stream into lines of at most [`MAX_LINE_BYTES`]; says in a longer one how much of it is missing.
#[derive(Debug, Default)]
pub struct LineCutter {
    line: Vec<u8>,
    /// Bytes of the current line that were not kept.
    missing: u64,
}

impl LineCutter {
    /// Takes in bytes and hands on the lines that they complete, without their ends.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            if self.line.is_empty() && piece.len() <= MAX_LINE_BYTES {
                // The usual case needs no copy.
                take(trimmed(piece));
                continue;
            }
            self.keep(piece);
            self.emit(&mut take);
        }
        self.keep(last);
    }

    /// Hands on what is left of a stream that has ended.
    pub fn finish(&mut self, mut take: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            self.emit(&mut take);
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = MAX_LINE_BYTES - self.line.len().min(MAX_LINE_BYTES);
        let kept = piece.get(..room).unwrap_or(piece);
        self.line.extend_from_slice(kept);
        self.missing += (piece.len() - kept.len()) as u64;
    }

    fn emit(&mut self, take: &mut impl FnMut(&[u8])) {
        if self.missing > 0 {
            let note = format!(" … {} bytes cut", self.missing);
            self.line
                .truncate(MAX_LINE_BYTES.saturating_sub(note.len()));
            self.line.extend_from_slice(note.as_bytes());
        }
        take(trimmed(&self.line));
        self.line.clear();
        self.missing = 0;
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_the_bytes_come() {
        let text = format!("a\r\n{}\n\nlast", "x".repeat(100_000));
        for chunk in [1, 7, 8192, 200_000] {
            let mut cutter = LineCutter::default();
            let mut lines: Vec<String> = Vec::new();
            let mut take = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
            for bytes in text.as_bytes().chunks(chunk) {
                cutter.push(bytes, &mut take);
            }
            cutter.finish(&mut take);
            assert_eq!(lines.len(), 4, "chunks of {chunk}");
            assert_eq!((lines[0].as_str(), lines[2].as_str()), ("a", ""));
            assert_eq!(lines[3], "last");
            assert_eq!(lines[1].len(), MAX_LINE_BYTES);
            assert!(lines[1].ends_with(" bytes cut"), "{}", &lines[1][8000..]);
        }
    }
}
