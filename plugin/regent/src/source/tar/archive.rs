//! The entries of a gzipped tar, one after the other, at a bounded cost whatever it holds.
//!
//! Headers are read by the `tar` crate's [`Header`]; what stands before and behind them is read here, because that
//! crate reads long names and PAX records without a bound, and takes what is left after an archive's end for none of
//! its business. What two readers could understand differently is refused.

use std::io::{self, BufRead, Read};
use std::mem;

use tar::Header;

use super::gzip::Gzip;
use super::{UploadProblem, shown};

/// A gzipped tar, read as it arrives.
pub(crate) struct Archive<R> {
    gzip: Gzip<Arriving<R>>,
    /// What was unpacked and not yet read, in gzip's piece: `at..end`.
    at: usize,
    end: usize,
    unpacked: u64,
    limit: u64,
    /// What is left of the current entry's body, and the zeros that fill its last block.
    body: u64,
    padding: u64,
}

/// One entry: what its header says once long names are put in. Filled anew for each, so that one that is dropped
/// allocates nothing.
#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) name: Vec<u8>,
    /// Where a link leads; empty for others.
    pub(crate) target: Vec<u8>,
    /// Bytes of the body.
    pub(crate) size: u64,
    /// Whether its mode lets anybody run it. Who leaves modes alone need not look.
    pub(crate) is_executable: bool,
}

/// What Argo CD and source-controller send; everything else is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    File,
    Folder,
    Link,
}

impl<R: BufRead> Archive<R> {
    /// `limit` is the most bytes that it may unpack to.
    pub(crate) fn new(gzip: R, limit: u64) -> Self {
        let arriving = Arriving {
            inner: gzip,
            taken: 0,
            // Deflate needs at most 1/64 more than the bytes themselves. An endless row of empty blocks unpacks to
            // nothing, so that what arrives needs a bound too.
            limit: limit.saturating_add(limit / 64).saturating_add(FRAMING),
            broken: false,
        };
        Self { gzip: Gzip::new(arriving), at: 0, end: 0, unpacked: 0, limit, body: 0, padding: 0 }
    }

    /// The next entry, `false` at the end: then all of the stream was read, nothing but zeros followed, and gzip's
    /// own checksum was right. A body that was not asked for is passed over.
    pub(crate) fn next(&mut self, entry: &mut Entry) -> Result<bool, UploadProblem> {
        self.skip_body()?;
        let mut extended = Extended::default();
        loop {
            let header = self.header()?;
            let Some(header) = header else {
                if extended.is_some() {
                    return Err(UploadProblem::Damaged);
                }
                return Ok(false);
            };
            self.body = size(&header)?;
            self.within_limit()?;
            match header.as_bytes()[TYPE_FLAG] {
                b'x' => extended.records(&self.extension()?)?,
                b'g' => refuse_global(&self.extension()?)?,
                b'L' => set_once(&mut extended.name, until_nul(&self.extension()?).to_vec())?,
                b'K' => set_once(&mut extended.target, until_nul(&self.extension()?).to_vec())?,
                flag => {
                    entry.fill(&header, &mut extended);
                    self.body = extended.size.unwrap_or(self.body);
                    self.within_limit()?;
                    entry.size = self.body;
                    entry.kind = kind(flag, &entry.name)?;
                    if entry.kind != Kind::File && self.body != 0 {
                        return Err(UploadProblem::Header { rule: "gives a folder or a link a body" });
                    }
                    return Ok(true);
                }
            }
        }
    }

