//! Random text from the operating system's generator.

use ring::rand::{SecureRandom, SystemRandom};

/// `N` random bytes.
///
/// # Panics
/// When the operating system has no randomness to give, which leaves nothing safe to do.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    #[expect(clippy::expect_used, reason = "no safe way to go on without randomness")]
    SystemRandom::new().fill(&mut out).expect("the operating system gives random bytes");
    out
}

/// `N` random bytes as `2 * N` lower-case hex characters.
pub fn hex<const N: usize>() -> String {
    to_hex(&bytes::<N>())
}

/// Lower-case hex of `data`.
pub fn to_hex(data: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    data.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

/// A password of 32 characters from `[A-Za-z0-9]` (190 bits): needs no quoting in a URI, a shell or a `.pgpass`.
pub fn password() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut out = String::with_capacity(32);
    while out.len() < 32 {
        // 248 = 4 * 62: larger bytes are thrown away so that every character is equally likely.
        let fresh = bytes::<48>();
        out.extend(
            fresh.iter().filter(|b| **b < 248).take(32 - out.len()).map(|b| ALPHABET[usize::from(b % 62)] as char),
        );
    }
    out
}
