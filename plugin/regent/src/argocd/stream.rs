//! An upload, taken in as it arrives.
//!
//! Whatever was wrong with it, [`super::server`] reads the rest before the answer leaves.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::Streaming;

use super::proto::app_stream_request::Request;
use super::proto::{AppStreamRequest, ManifestRequestMetadata};
use crate::failure::Failure;
use crate::source::tar::{Upload, UploadLimits};

/// The metadata, which has to come first.
pub(super) async fn metadata(stream: &mut Streaming<AppStreamRequest>) -> Result<ManifestRequestMetadata, Failure> {
    match next(stream).await? {
        Some(Request::Metadata(metadata)) => Ok(metadata),
        Some(Request::File(_)) => Err(Failure::Request("starts with a file instead of its metadata".to_owned())),
        None => Err(Failure::Request("is empty: it has no metadata".to_owned())),
    }
}

/// Takes an upload in while it arrives, and goes on with it once it is whole and its checksum matched: on a thread of
/// its own, because hashing, inflating and rendering take long. Returned is also the upload's size as it was sent, in
/// bytes.
pub(super) async fn take_in<T: Send + 'static>(
    stream: &mut Streaming<AppStreamRequest>,
    checksum: &str,
    limits: UploadLimits,
    go_on: impl FnOnce(Upload) -> Result<T, Failure> + Send + 'static,
) -> Result<(T, u64), Failure> {
    let (mut pieces, mut reader) = pieces();
    let (verdict, whole) = oneshot::channel();
    let checksum = checksum.to_owned();
    let mut work = Work::Waiting(move || {
        let upload = Upload::read(&mut reader, limits);
        // A wrong checksum explains whatever else was found.
        let intact = reader.checksum() == checksum;
        match whole.blocking_recv() {
            Ok(Ok(())) if !intact => Err(Failure::Request("has an upload that its checksum does not match".to_owned())),
            Ok(Ok(())) => go_on(upload?),
            Ok(Err(failure)) => Err(failure),
            // The request was given up.
            Err(_) => Err(Failure::Late),
        }
    });
    let received = receive(stream, &mut pieces, || work.start()).await;
    // The reader sees the end.
    drop(pieces);
    drop(verdict.send(received.as_ref().map(|_| ()).map_err(Failure::clone)));
    work.start();
    let made = match work {
        // A panic was reported where it happened.
        Work::Started(handle) => handle.await.unwrap_or(Err(Failure::Bug))?,
        Work::Waiting(_) | Work::Starting => return Err(Failure::Bug),
    };
    Ok((made, received?))
}

/// Work for another thread. It starts with the first full piece; a small upload is whole before, and then the thread
/// never waits.
enum Work<W, T> {
    Waiting(W),
    Starting,
    Started(JoinHandle<T>),
}

impl<T: Send + 'static, W: FnOnce() -> T + Send + 'static> Work<W, T> {
    fn start(&mut self) {
        *self = match std::mem::replace(self, Self::Starting) {
            Self::Waiting(work) => Self::Started(tokio::task::spawn_blocking(work)),
            started @ (Self::Starting | Self::Started(_)) => started,
        };
    }
}

/// Hands the upload over in pieces, to its end. `start` is called whenever somebody should read.
async fn receive(
    stream: &mut Streaming<AppStreamRequest>,
    pieces: &mut Pieces,
    mut start: impl FnMut(),
) -> Result<u64, Failure> {
    let mut size = 0;
    while let Some(request) = next(stream).await? {
        let Request::File(mut file) = request else {
            return Err(Failure::Request("holds metadata twice".to_owned()));
        };
        size += file.chunk.len() as u64;
        while pieces.fill(&mut file.chunk) {
            start();
            pieces.flush().await;
        }
    }
    pieces.flush().await;
    Ok(size)
}

/// The writing end. What arrives, in chunks of a kilobyte by Argo CD's default and of 4 MiB at times, is copied to
/// pieces of one size, so that the reading thread is not woken for each chunk, and so that gRPC's own buffer and the
/// pieces are used again and again: fresh memory costs more than copying.
struct Pieces {
    piece: Vec<u8>,
    is_first: bool,
    full: mpsc::Sender<Vec<u8>>,
    /// Pieces that were read.
    empty: std::sync::mpsc::Receiver<Vec<u8>>,
}

/// The reading end, for a thread that may block.
struct PiecesReader {
    piece: Vec<u8>,
    at: usize,
    full: mpsc::Receiver<Vec<u8>>,
    empty: std::sync::mpsc::Sender<Vec<u8>>,
    /// Of all pieces that were begun.
    hasher: Sha256,
}

/// Size of a piece: large enough that handing it over costs nothing beside hashing it.
const PIECE_BYTES: usize = 256 << 10;
/// Room for a small upload.
const FIRST_BYTES: usize = 8 << 10;
/// Pieces under way: beyond that the stream waits for the reader.
const PIECES_AHEAD: usize = 8;

/// Both ends.
fn pieces() -> (Pieces, PiecesReader) {
    let (full, filled) = mpsc::channel(PIECES_AHEAD);
    let (empty, emptied) = std::sync::mpsc::channel();
    let reader = PiecesReader { piece: Vec::new(), at: 0, full: filled, empty, hasher: Sha256::new() };
    (Pieces { piece: Vec::new(), is_first: true, full, empty: emptied }, reader)
}

impl Pieces {
    /// Takes the part of a chunk for which there is room in the piece. Whether that is full now.
    fn fill(&mut self, chunk: &mut Bytes) -> bool {
        let part = chunk.split_to(chunk.len().min(PIECE_BYTES - self.piece.len()));
        if self.piece.capacity() == 0 {
            // Room at once: to grow is to copy and to wipe. Most uploads are small.
            let room = if self.is_first { FIRST_BYTES.max(part.len()) } else { PIECE_BYTES };
            self.piece.reserve(room);
        }
        self.piece.extend_from_slice(&part);
        self.piece.len() == PIECE_BYTES
    }

    /// Hands the piece over, once there is room.
    async fn flush(&mut self) {
        let next = self.empty.try_recv().unwrap_or_default();
        let piece = std::mem::replace(&mut self.piece, next);
        self.is_first = false;
        // A reader that is gone has panicked.
        drop(self.full.send(piece).await);
    }
}

impl PiecesReader {
    /// Reads what is left, and is the SHA-256 of everything, in hexadecimal.
    fn checksum(mut self) -> String {
        while let Ok(rest @ [_, ..]) = self.fill_buf() {
            let passed = rest.len();
            self.consume(passed);
        }
        format!("{:x}", self.hasher.finalize())
    }
}

impl BufRead for PiecesReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() {
            let Some(next) = self.full.blocking_recv() else { break };
            self.hasher.update(&next);
            let mut read = std::mem::replace(&mut self.piece, next);
            self.at = 0;
            read.clear();
            // Nobody fills pieces any more once the stream has ended.
            drop(self.empty.send(read));
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for PiecesReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

async fn next(stream: &mut Streaming<AppStreamRequest>) -> Result<Option<Request>, Failure> {
    match stream.message().await {
        Ok(None) => Ok(None),
        Ok(Some(AppStreamRequest { request: Some(request) })) => Ok(Some(request)),
        Ok(Some(AppStreamRequest { request: None })) => {
            Err(Failure::Request("holds a message that is neither metadata nor a file".to_owned()))
        }
        Err(status) => Err(Failure::Request(format!("breaks off: {}", status.code().description()))),
    }
}
