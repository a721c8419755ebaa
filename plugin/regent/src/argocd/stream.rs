//! An upload, taken in as it arrives.
//!
//! Whatever was wrong with it, [`super::server`] reads the rest before the answer leaves.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
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
/// its own, because inflating and rendering take long. Returned is also the upload's size as it was sent, in bytes.
pub(super) async fn take_in<T: Send + 'static>(
    stream: &mut Streaming<AppStreamRequest>,
    checksum: &str,
    limits: UploadLimits,
    go_on: impl FnOnce(Upload) -> Result<T, Failure> + Send + 'static,
) -> Result<(T, u64), Failure> {
    let (mut pieces, reader) = pieces();
    let (verdict, intact) = oneshot::channel();
    let mut work = Work::Waiting(move || {
        let upload = Upload::read(reader, limits);
        match intact.blocking_recv() {
            Ok(Ok(())) => go_on(upload?),
            Ok(Err(failure)) => Err(failure),
            // The request was given up.
            Err(_) => Err(Failure::Late),
        }
    });
    let received = receive(stream, checksum, &mut pieces, || work.start()).await;
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

/// Hands the upload over in pieces, to its end, and compares its checksum. A reader that stopped early does not stop
/// the reading. `start` is called whenever somebody should read.
async fn receive(
    stream: &mut Streaming<AppStreamRequest>,
    checksum: &str,
    pieces: &mut Pieces,
    mut start: impl FnMut(),
) -> Result<u64, Failure> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    while let Some(request) = next(stream).await? {
        let Request::File(file) = request else {
            return Err(Failure::Request("holds metadata twice".to_owned()));
        };
        hasher.update(&file.chunk);
        size += file.chunk.len() as u64;
        if pieces.push(file.chunk) {
            start();
            pieces.flush().await;
        }
    }
    pieces.flush().await;
    if format!("{:x}", hasher.finalize()) != checksum {
        return Err(Failure::Request("has an upload that its checksum does not match".to_owned()));
    }
    Ok(size)
}

/// The writing end: chunks of a kilobyte, which is Argo CD's default, are gathered to larger pieces, so that the
/// reading thread is not woken for each.
struct Pieces {
    gathered: Vec<Bytes>,
    size: usize,
    sender: mpsc::UnboundedSender<Piece>,
    /// Room for bytes under way; what is larger than all of it goes alone.
    room: Arc<Semaphore>,
}

/// Chunks, and the room that they take until they are read.
struct Piece(Vec<Bytes>, OwnedSemaphorePermit);

/// The reading end, for a thread that may block.
struct PiecesReader {
    chunks: std::vec::IntoIter<Bytes>,
    chunk: Bytes,
    room: Option<OwnedSemaphorePermit>,
    receiver: mpsc::UnboundedReceiver<Piece>,
}

/// Size of a piece: large enough that handing it over costs nothing beside inflating it.
const PIECE_BYTES: usize = 128 << 10;
/// Chunks in a piece, so that empty ones do not gather without end.
const PIECE_CHUNKS: usize = 1024;
/// Bytes under way: beyond that the stream waits for the reader. Room for two messages of 4 MiB, so that one can
/// arrive while the other is read.
const BYTES_AHEAD: usize = 8 << 20;

/// Both ends.
fn pieces() -> (Pieces, PiecesReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let reader = PiecesReader { chunks: Vec::new().into_iter(), chunk: Bytes::new(), room: None, receiver };
    let room = Arc::new(Semaphore::new(BYTES_AHEAD));
    (Pieces { gathered: Vec::new(), size: 0, sender, room }, reader)
}

impl Pieces {
    /// Whether the piece is full now.
    fn push(&mut self, chunk: Bytes) -> bool {
        self.size += chunk.len();
        self.gathered.push(chunk);
        self.size >= PIECE_BYTES || self.gathered.len() >= PIECE_CHUNKS
    }

    async fn flush(&mut self) {
        let size = std::mem::take(&mut self.size).clamp(1, BYTES_AHEAD);
        let chunks = std::mem::take(&mut self.gathered);
        let room = Arc::clone(&self.room).acquire_many_owned(u32::try_from(size).unwrap_or(u32::MAX));
        tokio::select! {
            Ok(room) = room => drop(self.sender.send(Piece(chunks, room))),
            // A reader that is gone has found its error.
            () = self.sender.closed() => {}
            else => {}
        }
    }
}

impl Read for PiecesReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            if let Some(chunk) = self.chunks.next() {
                self.chunk = chunk;
                continue;
            }
            // What was read makes room for what comes.
            self.room = None;
            match self.receiver.blocking_recv() {
                Some(Piece(chunks, room)) => (self.chunks, self.room) = (chunks.into_iter(), Some(room)),
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
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
