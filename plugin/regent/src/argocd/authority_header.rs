//! Makes the `:authority` of clients that dial a socket's path acceptable to h2.
//!
//! Argo CD's repo-server gives grpc-go the path of the Unix socket as its target, and grpc-go makes the
//! `:authority` of every request from it: `home%2Fargocd%2Fcmp-server%2Fplugins%2Fname.sock`. The `http` crate
//! takes no percent sign in a host, so h2 resets such a request with `PROTOCOL_ERROR` before a service sees it, and
//! neither h2, hyper nor tonic has a switch for that (hyperium/http#836, hyperium/h2#487).
//!
//! [`AuthoritySanitizer`] wraps the accepted connection and edits what is read from it: in the `:authority` of a
//! header block every `%` and `/` becomes `-`. Nothing else changes, and nothing changes its length: in HPACK's
//! Huffman code the three characters have six bits each. So frame lengths stay right, and so do the sizes of the
//! entries in the dynamic table. A later request that names such an entry by its index finds the edited value in
//! h2's table, so no table is kept here.
//!
//! Header blocks are held back until they are complete; all other bytes go from the connection into the reader's
//! buffer without a copy. What is not HTTP/2 or HPACK, or is larger than [`MAX_HELD_BYTES`], passes as it is: h2
//! judges it, and resets it where its `:authority` would have needed the edit.
//!
//! `:authority` is a field whose name is text or the index of the static table. HPACK also lets a name be an index
//! of the dynamic table, but grpc-go never does that to a name of the static one.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A server's connection whose requests have an `:authority` that h2 takes.
pub(crate) struct AuthoritySanitizer<S> {
    inner: S,
    position: Position,
    /// A header block that was held back and is now to be read.
    released: Vec<u8>,
    /// How many bytes of `released` were read.
    released_read: usize,
}

impl<S> AuthoritySanitizer<S> {
    /// Wraps a connection of which nothing was read yet.
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, position: Position::Preface { seen: 0 }, released: Vec::new(), released_read: 0 }
    }

    /// Moves released bytes into the buffer, which has room; false if there are none.
    fn read_released(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let pending = &self.released[self.released_read..];
        let count = pending.len().min(buffer.remaining());
        buffer.put_slice(&pending[..count]);
        self.released_read += count;
        if self.released_read == self.released.len() {
            self.release(Vec::new());
        }
        count > 0
    }

    fn release(&mut self, bytes: Vec<u8>) {
        self.released = bytes;
        self.released_read = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AuthoritySanitizer<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Without room nothing that is read could be told from the end.
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.read_released(buffer) {
                return Poll::Ready(Ok(()));
            }
            let inner = Pin::new(&mut this.inner);

            if let Position::HeaderBlock(block) = &mut this.position {
                // No further than the block, because what follows has to stay behind it.
                let mut space = [0; 1024];
                let limit = block.missing.min(space.len());
                let mut read = ReadBuf::new(&mut space[..limit]);
                ready!(inner.poll_read(context, &mut read))?;
                let end = match read.filled() {
                    [] => Some(BlockEnd::Broken),
                    bytes => block.push(bytes).1,
                };
                if let Some(end) = end {
                    let bytes = block.finish(&end);
                    this.position = end.next_position();
                    this.release(bytes);
                }
                continue;
            }

            let before = buffer.filled().len();
            ready!(inner.poll_read(context, buffer))?;
            let read = &mut buffer.filled_mut()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = this.position.advance(read);
            buffer.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AuthoritySanitizer<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S: Connected> Connected for AuthoritySanitizer<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

/// What every HTTP/2 client sends first (RFC 9113, section 3.4).
const CONNECTION_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Largest header block that is held back, in bytes with the headers of its frames. hyper refuses larger requests
/// anyway: its bound for one's headers is 16 KiB unless it is told otherwise.
const MAX_HELD_BYTES: usize = 64 << 10;

/// Where in the client's bytes the reader is.
enum Position {
    /// Before the first frame.
    Preface { seen: usize },
    /// In the header of a frame.
    FrameHeader { bytes: [u8; FrameHeader::LENGTH], seen: usize },
    /// In the payload of a frame that has no part in a header block.
    Payload { left: usize },
    /// In the frames of a header block.
    HeaderBlock(HeaderBlock),
    /// Somewhere in something that is not HTTP/2.
    Lost,
}

impl Position {
    const FRAME_START: Self = Self::FrameHeader { bytes: [0; FrameHeader::LENGTH], seen: 0 };

    /// Moves past the bytes, and edits the header blocks that are complete. Not for a position in a header block.
    ///
    /// Returns how many of the bytes can be passed on. The others are the start of a header block, and the position
    /// is in it.
    fn advance(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = &mut bytes[at..];
            // A header block may be complete with its frame's header.
            if rest.is_empty() && !matches!(self, Self::HeaderBlock(_)) {
                return at;
            }
            match self {
                Self::Preface { seen } => {
                    let expected = &CONNECTION_PREFACE[*seen..];
                    let count = expected.len().min(rest.len());
                    *seen += count;
                    at += count;
                    if expected[..count] != rest[..count] {
                        *self = Self::Lost;
                    } else if count == expected.len() {
                        *self = Self::FRAME_START;
                    }
                }
                Self::FrameHeader { bytes, seen } => {
                    let missing = &mut bytes[*seen..];
                    let count = missing.len().min(rest.len());
                    missing[..count].copy_from_slice(&rest[..count]);
                    *seen += count;
                    at += count;
                    if *seen == FrameHeader::LENGTH {
                        let header = FrameHeader::parse(bytes);
                        *self = if header.kind == FrameHeader::HEADERS {
                            Self::HeaderBlock(HeaderBlock::new(header))
                        } else {
                            Self::Payload { left: header.length }
                        };
                    }
                }
                Self::Payload { left } => {
                    let count = (*left).min(rest.len());
                    *left -= count;
                    at += count;
                    if *left == 0 {
                        *self = Self::FRAME_START;
                    }
                }
                Self::HeaderBlock(block) => {
                    let (count, end) = block.push(rest);
                    let Some(end) = end else { return at };
                    rest[..count].copy_from_slice(&block.finish(&end));
                    at += count;
                    *self = end.next_position();
                }
                Self::Lost => return bytes.len(),
            }
        }
    }
}

