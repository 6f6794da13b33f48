//! Bodies in `aws-chunked` encoding: what was encoded comes out whatever the pieces of the wire are, and of a body whose
//! pieces are signed nothing else ever does.

use base::digest::sha256_hex;
use bytes::Bytes;
use storage::fuzz::{self, Decoded};

use crate::Reached;
use crate::sigv4::{self, SECRET};
use seeded::Random;

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

/// # Errors
/// What is wrong with what became of the body of this seed.
pub fn check(seed: u64) -> Result<Reached, String> {
    let mut random = Random::new(seed);
    let (signed, trailing) = (random.chance(50), random.chance(50));
    let mut request = sigv4::request(&mut random);
    let payload = if trailing { format!("{SIGNED}-TRAILER") } else { SIGNED.to_owned() };
    let Some((claim, first)) = sigv4::streaming(&mut request, &mut random, &payload) else {
        return Err(format!("a good signature is not proved: {request:?}"));
    };
    let mut previous = first;
    let mut sign = |kind: &str, digests: &str| {
        previous = sigv4::signature(&request, kind, &format!("{previous}\n{digests}"));
        previous.clone()
    };
    let (mut wire, mut content) = (Vec::new(), Vec::new());
    let pieces = random.below(4);
    for at in 0..=pieces {
        let length = if at == pieces { 0 } else { 1 + random.below(40) };
        let piece: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        content.extend_from_slice(&piece);
        let mut line = if random.chance(50) { format!("{length:x}") } else { format!("{length:X}") };
        if signed {
            let digests = format!("{}\n{}", sha256_hex(b""), sha256_hex(&piece));
            line.push_str(&format!(";chunk-signature={}", sign("AWS4-HMAC-SHA256-PAYLOAD", &digests)));
        }
        wire.extend_from_slice(line.as_bytes());
        wire.extend_from_slice(b"\r\n");
        if length > 0 {
            wire.extend_from_slice(&piece);
            wire.extend_from_slice(b"\r\n");
        }
    }
    let mut trailers = Vec::new();
    if trailing {
        let value = random.joined(&["a", "B", "=", "/", "+"], 8);
        trailers.push(("x-amz-checksum-crc32".to_owned(), value.clone()));
        wire.extend_from_slice(format!("x-amz-checksum-crc32:{value}\r\n").as_bytes());
        if signed {
            let digest = sha256_hex(format!("x-amz-checksum-crc32:{value}\n").as_bytes());
            let signature = sign("AWS4-HMAC-SHA256-TRAILER", &digest);
            wire.extend_from_slice(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
        }
    }
    wire.extend_from_slice(b"\r\n");
    let read = |wire: &[u8], random: &mut Random| match signed {
        true => claim.signed_chunks(SECRET, cut(wire, random), trailing),
        false => fuzz::unsigned_chunks(cut(wire, random), trailing),
    };
    let expected = Decoded { content, trailers };
    let decoded = read(&wire, &mut random);
    if decoded.as_ref() != Ok(&expected) {
        return Err(format!("{} was read as {decoded:?}", wire.escape_ascii()));
    }
    let good = wire.len();
    random.damage(&mut wire);
    match read(&wire, &mut random) {
        Err(_) => Ok(Reached::Refused),
        // White space and the case of digits mean nothing.
        Ok(decoded) if decoded == expected => Ok(Reached::Accepted),
        Ok(decoded) if signed => Err(format!("{} was read as {decoded:?}", wire.escape_ascii())),
        Ok(decoded) if decoded.content.len() > good + 64 => Err("more came out than went in".to_owned()),
        Ok(_) => Ok(Reached::Accepted),
    }
}

/// The same bytes as pieces of a network.
fn cut(wire: &[u8], random: &mut Random) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut rest = wire;
    while !rest.is_empty() {
        let most = if random.chance(50) { 4 } else { rest.len() };
        let (piece, tail) = rest.split_at(1 + random.below(most.min(rest.len())));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = tail;
    }
    pieces
}
