//! The id of a request: accepted from the client when sane, made otherwise; echoed, and printed in the log.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is accepted from outside, in bytes.
const MAX_LENGTH: usize = 128;

/// An id of letters, digits and `._:-`, so that it can be put into any log or page as it is; an extension of every request that reaches a service.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    pub fn as_str(&self) -> &str {
        // Checked when it was made.
        self.0.to_str().unwrap_or_default()
    }

    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Makes ids: a random part per process start, and a counter.
pub struct RequestIds {
    prefix: [u8; 12],
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestIds {
    pub fn new() -> Self {
        let mut prefix = [b'0'; 12];
        prefix.copy_from_slice(base::random::hex::<6>().as_bytes());
        Self { prefix, next: AtomicU64::new(0) }
    }

    /// The id that the client sent, or a fresh one.
    pub fn accept_or_make(&self, headers: &HeaderMap) -> RequestId {
        match headers.get(REQUEST_ID) {
            Some(id) if is_sane(id.as_bytes()) => RequestId(id.clone()),
            _ => self.make(),
        }
    }

    fn make(&self) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut n = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = [b'0'; 24];
        id[..12].copy_from_slice(&self.prefix);
        for digit in id[12..].iter_mut().rev() {
            *digit = DIGITS[(n & 15) as usize];
            n >>= 4;
        }
        let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&id));
        RequestId(value.unwrap_or_else(|_| HeaderValue::from_static("-")))
    }
}

fn is_sane(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_accepted_when_sane_and_made_otherwise() {
        let ids = RequestIds::new();
        let check = |sent: &[u8], accepted: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(sent).unwrap());
            let id = ids.accept_or_make(&headers);
            assert_eq!(id.as_str().as_bytes() == sent, accepted, "{sent:?}");
            assert!(is_sane(id.as_str().as_bytes()));
        };
        check(b"abc-1", true);
        check(b"Root:1-67891233_a.b", true);
        check(b"aaa\"}<script>", false);
        check(b"a/b", false);
        check(&[b'a'; 128], true);
        check(&[b'a'; 129], false);
        check(b"", false);
        check(b"a b", false);
        check(b"caf\xc3\xa9", false);
    }

    #[test]
    fn made_ids_differ() {
        let ids = RequestIds::new();
        let (a, b) = (ids.make(), ids.make());
        assert_ne!(a.as_str(), b.as_str());
        assert_eq!(a.as_str().len(), 24);
    }
}