/// The header of an HTTP/2 frame (RFC 9113, section 4.1).
#[derive(Clone, Copy)]
struct FrameHeader {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHeader {
    const LENGTH: usize = 9;

    const HEADERS: u8 = 0x1;
    const CONTINUATION: u8 = 0x9;

    const END_HEADERS: u8 = 0x4;
    const PADDED: u8 = 0x8;
    const PRIORITY: u8 = 0x20;

    fn parse(bytes: &[u8; Self::LENGTH]) -> Self {
        let &[l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            // The first bit is reserved and says nothing.
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where in the payload of a HEADERS or CONTINUATION frame its part of the header block is; nothing if padding
    /// or priority leave no room for it.
    fn fragment(&self, payload: &[u8]) -> Option<Range<usize>> {
        let (mut start, mut end) = (0, payload.len());
        if self.kind == Self::HEADERS && self.has(Self::PADDED) {
            start += 1;
            end = end.checked_sub(usize::from(*payload.first()?))?;
        }
        if self.kind == Self::HEADERS && self.has(Self::PRIORITY) {
            start += 5;
        }
        (start <= end).then_some(start..end)
    }
}

/// The frames of a header block, as far as they were read: a HEADERS frame, without its header, and the
/// CONTINUATION frames that follow it.
struct HeaderBlock {
    bytes: Vec<u8>,
    /// Where in `bytes` the parts of the header block are.
    fragments: Vec<Range<usize>>,
    /// The frame whose payload is being read, or was read last.
    frame: FrameHeader,
    /// Whether the header of the next frame is being read.
    in_frame_header: bool,
    /// How many bytes are missing of what is being read.
    missing: usize,
}

/// How a header block has ended.
enum BlockEnd {
    /// With its last frame.
    Complete,
    /// It is too large; this much is left of the frame that has begun.
    TooLarge { left: usize },
    /// It is not HTTP/2.
    Broken,
}

impl BlockEnd {
    fn next_position(&self) -> Position {
        match *self {
            Self::Complete => Position::FRAME_START,
            // CONTINUATION frames that follow are passed over like frames of any other kind.
            Self::TooLarge { left } => Position::Payload { left },
            Self::Broken => Position::Lost,
        }
    }
}

impl HeaderBlock {
    /// Starts with the header of a HEADERS frame, which was passed on.
    fn new(frame: FrameHeader) -> Self {
        Self { bytes: Vec::new(), fragments: Vec::new(), frame, in_frame_header: false, missing: frame.length }
    }

    /// Takes what belongs to the block from the start of the bytes: how many they are, and the block's end if it has
    /// one. While it has none, all bytes are taken and at least one is missing.
    fn push(&mut self, bytes: &[u8]) -> (usize, Option<BlockEnd>) {
        let mut count = 0;
        loop {
            if self.bytes.len() + self.missing > MAX_HELD_BYTES {
                // The next frame's header is not part of the block then.
                let left = if self.in_frame_header { 0 } else { self.missing };
                return (count, Some(BlockEnd::TooLarge { left }));
            }
            let taken = self.missing.min(bytes.len() - count);
            self.bytes.extend_from_slice(&bytes[count..count + taken]);
            count += taken;
            self.missing -= taken;
            if self.missing > 0 {
                return (count, None);
            }
            if let Some(end) = self.next_part() {
                return (count, Some(end));
            }
        }
    }

    /// Goes on to the next frame's header, or to a payload.
    fn next_part(&mut self) -> Option<BlockEnd> {
        if self.in_frame_header {
            let Some(header) = self.bytes.last_chunk() else { return Some(BlockEnd::Broken) };
            let next = FrameHeader::parse(header);
            if next.kind != FrameHeader::CONTINUATION || next.stream != self.frame.stream {
                return Some(BlockEnd::Broken);
            }
            self.frame = next;
            self.in_frame_header = false;
            self.missing = next.length;
            return None;
        }
        let start = self.bytes.len() - self.frame.length;
        let Some(fragment) = self.frame.fragment(&self.bytes[start..]) else { return Some(BlockEnd::Broken) };
        self.fragments.push(start + fragment.start..start + fragment.end);
        if self.frame.has(FrameHeader::END_HEADERS) {
            return Some(BlockEnd::Complete);
        }
        self.in_frame_header = true;
        self.missing = FrameHeader::LENGTH;
        None
    }

    /// The frames, edited if the block is complete.
    fn finish(&mut self, end: &BlockEnd) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        match end {
            BlockEnd::Complete => {
                // A field may begin in one frame and end in another.
                let mut block = Vec::with_capacity(bytes.len());
                for fragment in &self.fragments {
                    block.extend_from_slice(&bytes[fragment.clone()]);
                }
                sanitize_block(&mut block);
                let mut rest = block.as_slice();
                for fragment in &self.fragments {
                    let (part, after) = rest.split_at(fragment.len());
                    bytes[fragment.clone()].copy_from_slice(part);
                    rest = after;
                }
            }
            BlockEnd::TooLarge { .. } | BlockEnd::Broken => {}
        }
        bytes
    }
}

/// Edits every `:authority` of a header block, up to the first error in it.
fn sanitize_block(block: &mut [u8]) {
    let mut fields = Fields { block, at: 0 };
    while let Some(field) = fields.next_field() {
        match field {
            Field::Authority(Text { octets, huffman: true }) => sanitize_huffman(&mut fields.block[octets]),
            Field::Authority(Text { octets, huffman: false }) => sanitize_plain(&mut fields.block[octets]),
            Field::Other => {}
        }
    }
}

/// Reads the field representations of HPACK (RFC 7541, section 6).
struct Fields<'a> {
    block: &'a mut [u8],
    at: usize,
}

/// What matters of a field.
enum Field {
    /// A literal `:authority` with this value.
    Authority(Text),
    /// Anything else, a change of the table's size included.
    Other,
}

/// A string literal: where its octets are, and how they are encoded.
struct Text {
    octets: Range<usize>,
    huffman: bool,
}

impl Fields<'_> {
    /// The next field; nothing at the end and at the first error.
    fn next_field(&mut self) -> Option<Field> {
        let first = *self.block.get(self.at)?;
        let name_index = match first {
            // An indexed field.
            0x80.. => return self.integer(7).map(|_| Field::Other),
            // A literal that enters the dynamic table.
            0x40..=0x7f => self.integer(6)?,
            // A new size of the dynamic table.
            0x20..=0x3f => return self.integer(5).map(|_| Field::Other),
            // A literal that does not enter it, or must in no table ever.
            0x00..=0x1f => self.integer(4)?,
        };
        let is_authority = match name_index {
            0 => {
                let name = self.text()?;
                let octets = &self.block[name.octets];
                octets == if name.huffman { AUTHORITY_HUFFMAN } else { AUTHORITY }
            }
            index => index == AUTHORITY_INDEX,
        };
        let value = self.text()?;
        Some(if is_authority { Field::Authority(value) } else { Field::Other })
    }

