//! Status and headers that functions set for the answer (PostgREST docs, "Response Headers").

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::error::Error;

/// `response.status`: the digits it begins with.
pub(super) fn status(text: Option<&str>) -> Result<Option<StatusCode>, Error> {
    let Some(text) = text else { return Ok(None) };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let status = text[..digits].parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok());
    status.map(Some).ok_or(Error::GucStatus)
}

/// `response.headers`: an array of objects with one string each.
pub(super) fn headers(json: Option<&str>) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
    let Some(json) = json else { return Ok(Vec::new()) };
    let list: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(json).map_err(|_| Error::GucHeaders)?;
    list.iter()
        .map(|object| {
            let mut entries = object.iter();
            let (Some((name, serde_json::Value::String(value))), None) = (entries.next(), entries.next()) else {
                return Err(Error::GucHeaders);
            };
            // A line break in a value would be a header of the database's own making.
            let name = HeaderName::try_from(name.as_str()).map_err(|_| Error::GucHeaders)?;
            if is_framing(&name) {
                return Err(Error::GucFraming(name.as_str().to_owned()));
            }
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Error::GucHeaders)?;
            Ok((name, value))
        })
        .collect()
}

/// Headers that say where an answer ends or what becomes of the connection: a wrong one would make the client take another
/// answer for this one's rest.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ];
    NAMES.contains(&name.as_str())
}

/// Adds the database's headers over ours: ours of the same name go, several of the database's stay.
pub(super) fn merge(ours: &mut HeaderMap, theirs: Vec<(HeaderName, HeaderValue)>) {
    for (name, _) in &theirs {
        ours.remove(name);
    }
    for (name, value) in theirs {
        ours.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_digits_in_range() {
        let check = |text: &str, expected: Option<u16>| {
            assert_eq!(status(Some(text)).ok().flatten().map(|s| s.as_u16()), expected, "{text:?}");
        };
        check("204", Some(204));
        check("418 I'm a teapot", Some(418));
        check("", None);
        check("x", None);
        check("99", None);
        assert_eq!(status(None), Ok(None));
    }

    #[test]
    fn headers_are_objects_with_one_text_each() {
        let check = |json: &str, count: Result<usize, Error>| {
            assert_eq!(headers(Some(json)).map(|list| list.len()), count, "{json}");
        };
        check(r#"[{"Set-Cookie": "a"}, {"Set-Cookie": "b"}]"#, Ok(2));
        check("[]", Ok(0));
        check(r#"[{"a": "b", "c": "d"}]"#, Err(Error::GucHeaders));
        check(r#"[{"a": 1}]"#, Err(Error::GucHeaders));
        check(r#"{"a": "b"}"#, Err(Error::GucHeaders));
        check(r#"[{"a": "b\r\nc: d"}]"#, Err(Error::GucHeaders));
        check("nonsense", Err(Error::GucHeaders));
        for name in ["Content-Length", "transfer-encoding", "Connection"] {
            check(&format!(r#"[{{"{name}": "3"}}]"#), Err(Error::GucFraming(name.to_lowercase())));
        }
    }
}
