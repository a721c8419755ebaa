//! Gzip members, one after the other (RFC 1952), unpacked with an inflater that is used again.
//!
//! flate2's own readers make an inflater for each stream: a window, its tables and a buffer, which for an upload of a
//! few kilobytes cost as much as unpacking it. flate2 unpacks and checks here too; only what stands around a member
//! is read by ourselves.

use std::cell::Cell;
use std::io::{self, BufRead};

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// What a gzipped stream unpacks to, a piece at a time.
pub(super) struct Gzip<R> {
    inner: R,
    state: State,
    /// Of what the member unpacked to so far.
    checksum: Crc,
    /// Taken back by the thread at the end.
    tools: Option<Box<Tools>>,
}

/// Where in a stream the reading is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Body,
    End,
    Failed,
}

/// What unpacking needs, whatever is unpacked.
struct Tools {
    inflate: Decompress,
    piece: Vec<u8>,
}

/// Most bytes that are unpacked at a time: an inflater that stops copies what it may need again.
const PIECE_BYTES: usize = 128 << 10;

thread_local! {
    /// Tools that unpacked a whole stream. What they still hold of it lay in Git as it is, and a thread that nobody
    /// needs any more ends soon.
    static SPARE: Cell<Option<Box<Tools>>> = const { Cell::new(None) };
}

impl<R> Drop for Gzip<R> {
    fn drop(&mut self) {
        if self.state == State::End {
            SPARE.set(self.tools.take());
        }
    }
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(inner: R) -> Self {
        let tools = SPARE.take();
        let new = || Box::new(Tools { inflate: Decompress::new(false), piece: vec![0; PIECE_BYTES] });
        Self { inner, state: State::Header, checksum: Crc::new(), tools: Some(tools.unwrap_or_else(new)) }
    }

    pub(super) fn get_ref(&self) -> &R {
        &self.inner
    }

    /// Unpacks the next piece, whose first bytes [`Self::piece`] then holds, and tells how many they are: 0 at the end of
    /// the last member, and after an error.
    pub(super) fn next(&mut self) -> io::Result<usize> {
        let Some(mut tools) = self.tools.take() else { return Ok(0) };
        let unpacked = self.unpack(&mut tools);
        if unpacked.is_err() {
            self.state = State::Failed;
        }
        self.tools = Some(tools);
        unpacked
    }

    /// The last piece, and behind it what earlier ones left.
    pub(super) fn piece(&self) -> &[u8] {
        self.tools.as_ref().map(|tools| tools.piece.as_slice()).unwrap_or_default()
    }

    fn unpack(&mut self, tools: &mut Tools) -> io::Result<usize> {
        loop {
            match self.state {
                State::Header => {
                    self.header()?;
                    self.checksum.reset();
                    self.state = State::Body;
                }
                State::Body => {
                    let (unpacked, is_whole) = self.inflate(tools)?;
                    self.checksum.update(&tools.piece[..unpacked]);
                    if is_whole {
                        self.trailer()?;
                        tools.inflate.reset(false);
                        self.state = if self.fill()?.is_empty() { State::End } else { State::Header };
                    }
                    if unpacked > 0 {
                        return Ok(unpacked);
                    }
                }
                State::End | State::Failed => return Ok(0),
            }
        }
    }

    /// Unpacks what is there of a member's body, and tells whether that was its end.
    fn inflate(&mut self, tools: &mut Tools) -> io::Result<(usize, bool)> {
        let Tools { inflate, piece } = tools;
        loop {
            let input = self.fill()?;
            let is_empty = input.is_empty();
            let (taken, unpacked) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(input, piece, FlushDecompress::None)?;
            let taken = usize::try_from(inflate.total_in() - taken).map_err(|_| damaged())?;
            let unpacked = usize::try_from(inflate.total_out() - unpacked).map_err(|_| damaged())?;
            self.inner.consume(taken);
            match status {
                Status::StreamEnd => return Ok((unpacked, true)),
                Status::Ok | Status::BufError if unpacked > 0 => return Ok((unpacked, false)),
                Status::Ok | Status::BufError if is_empty || taken == 0 => return Err(damaged()),
                Status::Ok | Status::BufError => {}
            }
        }
    }

