//! Query strings, form bodies and paths: splitting and percent-decoding as PostgREST's HTTP library does it.

use std::borrow::Cow;

/// `name=value` pairs in order; a pair without `=` has no value. Pairs end at `&` or `;`, and `+` is a space. Bytes that
/// are no UTF-8 become U+FFFD.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Option<Cow<'_, str>>)> {
    let pieces = if query.is_empty() { None } else { Some(query.split(['&', ';'])) };
    pieces.into_iter().flatten().map(|piece| match piece.split_once('=') {
        Some((name, value)) => (decode(name, true), Some(decode(value, true))),
        None => (decode(piece, true), None),
    })
}

/// Whether a query string is UTF-8 once it is decoded.
pub(super) fn decodes_to_utf8(query: &str) -> bool {
    // Escapes of ASCII cannot be wrong.
    let beyond_ascii =
        |escape: &[u8]| escape[0] == b'%' && matches!(escape[1], b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F');
    !query.as_bytes().windows(2).any(beyond_ascii) || String::from_utf8(decode_bytes(query, false)).is_ok()
}

/// The decoded segments of a path without its first slash; none for the root.
pub(super) fn segments(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let segments = if path.is_empty() { None } else { Some(path.split('/')) };
    segments.into_iter().flatten().map(|segment| decode(segment, false))
}

/// Percent-decodes; what is no escape stays as it is.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let special = |b: &u8| *b == b'%' || (plus_is_space && *b == b'+');
    if !bytes.iter().any(special) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(match String::from_utf8(decode_bytes(text, plus_is_space)) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn decode_bytes(text: &str, plus_is_space: bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return decoded,
            [b'+', after @ ..] if plus_is_space => {
                decoded.push(b' ');
                after
            }
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(hex(*high) << 4 | hex(*low));
                after
            }
            [other, after @ ..] => {
                decoded.push(*other);
                after
            }
        };
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// The query string with parameters sorted by name, as `Content-Location` shows it: parameters of the same name become
/// one, their values joined by commas.
pub(crate) fn canonical(query: &str) -> String {
    let mut sorted: Vec<(Cow<'_, str>, Option<Cow<'_, str>>)> = pairs(query).collect();
    sorted.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    let mut text = String::with_capacity(query.len() + 8);
    let mut last: Option<&str> = None;
    for (name, value) in &sorted {
        if last == Some(name) {
            text.push(',');
        } else {
            if last.is_some() {
                text.push('&');
            }
            encode(name, &mut text);
            text.push('=');
        }
        encode(value.as_deref().unwrap_or(""), &mut text);
        last = Some(name);
    }
    text
}

fn encode(text: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_split_and_decoded() {
        let check = |query: &str, expected: &[(&str, Option<&str>)]| {
            let pairs: Vec<_> = pairs(query).collect();
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_ref(), v.as_deref())).collect();
            assert_eq!(pairs, expected, "{query}");
        };
        check("", &[]);
        check("a=1&b", &[("a", Some("1")), ("b", None)]);
        check("a=1;b=x=y", &[("a", Some("1")), ("b", Some("x=y"))]);
        check("a%20b=c+d%2B", &[("a b", Some("c d+"))]);
        check("a=%zz%4&&", &[("a", Some("%zz%4")), ("", None), ("", None)]);
        check("a=%c3%A9%ff", &[("a", Some("é\u{fffd}"))]);
    }

    #[test]
    fn what_is_no_utf8_is_found() {
        for good in ["", "a=b", "a=%41+%zz", "a=%c3%a9", "select=%C3%BC,b", "a=\u{e9}", "a=%"] {
            assert!(decodes_to_utf8(good), "{good}");
        }
        for bad in ["select=%ff", "name=eq.%FF", "a=%c3", "a=%c3&b=%a9", "%e9=1", "a=%c0%80"] {
            assert!(!decodes_to_utf8(bad), "{bad}");
        }
    }

    #[test]
    fn paths_are_split_and_decoded() {
        let check = |path: &str, expected: &[&str]| {
            assert_eq!(segments(path).collect::<Vec<_>>(), expected, "{path}");
        };
        check("/", &[]);
        check("", &[]);
        check("/items", &["items"]);
        check("/items/", &["items", ""]);
        check("/rpc/add%20them", &["rpc", "add them"]);
        check("/a+b%2Fc", &["a+b/c"]);
    }

    #[test]
    fn canonical_queries_are_sorted() {
        let check = |query: &str, expected: &str| assert_eq!(canonical(query), expected, "{query}");
        check("", "");
        check("a=1&c=3&b=2&d", "a=1&b=2&c=3&d=");
        check("id=gt.1&a=x&id=lt.5", "a=x&id=gt.1,lt.5");
        check("select=a,b(*)", "select=a%2Cb%28%2A%29");
    }
}