    /// The current entry's body. Its size is for the caller to bound.
    pub(crate) fn body(&mut self) -> Result<Vec<u8>, UploadProblem> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.body).map_err(|_| self.too_long())?);
        while self.body > 0 {
            let body = self.body;
            let chunk = self.chunk(body)?;
            bytes.extend_from_slice(chunk);
            let read = chunk.len();
            self.at += read;
            self.body -= read as u64;
        }
        Ok(bytes)
    }

    /// Bytes unpacked so far.
    pub(crate) fn unpacked(&self) -> u64 {
        self.unpacked
    }

    /// The next header, `None` at the end.
    fn header(&mut self) -> Result<Option<Header>, UploadProblem> {
        let mut header = Header::new_old();
        self.block(&mut header)?;
        if is_zero(header.as_bytes()) {
            self.block(&mut header)?;
            if !is_zero(header.as_bytes()) {
                return Err(UploadProblem::Damaged);
            }
            self.zeros_to_the_end()?;
            return Ok(None);
        }
        let claimed = header.cksum().map_err(|_| UploadProblem::Damaged)?;
        let checksum = &header.as_old().cksum;
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        // The field itself counts as blanks.
        if claimed != sum(header.as_bytes()) - sum(checksum) + 8 * u32::from(b' ') {
            return Err(UploadProblem::Damaged);
        }
        Ok(Some(header))
    }

    fn block(&mut self, header: &mut Header) -> Result<(), UploadProblem> {
        let mut rest = header.as_mut_bytes().as_mut_slice();
        while !rest.is_empty() {
            let chunk = self.chunk(rest.len() as u64)?;
            let read = chunk.len();
            let (now, later) = rest.split_at_mut(read);
            now.copy_from_slice(chunk);
            rest = later;
            self.at += read;
        }
        Ok(())
    }

    /// The body of an entry that only says something about the next one.
    fn extension(&mut self) -> Result<Vec<u8>, UploadProblem> {
        if self.body > MAX_EXTENSION {
            return Err(UploadProblem::Header { rule: "has more than 64 KiB of names and records" });
        }
        let bytes = self.body()?;
        self.skip_body()?;
        Ok(bytes)
    }

    fn skip_body(&mut self) -> Result<(), UploadProblem> {
        let mut left = mem::take(&mut self.body) + mem::take(&mut self.padding);
        while left > 0 {
            let read = self.chunk(left)?.len();
            self.at += read;
            left -= read as u64;
        }
        Ok(())
    }

    fn zeros_to_the_end(&mut self) -> Result<(), UploadProblem> {
        loop {
            self.refill()?;
            let rest = &self.gzip.piece()[self.at..self.end];
            if rest.is_empty() {
                return Ok(());
            }
            if !is_zero(rest) {
                return Err(UploadProblem::Damaged);
            }
            self.at = self.end;
        }
    }

    /// Refuses a body that cannot fit, before its first byte, and notes how its last block is filled.
    fn within_limit(&mut self) -> Result<(), UploadProblem> {
        if self.body > self.limit {
            return Err(self.too_long());
        }
        self.padding = self.body.next_multiple_of(BLOCK) - self.body;
        Ok(())
    }

    /// Between 1 and `most` bytes that come next; they are read once `at` moves.
    fn chunk(&mut self, most: u64) -> Result<&[u8], UploadProblem> {
        self.refill()?;
        let there = &self.gzip.piece()[self.at..self.end];
        if there.is_empty() {
            return Err(UploadProblem::Damaged);
        }
        Ok(&there[..there.len().min(usize::try_from(most).unwrap_or(usize::MAX))])
    }

    /// Unpacks more where nothing is left; nothing is there after that only at the end.
    fn refill(&mut self) -> Result<(), UploadProblem> {
        if self.at < self.end {
            return Ok(());
        }
        let read = self.gzip.next().map_err(|_| {
            let arriving = self.gzip.get_ref();
            if arriving.broken {
                UploadProblem::Broken
            } else if arriving.taken > arriving.limit {
                self.too_long()
            } else {
                UploadProblem::Damaged
            }
        })?;
        (self.at, self.end) = (0, read);
        self.unpacked += read as u64;
        if self.unpacked > self.limit {
            return Err(self.too_long());
        }
        if self.unpacked > RATIO_FLOOR && self.unpacked / MAX_RATIO > self.gzip.get_ref().taken {
            return Err(UploadProblem::Bomb { ratio: MAX_RATIO });
        }
        Ok(())
    }

    fn too_long(&self) -> UploadProblem {
        UploadProblem::StreamTooLarge { limit: self.limit }
    }
}

impl Entry {
    fn fill(&mut self, header: &Header, extended: &mut Extended) {
        self.name.clear();
        self.target.clear();
        if let Some(name) = extended.name.take() {
            self.name = name;
        } else {
            if let Some(ustar) = header.as_ustar()
                && ustar.prefix[0] != 0
            {
                self.name.extend_from_slice(until_nul(&ustar.prefix));
                self.name.push(b'/');
            }
            self.name.extend_from_slice(until_nul(&header.as_old().name));
        }
        if let Some(target) = extended.target.take() {
            self.target = target;
        } else {
            self.target.extend_from_slice(until_nul(&header.as_old().linkname));
        }
        self.is_executable = header.mode().is_ok_and(|mode| mode & 0o111 != 0);
    }
}

