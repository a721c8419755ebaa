#![expect(clippy::cast_possible_truncation, reason = "what is cast was cut to size a moment before")]

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// All characters in the order of their Huffman codes.
const BY_CODE: &[u8; 256] = b"012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWY\
    jkqvwxyz&*,;XZ!\x22()?'+|#>\x00$@[]~^}<`{\x5c\xc3\xd0\x80\x82\x83\xa2\xb8\xc2\xe0\xe2\x99\
    \xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\
    \xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9\x01\x87\x89\x8a\x8b\x8c\
    \x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\
    \xef\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed\xc7\xcf\xea\xeb\xc0\xc1\xc8\xc9\xca\
    \xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\
    \xf7\xf8\xfa\xfb\xfc\xfd\xfe\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\
    \x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9\x0a\x0d\x16";

/// The first and the second request of grpc-go 1.85.0 on a connection to
/// `passthrough:/home/argocd/cmp-server/plugins/kustomized-helm-v1.0.sock`.
const GRPC_GO_FIRST: &str = "838645ad62ba2d98d52f78f54a69b40ea1cc5a4b5275d16cc6ab716cee62158bd3\
    949d75d16cc6aaf1ea94d35b60d263d541ae9cf49551611d931c922a2c24a6b5905b3b96c54586ba2d98d52151\
    61eb6a127a4decb22d3968a56ee15c0ba0e4eb5f901d75d0620d263d4c4d6564ff75d8749f7a8a9acac8b4c760\
    2bbcdae040027465864d833505b11f40899acac8b24d494f6a7f8613efbedb96ff";
const GRPC_GO_SECOND: &str = "8386c3c2c1c0bf7e8513efbec8ad";

fn unhex(text: &str) -> Vec<u8> {
    let nibbles: Vec<u8> = text.bytes().map(|c| (c as char).to_digit(16).unwrap() as u8).collect();
    nibbles.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn huffman(text: &[u8]) -> Vec<u8> {
    let mut bits = Vec::new();
    for character in text {
        let rank = BY_CODE.iter().position(|c| c == character).unwrap() as u32;
        let (mut length, mut first_code, mut first_rank) = (0, 0, 0);
        while rank >= first_rank + CODES_OF_LENGTH[length] {
            first_rank += CODES_OF_LENGTH[length];
            first_code = (first_code + CODES_OF_LENGTH[length]) << 1;
            length += 1;
        }
        let code = first_code + rank - first_rank;
        bits.extend((0..length).rev().map(|place| (code >> place & 1) as u8));
    }
    bits.resize(bits.len().next_multiple_of(8), 1);
    bits.chunks(8).map(|octet| octet.iter().fold(0, |all, bit| all << 1 | bit)).collect()
}

fn integer(first: u8, prefix_bits: u32, mut value: usize) -> Vec<u8> {
    let mask = (1 << prefix_bits) - 1;
    if value < mask {
        return vec![first | value as u8];
    }
    let mut octets = vec![first | mask as u8];
    value -= mask;
    while value >= 0x80 {
        octets.push(value as u8 | 0x80);
        value >>= 7;
    }
    octets.push(value as u8);
    octets
}

fn text(value: &[u8], as_huffman: bool) -> Vec<u8> {
    let octets = if as_huffman { huffman(value) } else { value.to_vec() };
    let mut all = integer(if as_huffman { 0x80 } else { 0 }, 7, octets.len());
    all.extend(octets);
    all
}

/// A literal field of one of the three kinds.
fn literal(kind: usize, name: Result<usize, &[u8]>, value: &[u8], as_huffman: bool) -> Vec<u8> {
    let (first, prefix) = [(0x40, 6), (0x00, 4), (0x10, 4)][kind % 3];
    let mut field = integer(first, prefix, name.unwrap_or(0));
    if let Err(name) = name {
        field.extend(text(name, as_huffman));
    }
    field.extend(text(value, as_huffman));
    field
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The frames of a header block that is cut at the given places.
fn block_frames(stream: u32, block: &[u8], cuts: &[usize], padding: Option<u8>, priority: bool) -> Vec<u8> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (block.len() + 1)).collect();
    cuts.extend([0, block.len()]);
    cuts.sort_unstable();
    let count = cuts.len() - 1;
    let mut all = Vec::new();
    for (index, cut) in cuts.windows(2).enumerate() {
        let mut flags = if index + 1 == count { FrameHeader::END_HEADERS } else { 0 };
        let mut payload = Vec::new();
        let mut kind = FrameHeader::CONTINUATION;
        if index == 0 {
            kind = FrameHeader::HEADERS;
            flags |= 0x1;
            if let Some(padding) = padding {
                flags |= FrameHeader::PADDED;
                payload.push(padding);
            }
            if priority {
                flags |= FrameHeader::PRIORITY;
                payload.extend([0x80, 0, 0, 0, 16]);
            }
        }
        payload.extend(&block[cut[0]..cut[1]]);
        if index == 0 {
            payload.extend(vec![0; padding.unwrap_or(0).into()]);
        }
        all.extend(frame(kind, flags, stream, &payload));
    }
    all
}

