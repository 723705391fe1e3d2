//! As much of the protocol as it takes to start servers.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that asks one thing after another.
pub(crate) struct Line {
    reader: BufReader<Box<dyn Read>>,
    writer: Box<dyn Write>,
}

impl Line {
    pub(crate) fn unix(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            reader: BufReader::new(Box::new(stream.try_clone()?)),
            writer: Box::new(stream),
        })
    }

    pub(crate) fn tcp(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            reader: BufReader::new(Box::new(stream.try_clone()?)),
            writer: Box::new(stream),
        })
    }

    pub(crate) fn ask(&mut self, words: &[&str]) -> Result<String> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.writer.write_all(text.as_bytes())?;
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).context("no answer")?;
        match kind {
            "-" => bail!("redis: {rest}"),
            "$" if rest != "-1" => {
                let mut text = vec![0; rest.parse::<usize>()? + 2];
                self.reader.read_exact(&mut text)?;
                text.truncate(text.len() - 2);
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            _ => Ok(rest.to_owned()),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
