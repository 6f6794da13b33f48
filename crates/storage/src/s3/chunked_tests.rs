//! The encoding as clients write it, cut anywhere, and changed anywhere.

use base::digest::sha256_hex;

use super::*;
use crate::s3::sigv4::tests::chain;

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

/// The body that a client makes of some pieces.
fn encode(pieces: &[Vec<u8>], mut chain: Option<ChunkChain>, trailers: &[(&str, &str)]) -> Vec<u8> {
    let mut wire = Vec::new();
    for piece in pieces.iter().map(Vec::as_slice).chain([&[][..]]) {
        let signature = chain.as_mut().map(|chain| chain.sign_chunk(&sha256_hex(piece)));
        let extension = signature.map(|signature| format!(";chunk-signature={signature}")).unwrap_or_default();
        wire.extend_from_slice(format!("{:x}{extension}\r\n", piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        if !piece.is_empty() {
            wire.extend_from_slice(b"\r\n");
        }
    }
    let text: String = trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    wire.extend_from_slice(text.replace('\n', "\r\n").as_bytes());
    if let Some(chain) = chain.as_mut().filter(|_| !trailers.is_empty()) {
        let signature = chain.sign_trailers(&sha256_hex(text.as_bytes()));
        wire.extend_from_slice(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

type Decoded = (Vec<u8>, Vec<(String, String)>);

fn decode(wire: &[&[u8]], chain: Option<ChunkChain>, trailing: bool) -> Result<Decoded, ChunkError> {
    let mut decoder = Decoder::new(chain, trailing);
    let mut content = Vec::new();
    for piece in wire {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(part) = decoder.next(&mut piece)? {
            content.extend_from_slice(&part);
        }
        assert!(piece.is_empty());
    }
    Ok((content, decoder.finish()?))
}

const TRAILERS: [(&str, &str); 1] = [("x-amz-checksum-crc32", "AAAAAA==")];

#[test]
fn the_four_forms_are_read_however_they_are_cut() {
    let mut numbers = Numbers(3);
    for round in 0..400 {
        let (signed, trailing) = (round % 2 == 0, round % 4 < 2);
        let pieces: Vec<Vec<u8>> = (0..numbers.below(4))
            .map(|_| (0..1 + numbers.below(90)).map(|at| u8::try_from(at).unwrap()).collect())
            .collect();
        let trailers = if trailing { &TRAILERS[..] } else { &[] };
        let wire = encode(&pieces, signed.then(chain), trailers);
        let mut rest = wire.as_slice();
        let mut cuts = Vec::new();
        while !rest.is_empty() {
            let (cut, after) = rest.split_at((1 + numbers.below(20)).min(rest.len()));
            cuts.push(cut);
            rest = after;
        }
        let (content, read) = decode(&cuts, signed.then(chain), trailing).unwrap();
        assert_eq!(content, pieces.concat());
        assert_eq!(read.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>(), trailers);
    }
}

#[test]
fn a_signed_body_with_any_byte_changed_is_refused() {
    let pieces = [b"hello".to_vec(), vec![7; 300]];
    let wire = encode(&pieces, Some(chain()), &TRAILERS);
    for at in 0..wire.len() {
        for flip in [1, 0x20, 0x80] {
            let mut other = wire.clone();
            other[at] ^= flip;
            if let Ok((content, trailers)) = decode(&[&other], Some(chain()), true) {
                // Only what says nothing may differ: the case of a name, a blank for an end of line.
                assert_eq!(content, pieces.concat(), "byte {at}");
                assert_eq!(trailers, [(TRAILERS[0].0.to_owned(), TRAILERS[0].1.to_owned())], "byte {at}");
            }
        }
    }
}

#[test]
fn a_body_that_ends_early_is_refused() {
    let pieces = [b"hello".to_vec(), vec![7; 300]];
    for (signed, trailers) in [(true, &TRAILERS[..]), (false, &TRAILERS[..]), (true, &[]), (false, &[])] {
        let wire = encode(&pieces, signed.then(chain), trailers);
        for end in 0..wire.len() - 2 {
            let outcome = decode(&[&wire[..end]], signed.then(chain), !trailers.is_empty());
            // Without trailers the last line may be missing: its content is whole.
            if let Ok((content, read)) = outcome {
                assert_eq!((content, read.len()), (pieces.concat(), trailers.len()), "{end} of {}", wire.len());
            }
        }
        let longer = [&wire[..], b"x"].concat();
        assert!(decode(&[&longer], signed.then(chain), !trailers.is_empty()).is_err());
    }
}

#[test]
fn malformed_bodies_are_refused() {
    let check = |wire: &str, trailing: bool| assert!(decode(&[wire.as_bytes()], None, trailing).is_err(), "{wire:?}");
    check("", false);
    check("\r\n", false);
    check("x\r\n", false);
    check("-1\r\n", false);
    check("+1\r\na\r\n0\r\n\r\n", false);
    check("11111111111111111\r\n", false);
    check("1\r\nab\r\n0\r\n\r\n", false);
    check("2\r\na\r\n0\r\n\r\n", false);
    check("0\r\na:b\r\n\r\n", false);
    check("0\r\nno trailer\r\n\r\n", true);
    check("0\r\nx-amz-trailer-signature:00\r\n\r\n", true);
    check(&"1".repeat(LONGEST_LINE + 1), false);
    check(&format!("0\r\n{}\r\n", "a:b\r\n".repeat(MOST_TRAILERS + 1)), true);
    assert!(decode(&[b"0\r\n\r\n"], Some(chain()), false).is_err(), "a signature is missing");
}

#[test]
fn noise_never_makes_the_decoder_fall() {
    const PARTS: [&[u8]; 14] = [
        b"0",
        b"1",
        b"a",
        b"\r\n",
        b"\n",
        b"\r",
        b";",
        b"chunk-signature=",
        b":",
        b"x-amz-checksum-crc32",
        b"\xff",
        b"ffffffffffffffff",
        b"x-amz-trailer-signature",
        b" ",
    ];
    let mut numbers = Numbers(5);
    for _ in 0..20_000 {
        let wire: Vec<u8> = (0..numbers.below(16)).flat_map(|_| PARTS[numbers.below(PARTS.len())]).copied().collect();
        let signed = numbers.below(2) == 0;
        let trailing = numbers.below(2) == 0;
        let outcome = decode(&[&wire], signed.then(chain), trailing);
        assert!(!signed || outcome.is_err(), "nobody signed {wire:?}");
    }
}