/// Bytes that may arrive beside what is unpacked: gzip's own and the ends of members.
const FRAMING: u64 = 32 << 10;
/// A tar's unit: headers are one, bodies fill whole ones.
const BLOCK: u64 = 512;
/// Where a header says what its entry is.
const TYPE_FLAG: usize = 156;
/// Largest long name or set of PAX records, in bytes; a path has at most 4096.
const MAX_EXTENSION: u64 = 64 << 10;
/// Most unpacked bytes for one that arrived. Repetitive text reaches 20 to 50, a run of one byte 1030, which is
/// deflate's own end.
const MAX_RATIO: u64 = 200;
/// Bytes that may be unpacked at any ratio: what they cost is noticed by nobody.
const RATIO_FLOOR: u64 = 64 << 20;

/// What stands before an entry and says something about it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extended {
    fn is_some(&self) -> bool {
        self.name.is_some() || self.target.is_some() || self.size.is_some()
    }

    /// Takes what matters of a set of PAX records. An empty value takes nothing away, as in Go's reader.
    fn records(&mut self, records: &[u8]) -> Result<(), UploadProblem> {
        for record in Records(records) {
            let (key, value) = record?;
            match key {
                b"path" if !value.is_empty() => set_once(&mut self.name, value.to_vec())?,
                b"linkpath" if !value.is_empty() => set_once(&mut self.target, value.to_vec())?,
                b"size" if !value.is_empty() => set_once(&mut self.size, decimal(value)?)?,
                key if key.starts_with(SPARSE) => return Err(UploadProblem::Header { rule: "is of a sparse file" }),
                _other => {}
            }
        }
        Ok(())
    }
}

/// Keys of GNU tar's sparse files, whose body is not the file's content.
const SPARSE: &[u8] = b"GNU.sparse.";

/// Global records may say who made the archive, and nothing that changes what it holds.
fn refuse_global(records: &[u8]) -> Result<(), UploadProblem> {
    for record in Records(records) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(SPARSE) {
            return Err(UploadProblem::Header { rule: "gives every entry one name or size" });
        }
    }
    Ok(())
}

/// PAX records: `<length of the whole record> <key>=<value>\n`.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), UploadProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        let records = mem::take(&mut self.0);
        if records.is_empty() {
            return None;
        }
        let record = || {
            let blank = records.iter().position(|byte| *byte == b' ')?;
            let length = usize::try_from(decimal(&records[..blank]).ok()?).ok()?;
            let (record, rest) = records.split_at_checked(length)?;
            let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
            Some((&record[..equals], &record[equals + 1..], rest))
        };
        let Some((key, value, rest)) = record() else {
            return Some(Err(UploadProblem::Header { rule: "has a PAX record that is none" }));
        };
        self.0 = rest;
        Some(Ok((key, value)))
    }
}

fn kind(flag: u8, name: &[u8]) -> Result<Kind, UploadProblem> {
    match flag {
        // The oldest way to write a file.
        b'0' | 0 => Ok(Kind::File),
        b'5' => Ok(Kind::Folder),
        b'2' => Ok(Kind::Link),
        b'1' => Err(UploadProblem::HardLink { name: shown(name) }),
        b'3' | b'4' | b'6' => Err(UploadProblem::Special { name: shown(name) }),
        _other => Err(UploadProblem::UnknownKind { name: shown(name) }),
    }
}

fn size(header: &Header) -> Result<u64, UploadProblem> {
    let field = &header.as_old().size;
    // The crate reads the last eight bytes of a binary number and would take a negative or larger one for another.
    if field[0] & 0x80 != 0 && (field[0] != 0x80 || !is_zero(&field[1..4])) {
        return Err(UploadProblem::Header { rule: "has a size beyond 64 bits" });
    }
    header.entry_size().map_err(|_| UploadProblem::Damaged)
}

/// Two names or sizes for one entry: which of them counts is a matter of the reader.
fn set_once<T>(field: &mut Option<T>, value: T) -> Result<(), UploadProblem> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(UploadProblem::Header { rule: "is the second of one entry" }),
    }
}

fn decimal(digits: &[u8]) -> Result<u64, UploadProblem> {
    let problem = UploadProblem::Header { rule: "has a number that is none" };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(problem);
    }
    str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(problem)
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// What arrives, counted as it is taken.
struct Arriving<R> {
    inner: R,
    taken: u64,
    limit: u64,
    /// Whether it was the sender who failed, not the archive.
    broken: bool,
}

impl<R: BufRead> BufRead for Arriving<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let broken = &mut self.broken;
        self.inner.fill_buf().inspect_err(|error| *broken = error.kind() != io::ErrorKind::Interrupted)
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.inner.consume(amount);
    }
}

impl<R: BufRead> Read for Arriving<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}
