//! The key with which processes of one installation call each other (contracts, section 5).

use base::{Secret, digest};
use http::HeaderMap;

/// Either name of the header is the key's.
pub const HEADERS: [&str; 2] = ["x-internal-key", "x-internal-api-key"];

/// Whether a request carries one of the keys.
pub fn is_right(headers: &HeaderMap, keys: &[Secret<String>]) -> bool {
    let Some(given) = HEADERS.iter().find_map(|name| headers.get(*name)) else { return false };
    // Of hashes a comparison that stops early tells nothing.
    let given = digest::sha256(given.as_bytes());
    keys.iter().any(|key| digest::sha256(key.expose().as_bytes()) == given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_header_and_any_of_the_keys() {
        let keys = [Secret::new("one".to_owned()), Secret::new("two".to_owned())];
        let check = |name: &'static str, value: &'static str, expected: bool| {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())]);
            assert_eq!(is_right(&headers, &keys), expected, "{name}: {value}");
        };
        check("x-internal-key", "one", true);
        check("x-internal-api-key", "two", true);
        check("x-internal-key", "three", false);
        check("x-internal-key", "", false);
        check("authorization", "one", false);
        assert!(!is_right(&HeaderMap::new(), &[]));
    }
}