fn with_preface(frames: &[u8]) -> Vec<u8> {
    [CONNECTION_PREFACE, frames].concat()
}

/// Gives its bytes in pieces, and is not ready before each of them.
struct Pieces {
    bytes: VecDeque<u8>,
    sizes: Vec<usize>,
    reads: usize,
    ready: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.ready = !self.ready;
        if self.ready {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = self.sizes[self.reads % self.sizes.len()].max(1);
        self.reads += 1;
        let count = size.min(self.bytes.len()).min(buffer.remaining());
        let piece: Vec<u8> = self.bytes.drain(..count).collect();
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

/// What is read of the input through the wrapper, with reads of the given
/// sizes on both sides of it.
fn read_through(input: &[u8], sizes: &[usize], buffer_sizes: &[usize]) -> Vec<u8> {
    let mut reader = AuthoritySanitizer::new(Pieces {
        bytes: input.iter().copied().collect(),
        sizes: sizes.to_vec(),
        reads: 0,
        ready: false,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut output = Vec::new();
        for size in buffer_sizes.iter().cycle() {
            let mut buffer = vec![0; (*size).max(1)];
            match reader.read(&mut buffer).await.unwrap() {
                0 => break,
                count => output.extend(&buffer[..count]),
            }
        }
        output
    })
}

fn read_at_once(input: &[u8]) -> Vec<u8> {
    read_through(input, &[usize::MAX], &[1 << 20])
}

fn sanitized(value: &[u8]) -> Vec<u8> {
    value.iter().map(|c| if b"%/".contains(c) { b'-' } else { *c }).collect()
}

#[test]
fn the_huffman_tables_are_those_of_hpack() {
    assert_eq!(CODES_OF_LENGTH.iter().sum::<u32>(), 257);
    assert_eq!(huffman(AUTHORITY), AUTHORITY_HUFFMAN);
    let mut decoder = hpack::Decoder::new();
    for character in 0..=255 {
        let field = literal(1, Ok(AUTHORITY_INDEX), &[b'x', character, b'%'], true);
        let fields = decoder.decode(&field).unwrap();
        assert_eq!(fields[0].1, [b'x', character, b'%']);
    }
}

#[test]
fn requests_of_grpc_go_keep_all_but_the_authority() {
    let (mut before, mut after) = (hpack::Decoder::new(), hpack::Decoder::new());
    for request in [GRPC_GO_FIRST, GRPC_GO_SECOND] {
        let block = unhex(request);
        let mut edited = block.clone();
        sanitize_block(&mut edited);
        let mut expected = before.decode(&block).unwrap();
        assert_eq!(expected[3].0, AUTHORITY);
        assert_eq!(expected[3].1, b"home%2Fargocd%2Fcmp-server%2Fplugins%2Fkustomized-helm-v1.0.sock");
        expected[3].1 = sanitized(&expected[3].1);
        assert_eq!(after.decode(&edited).unwrap(), expected);
    }
}

#[test]
fn every_character_but_two_is_kept() {
    let all: Vec<u8> = (0..=255).flat_map(|c| [c, b'%', c, b'/']).collect();
    for as_huffman in [false, true] {
        let mut block = literal(0, Ok(AUTHORITY_INDEX), &all, as_huffman);
        sanitize_block(&mut block);
        assert_eq!(block, literal(0, Ok(AUTHORITY_INDEX), &sanitized(&all), as_huffman));
    }
}

#[test]
fn other_fields_are_kept() {
    let value = b"/a%2Fb";
    for kind in 0..3 {
        for as_huffman in [false, true] {
            for name in [Ok(4), Ok(62), Ok(500), Err(b"x-authority".as_slice()), Err(b"")] {
                let field = literal(kind, name, value, as_huffman);
                let mut block = field.clone();
                sanitize_block(&mut block);
                assert_eq!(block, field);
            }
        }
    }
}

/// h2 takes four octets after the first, also where fewer would do, and no fifth.
#[test]
fn a_length_is_read_as_h2_reads_it() {
    let value = [b'%'; 127];
    let edited = [b'-'; 127];
    for (length, expected) in [
        ([0x7f, 0x00].as_slice(), edited),
        (&[0x7f, 0x80, 0x80, 0x80, 0x00], edited),
        (&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00], value),
        (&[0x7f, 0xff, 0xff, 0xff, 0xff], value),
        (&[0x7f, 0xff, 0xff, 0xff, 0x7f], value),
    ] {
        let field = |value: [u8; 127]| [&[0x01], length, &value].concat();
        let mut block = field(value);
        sanitize_block(&mut block);
        assert_eq!(block, field(expected));
    }
}

/// Whatever the operator's file takes as a plugin's name, in the three ways in which clients send its path.
#[test]
fn every_plugin_name_becomes_a_host() {
    let name = "/home/argocd/cmp-server/plugins/AZ-az.09_-v1.0.sock";
    for path in [name.to_owned(), name.replace('/', "%2F"), name[1..].replace('/', "%2F")] {
        assert!(http::uri::Authority::try_from(path.as_str()).is_err(), "{path}");
        assert!(http::uri::Authority::try_from(sanitized(path.as_bytes()).as_slice()).is_ok(), "{path}");
    }
}

#[test]
fn what_is_not_http2_is_kept() {
    for input in
        [b"GET /a%2Fb HTTP/1.1\r\nHost: a%2Fb\r\n\r\n".as_slice(), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n%%%%", b"PRI", b""]
    {
        assert_eq!(read_at_once(input), input);
        assert_eq!(read_through(input, &[1], &[1]), input);
    }
}

#[test]
fn a_header_block_that_is_too_large_is_kept_and_the_next_one_is_edited() {
    let small = literal(0, Ok(AUTHORITY_INDEX), b"a%2Fb", true);
    let next = block_frames(3, &small, &[], None, false);
    let next_edited = block_frames(3, &literal(0, Ok(AUTHORITY_INDEX), b"a-2Fb", true), &[], None, false);
    let mut large = small;
    large.extend(literal(1, Ok(4), &vec![b'x'; MAX_HELD_BYTES], false));
    for cuts in [&[][..], &[100], &[16384, 32768, 49152], &[MAX_HELD_BYTES - 9], &[MAX_HELD_BYTES - 8]] {
        let frames = block_frames(1, &large, cuts, None, false);
        let input = with_preface(&[frames.clone(), next.clone()].concat());
        let expected = with_preface(&[frames, next_edited.clone()].concat());
        assert!(read_at_once(&input) == expected);
        assert!(read_through(&input, &[1000], &[1 << 20]) == expected);
    }
}

#[test]
fn padding_that_leaves_no_room_is_kept() {
    let field = literal(0, Ok(AUTHORITY_INDEX), b"a%2Fb", false);
    let flags = FrameHeader::END_HEADERS | FrameHeader::PADDED;
    let payload = [&[200], field.as_slice()].concat();
    let input = with_preface(&frame(FrameHeader::HEADERS, flags, 1, &payload));
    assert_eq!(read_at_once(&input), input);
    let empty = with_preface(&frame(FrameHeader::HEADERS, flags, 1, &[]));
    assert_eq!(read_at_once(&empty), empty);
}

#[test]
fn another_frame_within_a_header_block_is_kept() {
    let field = literal(0, Ok(AUTHORITY_INDEX), b"a%2Fb", false);
    let (start, end) = field.split_at(3);
    let input = with_preface(
        &[
            frame(FrameHeader::HEADERS, 0, 1, start),
            frame(0, 0, 1, b"%%"),
            frame(FrameHeader::CONTINUATION, FrameHeader::END_HEADERS, 1, end),
        ]
        .concat(),
    );
    assert_eq!(read_at_once(&input), input);
}

/// The authorities of the requests of grpc-go that h2 hands to a service.
async fn accepted_by_h2<S>(client: DuplexStream, server: S, cuts: &[usize], padding: Option<u8>) -> Vec<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const RST_STREAM: u8 = 0x3;
    const SETTINGS: u8 = 0x4;

    let mut bytes = with_preface(&frame(SETTINGS, 0, 0, &[]));
    for (stream, request) in [(1, GRPC_GO_FIRST), (3, GRPC_GO_SECOND)] {
        bytes.extend(block_frames(stream, &unhex(request), cuts, padding, padding.is_some()));
    }
    let client = tokio::spawn(async move {
        let (mut client, mut requests) = tokio::io::split(client);
        let write = tokio::spawn(async move {
            requests.write_all(&bytes).await.unwrap();
            requests
        });
        let mut answered = 0;
        while answered < 2 {
            let mut header = [0; FrameHeader::LENGTH];
            client.read_exact(&mut header).await.unwrap();
            let header = FrameHeader::parse(&header);
            let mut payload = vec![0; header.length];
            client.read_exact(&mut payload).await.unwrap();
            if [FrameHeader::HEADERS, RST_STREAM].contains(&header.kind) {
                answered += 1;
            }
        }
        drop(write.await.unwrap());
    });
    let mut connection = h2::server::handshake(server).await.unwrap();
    let mut authorities = Vec::new();
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        authorities.push(request.uri().authority().unwrap().to_string());
        answer.send_response(http::Response::new(()), true).unwrap();
    }
    client.await.unwrap();
    authorities
}

