//! Codes that change with the time (RFC 6238, RFC 4226): SHA-1, six digits, 30 seconds, as every authenticator has them.

use ring::hmac;
use url::form_urlencoded::byte_serialize;

const PERIOD: i64 = 30;
const DIGITS: u32 = 6;
/// Steps that clocks may differ by.
const SKEW: i64 = 1;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A fresh secret in base32 (RFC 4648): 160 bits, as RFC 4226 recommends.
pub(super) fn generate_secret() -> String {
    encoded(&base::random::bytes::<20>())
}

fn encoded(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let bits = chunk.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)) << (8 * (5 - chunk.len()));
        let characters = (chunk.len() * 8).div_ceil(5);
        out.extend((0..characters).map(|i| ALPHABET[(bits >> (35 - 5 * i) & 31) as usize] as char));
    }
    out
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut out) = (0u32, 0u32, Vec::new());
    for c in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|own| *own == c.to_ascii_uppercase())?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 255).ok()?);
        }
    }
    Some(out)
}

fn code_of(key: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[19] & 15);
    let number = u32::from_be_bytes([tag[offset] & 0x7f, tag[offset + 1], tag[offset + 2], tag[offset + 3]]);
    format!("{:06}", number % 10u32.pow(DIGITS))
}

/// The step whose code `code` is, at `now` or close to it. A step may be used once, which is the caller's to see to.
pub(super) fn step_of_code(secret: &str, code: &str, now: i64) -> Option<i64> {
    use subtle::ConstantTimeEq as _;
    let key = decoded(secret)?;
    let current = now.div_euclid(PERIOD);
    let fits = |step: &i64| bool::from(code_of(&key, *step).as_bytes().ct_eq(code.as_bytes()));
    [current, current - SKEW, current + SKEW].into_iter().find(fits)
}

/// What authenticators read (Google's key URI format).
pub(super) fn uri(issuer: &str, account: &str, secret: &str) -> String {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
    format!(
        "otpauth://totp/{}:{}?algorithm=SHA1&digits={DIGITS}&issuer={}&period={PERIOD}&secret={secret}",
        encoded(issuer),
        encoded(account),
        encoded(issuer),
    )
}

#[cfg(test)]
pub(crate) fn code_at(secret: &str, now: i64) -> String {
    code_of(&decoded(secret).unwrap(), now.div_euclid(PERIOD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 6238, appendix B, cut to six digits.
        let secret = encoded(b"12345678901234567890");
        assert_eq!(secret, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for (now, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(code_at(&secret, now), code);
            assert_eq!(step_of_code(&secret, code, now), Some(now / 30));
            assert_eq!(step_of_code(&secret, code, now + 30), Some(now / 30));
            assert_eq!(step_of_code(&secret, code, now + 90), None);
        }
        assert_eq!(step_of_code(&secret, "", 59), None);
        assert_eq!(step_of_code("not base32!", "287082", 59), None);
    }

    #[test]
    fn base32_is_read_back() {
        for text in ["", "f", "fo", "foo", "foob", "fooba", "foobar"] {
            assert_eq!(decoded(&encoded(text.as_bytes())).unwrap(), text.as_bytes());
        }
        assert_eq!(encoded(b"foobar"), "MZXW6YTBOI");
        assert_eq!(generate_secret().len(), 32);
    }

    #[test]
    fn nothing_in_a_name_ends_the_label() {
        let uri = uri("My App:1", "a&b@c.de", "S");
        assert_eq!(
            uri,
            "otpauth://totp/My%20App%3A1:a%26b%40c.de?algorithm=SHA1&digits=6&issuer=My%20App%3A1&period=30&secret=S"
        );
    }
}
