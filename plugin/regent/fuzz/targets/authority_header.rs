//! The connection's edit: whatever a client sends, in whatever pieces, it stays as long as it is, and nothing but the
//! `:authority` of header blocks changes, as another reader of HPACK sees it.
//!
//! An input is a [`Plan`] of [`PLAN_BYTES`] and what the client sends.
#![no_main]

#[path = "../../src/argocd/authority_header.rs"]
mod authority_header;

use authority_header::AuthoritySanitizer;
use libfuzzer_sys::fuzz_target;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, ReadBuf};

const PLAN_BYTES: usize = 5;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether hpack is at work, which panics on some blocks that it should call broken.
static DECODING: AtomicBool = AtomicBool::new(false);

fuzz_target!(
    init: {
        let abort = take_hook();
        set_hook(Box::new(move |panic| {
            if !DECODING.load(Ordering::Relaxed) {
                abort(panic);
            }
        }));
    },
    |bytes: &[u8]| {
        let Some((plan, bytes)) = bytes.split_first_chunk() else { return };
        let plan = Plan::new(*plan);
        let before = plan.sent(bytes);
        let after = read_through(&before, plan.source, plan.buffers);
        assert_eq!(after.len(), before.len());
        assert!(after == read_through(&before, [usize::MAX; 2], [before.len() + 1; 2]), "depends on how it is read");
        compare(&before, &after);
    }
);

/// What is put around the input, and how it is read.
struct Plan {
    preface: bool,
    headers_frame: bool,
    /// Sizes of the pieces in which the connection gives its bytes, and of the buffers that they are read into.
    source: [usize; 2],
    buffers: [usize; 2],
}

impl Plan {
    fn new([flags, sizes @ ..]: [u8; PLAN_BYTES]) -> Self {
        // Up to the size of a frame, small ones more often.
        let [s0, s1, b0, b1] = sizes.map(|size| 1 + usize::from(size).pow(2) / 4);
        Self { preface: flags & 1 == 0, headers_frame: flags & 2 != 0, source: [s0, s1], buffers: [b0, b1] }
    }

    fn sent(&self, bytes: &[u8]) -> Vec<u8> {
        let mut sent = if self.preface { PREFACE.to_vec() } else { Vec::new() };
        if self.headers_frame {
            sent.extend(&(bytes.len() as u32).to_be_bytes()[1..]);
            sent.extend([1, 4, 0, 0, 0, 1]);
        }
        sent.extend(bytes);
        sent
    }
}

/// Gives its bytes in pieces, and is not ready before each of them.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: [usize; 2],
    polls: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.polls += 1;
        if self.polls % 2 == 1 {
            return Poll::Pending;
        }
        let size = self.sizes[self.polls / 2 % 2];
        let (piece, rest) = self.bytes.split_at(size.min(self.bytes.len()).min(buffer.remaining()));
        buffer.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

fn read_through(bytes: &[u8], source: [usize; 2], buffers: [usize; 2]) -> Vec<u8> {
    let mut reader = AuthoritySanitizer::new(Pieces { bytes, sizes: source, polls: 0 });
    let mut context = Context::from_waker(Waker::noop());
    let mut space = vec![0; buffers[0].max(buffers[1])];
    let mut read = Vec::new();
    for size in buffers.into_iter().cycle() {
        let mut buffer = ReadBuf::new(&mut space[..size]);
        while Pin::new(&mut reader).poll_read(&mut context, &mut buffer).is_pending() {
            assert!(buffer.filled().is_empty(), "bytes would be lost if the reader went away now");
        }
        if buffer.filled().is_empty() {
            break;
        }
        read.extend_from_slice(buffer.filled());
    }
    read
}

/// Every byte outside of header blocks is the same, and so are the fields, but for the values of `:authority`.
fn compare(before: &[u8], after: &[u8]) {
    let blocks = header_blocks(before);
    let mut outside = vec![true; before.len()];
    for &place in blocks.iter().flatten() {
        outside[place] = false;
    }
    for (place, outside) in outside.into_iter().enumerate() {
        assert!(!outside || before[place] == after[place], "byte {place} is in no header block");
    }
    let (mut decoder_before, mut decoder_after) = (hpack::Decoder::new(), hpack::Decoder::new());
    for block in blocks {
        let octets = |bytes: &[u8]| block.iter().map(|&place| bytes[place]).collect::<Vec<_>>();
        let (fields_before, sound_before) = decode(&mut decoder_before, &octets(before));
        let (fields_after, sound_after) = decode(&mut decoder_after, &octets(after));
        assert_eq!((fields_before.len(), sound_before), (fields_after.len(), sound_after));
        for ((name, value), changed) in fields_before.into_iter().zip(fields_after) {
            assert_eq!(name, changed.0);
            // The same where the name is an index of the dynamic table, which is not followed.
            if name != b":authority" || value != changed.1 {
                let edited = value.iter().map(|octet| if b"%/".contains(octet) { b'-' } else { *octet });
                let expected = if name == b":authority" { edited.collect() } else { value };
                assert_eq!(expected, changed.1);
            }
        }
        // After an error the tables are unknown.
        if !sound_before {
            return;
        }
    }
}

/// The fields up to the first error, and whether there is none.
fn decode(decoder: &mut hpack::Decoder<'_>, block: &[u8]) -> (Vec<(Vec<u8>, Vec<u8>)>, bool) {
    let mut fields = Vec::new();
    DECODING.store(true, Ordering::Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        decoder.decode_with_cb(block, |name, value| fields.push((name.into_owned(), value.into_owned())))
    }));
    DECODING.store(false, Ordering::Relaxed);
    (fields, matches!(outcome, Ok(Ok(()))))
}

/// Where the octets of each complete header block are (RFC 9113, sections 4.3, 6.2 and 6.10).
fn header_blocks(bytes: &[u8]) -> Vec<Vec<usize>> {
    let mut blocks = Vec::new();
    let mut open: Option<(Vec<usize>, u32)> = None;
    if !bytes.starts_with(PREFACE) {
        return blocks;
    }
    let mut at = PREFACE.len();
    while let Some(header) = bytes.get(at..at + 9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (kind, flags) = (header[3], header[4]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) << 1;
        at += 9;
        let Some(payload) = bytes.get(at..at + length) else { return blocks };
        let mut places: Vec<usize> = (at..at + length).collect();
        at += length;
        match (&mut open, kind) {
            (None, 1) => {
                let (mut skipped, mut padding) = (0, 0);
                if flags & 8 != 0 {
                    let Some(&octet) = payload.first() else { return blocks };
                    (skipped, padding) = (1, usize::from(octet));
                }
                if flags & 32 != 0 {
                    skipped += 5;
                }
                if skipped + padding > length {
                    return blocks;
                }
                places.truncate(length - padding);
                places.drain(..skipped);
                open = Some((places, stream));
            }
            (Some((block, of)), 9) if *of == stream => block.append(&mut places),
            (None, _) => continue,
            (Some(_), _) => return blocks,
        }
        if flags & 4 != 0 {
            blocks.extend(open.take().map(|(block, _)| block));
        }
    }
    blocks
}