    /// Passes over a member's header.
    fn header(&mut self) -> io::Result<()> {
        let mut crc = Crc::new();
        let fixed: [u8; 10] = self.take(&mut crc)?;
        let [0x1f, 0x8b, DEFLATE, flags, ..] = fixed else { return Err(damaged()) };
        if flags & RESERVED != 0 {
            return Err(damaged());
        }
        if flags & EXTRA != 0 {
            let size = self.take(&mut crc)?;
            for _ in 0..u16::from_le_bytes(size) {
                self.take::<1>(&mut crc)?;
            }
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                let mut room = MAX_TEXT;
                while self.take(&mut crc)? != [0] {
                    room = room.checked_sub(1).ok_or_else(damaged)?;
                }
            }
        }
        // The lower half of the header's own checksum.
        let [low, high, ..] = crc.sum().to_le_bytes();
        if flags & HEADER_CRC != 0 && self.take(&mut crc)? != [low, high] {
            return Err(damaged());
        }
        Ok(())
    }

    /// Reads what follows a body, and compares.
    fn trailer(&mut self) -> io::Result<()> {
        let [sum, size] = [self.checksum.sum(), self.checksum.amount()].map(u32::to_le_bytes);
        let mut unused = Crc::new();
        if self.take(&mut unused)? == sum && self.take(&mut unused)? == size { Ok(()) } else { Err(damaged()) }
    }

    fn take<const N: usize>(&mut self, crc: &mut Crc) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        crc.update(&bytes);
        Ok(bytes)
    }

    /// What comes next, empty at the end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        while let Err(error) = self.inner.fill_buf() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.inner.fill_buf()
    }
}

/// The only method that there is.
const DEFLATE: u8 = 8;
// The header's flags.
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// Most bytes of a name or a comment.
const MAX_TEXT: usize = 64 << 10;

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read as _, Write as _};

    use flate2::bufread::MultiGzDecoder;
    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;

    /// All that a stream unpacks to, of which a few bytes arrive at a time.
    fn unpacked(bytes: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut gzip = Gzip::new(BufReader::with_capacity(step, bytes));
        let mut all = Vec::new();
        loop {
            match gzip.next()? {
                0 => return Ok(all),
                read => all.extend_from_slice(&gzip.piece()[..read]),
            }
        }
    }

    fn by_flate2(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        MultiGzDecoder::new(bytes).read_to_end(&mut all)?;
        Ok(all)
    }

    fn member(builder: GzBuilder, content: &[u8]) -> Vec<u8> {
        let mut writer = builder.write(Vec::new(), Compression::default());
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    fn text() -> Vec<u8> {
        (0..5_000_u32).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
    }

    #[test]
    fn whatever_stands_in_a_header_is_passed_over() {
        let plain = member(GzBuilder::new(), &text());
        let full = GzBuilder::new().filename("a.tar").comment("made by hand").extra(vec![7; 300]).mtime(1);
        let full = member(full, &text());
        // flate2 writes no checksum of the header.
        let mut checked = plain.clone();
        checked[3] |= HEADER_CRC;
        let mut crc = Crc::new();
        crc.update(&checked[..10]);
        checked.splice(10..10, crc.sum().to_le_bytes()[..2].to_vec());
        for bytes in [&plain, &full, &checked] {
            for step in [1, 7, 100_000] {
                assert_eq!(unpacked(bytes, step).unwrap(), text());
            }
        }
        assert_eq!(unpacked(&[plain.as_slice(), &full, &checked].concat(), 50).unwrap(), text().repeat(3));
        checked[10] ^= 1;
        assert!(unpacked(&checked, 100).is_err());
    }

    #[test]
    fn a_name_without_an_end_is_an_error_soon() {
        let mut bytes = member(GzBuilder::new(), b"")[..10].to_vec();
        bytes[3] = NAME;
        bytes.resize(1 << 20, b'x');
        let mut left = bytes.as_slice();
        assert!(Gzip::new(&mut left).next().is_err());
        assert!(left.len() > (1 << 20) - MAX_TEXT - 100, "{} bytes are left", left.len());
    }

    #[test]
    fn after_an_error_nothing_more_comes() {
        let mut bytes = member(GzBuilder::new(), &text());
        let last = bytes.len() - 5;
        bytes[last] ^= 1;
        let mut gzip = Gzip::new(bytes.as_slice());
        assert!(gzip.next().is_err());
        assert_eq!(gzip.next().unwrap(), 0);
    }

    proptest! {
        /// A thread's inflater comes from streams of all sorts, and none of them shows.
        #[test]
        fn streams_that_are_damaged_or_not_are_read_as_flate2_reads_them(
            content in proptest::collection::vec(0_u8..4, 0..400),
            level in 0_u32..10,
            members in 1_usize..4,
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cut in proptest::option::of(any::<prop::sample::Index>()),
            step in 1_usize..600,
        ) {
            let mut writer = GzBuilder::new().filename("x").write(Vec::new(), Compression::new(level));
            writer.write_all(&content).unwrap();
            let mut bytes = writer.finish().unwrap().repeat(members);
            if let Some((place, by)) = damage {
                let place = place.index(bytes.len());
                bytes[place] ^= by;
            }
            if let Some(end) = cut {
                bytes.truncate(end.index(bytes.len()));
            }
            match (unpacked(&bytes, step), by_flate2(&bytes)) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
                (Err(_), Err(_)) => {}
                (ours, theirs) => prop_assert!(false, "ours: {ours:?}, flate2's: {theirs:?}"),
            }
        }
    }
}