#[tokio::test]
async fn h2_accepts_the_requests() {
    let authority = "home-2Fargocd-2Fcmp-server-2Fplugins-2Fkustomized-helm-v1.0.sock";
    // The authority is in the octets 66 to 114.
    for (cuts, padding) in [(&[][..], None), (&[], Some(9)), (&[80], None), (&[0, 66, 90, 91, 91, 92], Some(0))] {
        for room in [1 << 16, 100, 1] {
            let (client, server) = tokio::io::duplex(room);
            let server = AuthoritySanitizer::new(server);
            assert_eq!(accepted_by_h2(client, server, cuts, padding).await, [authority, authority]);
        }
    }
}

/// If this fails, h2 takes such an authority and this module can go.
#[tokio::test]
async fn h2_does_not_accept_the_requests_as_they_are() {
    let (client, server) = tokio::io::duplex(1 << 16);
    assert!(accepted_by_h2(client, server, &[], None).await.is_empty());
}

/// A few fields, before and after.
fn fields() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let value = prop::collection::vec(prop_oneof![Just(b'%'), Just(b'/'), any::<u8>()], 0..300);
    let field = (0..7usize, 0..3usize, any::<bool>(), value).prop_map(|(what, kind, as_huffman, value)| {
        let edited = sanitized(&value);
        let both = |name| (literal(kind, name, &value, as_huffman), literal(kind, name, &edited, as_huffman));
        let same = |bytes: Vec<u8>| (bytes.clone(), bytes);
        match what {
            0 => both(Ok(AUTHORITY_INDEX)),
            1 => both(Err(AUTHORITY)),
            2 => same(literal(kind, Ok(4), &value, as_huffman)),
            3 => same(literal(kind, Err(&value), &value, as_huffman)),
            4 => same(integer(0x80, 7, value.len() + 1)),
            5 => same(integer(0x20, 5, value.len())),
            _ => same(literal(kind, Ok(70 + value.len() * 50), &value, as_huffman)),
        }
    });
    prop::collection::vec(field, 0..6).prop_map(|fields| {
        let (before, after): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        (before.concat(), after.concat())
    })
}

