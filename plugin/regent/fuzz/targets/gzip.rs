//! What a gzipped upload unpacks to: the same as flate2's own reader finds, or an error where that finds one.
//!
//! An input is the number of bytes that arrive at a time, less one, and the stream.
#![no_main]

#[path = "../../src/source/tar/gzip.rs"]
mod gzip;

use flate2::bufread::MultiGzDecoder;
use gzip::Gzip;
use libfuzzer_sys::fuzz_target;
use std::io::{self, BufReader, Read};

fuzz_target!(|bytes: &[u8]| {
    let Some((step, stream)) = bytes.split_first() else { return };
    match (unpacked(BufReader::with_capacity(1 + usize::from(*step), stream)), by_flate2(stream)) {
        (Ok(ours), Ok(theirs)) => assert!(ours == theirs, "{} bytes, and {} of flate2's", ours.len(), theirs.len()),
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("ours: {:?}, flate2's: {:?}", ours.map(|all| all.len()), theirs.map(|all| all.len())),
    }
});

fn unpacked(stream: BufReader<&[u8]>) -> io::Result<Vec<u8>> {
    let mut gzip = Gzip::new(stream);
    let mut all = Vec::new();
    loop {
        match gzip.next()? {
            0 => {
                assert!(gzip.get_ref().buffer().is_empty(), "something is left unread");
                return Ok(all);
            }
            count => all.extend_from_slice(&gzip.piece()[..count]),
        }
    }
}

fn by_flate2(stream: &[u8]) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    MultiGzDecoder::new(stream).read_to_end(&mut all)?;
    Ok(all)
}