    /// A string literal (section 5.2).
    fn text(&mut self) -> Option<Text> {
        let huffman = *self.block.get(self.at)? & 0x80 != 0;
        let length = self.integer(7)?;
        let start = self.at;
        self.at = start.checked_add(length)?;
        (self.at <= self.block.len()).then_some(Text { octets: start..self.at, huffman })
    }

    /// An integer that starts in the last bits of an octet (section 5.1). It has at most four octets more, as in h2.
    fn integer(&mut self, prefix_bits: u32) -> Option<usize> {
        let mask = (1 << prefix_bits) - 1;
        let mut value = usize::from(self.octet()? & mask);
        if value < usize::from(mask) {
            return Some(value);
        }
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            value += usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn octet(&mut self) -> Option<u8> {
        let octet = *self.block.get(self.at)?;
        self.at += 1;
        Some(octet)
    }
}

/// The index of the name `:authority` in the static table (RFC 7541, appendix A).
const AUTHORITY_INDEX: usize = 1;
const AUTHORITY: &[u8] = b":authority";
const AUTHORITY_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// A `/` is for the clients that send a path as it is: Argo CD 2.8 and 2.9.
fn sanitize_plain(value: &mut [u8]) {
    for octet in value {
        if matches!(*octet, b'%' | b'/') {
            *octet = b'-';
        }
    }
}

/// The longest code has 30 bits (RFC 7541, appendix B).
const LONGEST_CODE: usize = 30;

/// How many Huffman codes of each length there are, that of the end of a string included.
///
/// The code is canonical: codes of one length are consecutive numbers, and the first of them follows from the shorter
/// ones. To see where a code ends, this table is all it takes.
const CODES_OF_LENGTH: [u32; LONGEST_CODE + 1] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// Bits of the codes of `%`, `/` and `-`.
const CODE_LENGTH: usize = 6;
const PERCENT_CODE: u32 = 0x15;
const SLASH_CODE: u32 = 0x18;
const HYPHEN_CODE: u32 = 0x16;

fn sanitize_huffman(value: &mut [u8]) {
    let (mut length, mut code, mut first_code) = (0, 0, 0);
    for bit in 0..value.len() * 8 {
        let set = (value[bit / 8] >> (7 - bit % 8)) & 1;
        length += 1;
        code = (code << 1) | u32::from(set);
        first_code <<= 1;
        let codes = CODES_OF_LENGTH[length];
        if code < first_code + codes {
            if length == CODE_LENGTH && matches!(code, PERCENT_CODE | SLASH_CODE) {
                overwrite_code(value, bit + 1 - CODE_LENGTH, HYPHEN_CODE);
            }
            (length, code, first_code) = (0, 0, 0);
        } else {
            // With 30 bits the code is complete: every number that is left is one. What ends before that is padding.
            first_code += codes;
        }
    }
}

/// Writes a code of [`CODE_LENGTH`] bits from the given bit on.
fn overwrite_code(value: &mut [u8], start: usize, code: u32) {
    for place in 0..CODE_LENGTH {
        let bit = start + place;
        let mask = 0x80 >> (bit % 8);
        if (code >> (CODE_LENGTH - 1 - place)) & 1 == 1 {
            value[bit / 8] |= mask;
        } else {
            value[bit / 8] &= !mask;
        }
    }
}

// Named in full, because the file is also a module of the fuzz target and of an example.
#[cfg(test)]
#[path = "authority_header/tests.rs"]
mod tests;