/// Some frames, before and after.
fn frames() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let headers = (
        fields(),
        any::<u32>(),
        prop::collection::vec(any::<usize>(), 0..4),
        prop::option::of(any::<u8>()),
        any::<bool>(),
    )
        .prop_map(|((before, after), stream, cuts, padding, priority)| {
            let cut = |block: &[u8]| block_frames(stream & 0x7fff_ffff, block, &cuts, padding, priority);
            (cut(&before), cut(&after))
        });
    let other = (
        any::<u8>().prop_filter("not a header block", |kind| *kind != FrameHeader::HEADERS),
        any::<u8>(),
        any::<u32>(),
        prop::collection::vec(any::<u8>(), 0..600),
    )
        .prop_map(|(kind, flags, stream, payload)| {
            let bytes = frame(kind, flags, stream, &payload);
            (bytes.clone(), bytes)
        });
    prop::collection::vec(prop_oneof![headers, other], 0..8).prop_map(|frames| {
        let (before, after): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
        (with_preface(&before.concat()), with_preface(&after.concat()))
    })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..4usize, 1..64usize, 1..3000usize], 1..20)
}

proptest! {
    #[test]
    fn only_the_authority_changes_however_it_is_read(
        (before, after) in frames(),
        sizes in sizes(),
        buffer_sizes in sizes(),
    ) {
        prop_assert!(read_at_once(&before) == after);
        prop_assert!(read_through(&before, &sizes, &buffer_sizes) == after);
    }

    /// What is read of a part is the start of what is read of the whole,
    /// except for a header block that is not complete.
    #[test]
    fn an_early_end_loses_nothing((before, after) in frames(), end in any::<usize>(), sizes in sizes()) {
        let end = end % (before.len() + 1);
        let output = read_through(&before[..end], &sizes, &[100]);
        prop_assert_eq!(output.len(), end);
        for ((output, before), after) in output.iter().zip(&before).zip(&after) {
            prop_assert!(output == before || output == after);
        }
    }

    #[test]
    fn damaged_input_keeps_its_length_however_it_is_read(
        (mut input, _) in frames(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..20),
        sizes in sizes(),
        buffer_sizes in sizes(),
    ) {
        let room = input.len() - CONNECTION_PREFACE.len();
        for (place, octet) in damage {
            if room > 0 {
                input[CONNECTION_PREFACE.len() + place % room] = octet;
            }
        }
        let output = read_at_once(&input);
        prop_assert_eq!(output.len(), input.len());
        prop_assert!(read_through(&input, &sizes, &buffer_sizes) == output);
    }

    #[test]
    fn noise_keeps_its_length_however_it_is_read(
        noise in prop::collection::vec(any::<u8>(), 0..3000),
        sizes in sizes(),
    ) {
        let input = with_preface(&noise);
        let output = read_at_once(&input);
        prop_assert_eq!(output.len(), input.len());
        prop_assert!(read_through(&input, &sizes, &sizes) == output);
    }

    /// A block of noise is edited in place or not at all.
    #[test]
    fn a_block_of_noise_is_no_problem(mut block in prop::collection::vec(any::<u8>(), 0..3000)) {
        sanitize_block(&mut block);
    }
}
