//! The protocol of Redis (RESP2), as far as it is needed: commands go as lists of texts, and an answer has one of five forms.
//!
//! By ourselves, because that is all that would be used of a client library: their logins keep the server's words to
//! themselves, their errors quote answers, and no answer is bounded.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use zeroize::Zeroizing;

/// What TCP and TLS have in common.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection: one command at a time.
pub(super) struct Wire {
    stream: BufReader<Box<dyn Stream>>,
}

/// An answer. No Debug: it may hold values.
pub(super) enum Answer {
    /// `OK`, or a text of the server's.
    Text(String),
    /// What went wrong: a code, a blank, and words.
    Error(String),
    Number(i64),
    Bytes(Zeroizing<Vec<u8>>),
    List(Vec<Self>),
    Nothing,
}

/// Why there is no answer.
pub(super) enum NoAnswer {
    /// The connection broke.
    Io(io::Error),
    /// That is not Redis.
    Malformed,
    /// Larger than allowed.
    Oversized,
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Wire {
    pub(super) fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// Sends a command and reads its answer, of which at most `limit` bytes are kept.
    pub(super) async fn ask(&mut self, command: &[&[u8]], limit: usize) -> Result<Answer, NoAnswer> {
        let mut bytes = Zeroizing::new(format!("*{}\r\n", command.len()).into_bytes());
        for part in command {
            bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        let mut room = limit;
        self.answer(&mut room, MAX_DEPTH).await
    }

    async fn answer(&mut self, room: &mut usize, depth: usize) -> Result<Answer, NoAnswer> {
        let line = self.line().await?;
        let Some((kind, rest)) = line.split_at_checked(1) else { return Err(NoAnswer::Malformed) };
        let number = || rest.parse::<i64>().map_err(|_| NoAnswer::Malformed);
        match kind {
            "+" => Ok(Answer::Text(rest.to_owned())),
            "-" => Ok(Answer::Error(rest.to_owned())),
            ":" => Ok(Answer::Number(number()?)),
            "$" | "*" if rest == "-1" => Ok(Answer::Nothing),
            "$" => {
                let length = usize::try_from(number()?).map_err(|_| NoAnswer::Malformed)?;
                *room = room.checked_sub(length).ok_or(NoAnswer::Oversized)?;
                let mut bytes = Zeroizing::new(vec![0; length]);
                self.stream.read_exact(&mut bytes).await?;
                let mut end = [0; 2];
                self.stream.read_exact(&mut end).await?;
                if end == *b"\r\n" { Ok(Answer::Bytes(bytes)) } else { Err(NoAnswer::Malformed) }
            }
            "*" => {
                let length = usize::try_from(number()?).map_err(|_| NoAnswer::Malformed)?;
                let depth = depth.checked_sub(1).ok_or(NoAnswer::Oversized)?;
                let mut list = Vec::new();
                for _ in 0..length {
                    *room = room.checked_sub(size_of::<Answer>()).ok_or(NoAnswer::Oversized)?;
                    list.push(Box::pin(self.answer(room, depth)).await?);
                }
                Ok(Answer::List(list))
            }
            _other => Err(NoAnswer::Malformed),
        }
    }

    /// A line without its end.
    async fn line(&mut self) -> Result<String, NoAnswer> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let line = line.strip_suffix(b"\r\n").ok_or(NoAnswer::Malformed)?;
        String::from_utf8(line.to_vec()).map_err(|_| NoAnswer::Malformed)
    }
}

/// Longest line: numbers, `OK` and words of errors.
const MAX_LINE_BYTES: u64 = 4096;

/// Lists in lists: SCAN answers with two, HELLO with three.
const MAX_DEPTH: usize = 4;
