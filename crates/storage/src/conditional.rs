//! Conditional requests (RFC 9110, section 13). Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, header};

/// What a condition makes of a request for a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Send,
    /// 304: what the client has is still good.
    NotModified,
    /// 412: the client wanted another one.
    Failed,
}

/// Compares a request's conditions with a content's entity tag (with its quotes) and its time, in Unix seconds.
pub(crate) fn outcome(request: &HeaderMap, etag: &str, modified: i64) -> Outcome {
    let text = |name: HeaderName| request.get(name).and_then(|value| value.to_str().ok());
    if let Some(tags) = text(header::IF_MATCH) {
        if !names(tags, etag, false) {
            return Outcome::Failed;
        }
    } else if let Some(since) = text(header::IF_UNMODIFIED_SINCE).and_then(seconds)
        && modified > since
    {
        return Outcome::Failed;
    }
    if let Some(tags) = text(header::IF_NONE_MATCH) {
        if names(tags, etag, true) {
            return Outcome::NotModified;
        }
    } else if let Some(since) = text(header::IF_MODIFIED_SINCE).and_then(seconds)
        && modified <= since
    {
        return Outcome::NotModified;
    }
    Outcome::Send
}

/// Whether `Range` counts: with `If-Range` only when the content is still the one the client has a part of.
pub(crate) fn range_counts(request: &HeaderMap, etag: &str, modified: i64) -> bool {
    match request.get(header::IF_RANGE).map(|value| value.to_str()) {
        None => true,
        Some(Ok(tag)) if tag.starts_with('"') => tag == etag,
        // Weak tags never match here.
        Some(Ok(date)) => seconds(date) == Some(modified),
        Some(Err(_)) => false,
    }
}

/// Whether a list of entity tags (or `*`) has this one. Tags without quotes, which some clients send, count too.
fn names(list: &str, etag: &str, weakly: bool) -> bool {
    list.split(',').map(str::trim).any(|tag| {
        let strong = if weakly { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
        tag == "*" || strong == etag || strong == etag.trim_matches('"')
    })
}

fn seconds(date: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(date).ok()?;
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok())
}

/// Unix seconds as an HTTP date.
pub(crate) fn http_date(unix_seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0).min(253_402_300_799));
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_taken_in_the_order_of_the_rfc() {
        let check = |headers: &[(HeaderName, &str)], expected: Outcome| {
            let map = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            assert_eq!(outcome(&map, "\"abc\"", 1_000_000), expected, "{headers:?}");
        };
        let (before, at) = (&*http_date(999_999), &*http_date(1_000_000));
        check(&[], Outcome::Send);
        check(&[(header::IF_NONE_MATCH, "\"abc\"")], Outcome::NotModified);
        check(&[(header::IF_NONE_MATCH, "W/\"abc\"")], Outcome::NotModified);
        check(&[(header::IF_NONE_MATCH, "\"x\", \"abc\"")], Outcome::NotModified);
        check(&[(header::IF_NONE_MATCH, "abc")], Outcome::NotModified);
        check(&[(header::IF_NONE_MATCH, "*")], Outcome::NotModified);
        check(&[(header::IF_NONE_MATCH, "\"x\"")], Outcome::Send);
        check(&[(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, at)], Outcome::Send);
        check(&[(header::IF_MODIFIED_SINCE, at)], Outcome::NotModified);
        check(&[(header::IF_MODIFIED_SINCE, before)], Outcome::Send);
        check(&[(header::IF_MODIFIED_SINCE, "nonsense")], Outcome::Send);
        check(&[(header::IF_MATCH, "\"abc\"")], Outcome::Send);
        check(&[(header::IF_MATCH, "W/\"abc\"")], Outcome::Failed);
        check(&[(header::IF_MATCH, "\"x\"")], Outcome::Failed);
        check(&[(header::IF_UNMODIFIED_SINCE, at)], Outcome::Send);
        check(&[(header::IF_UNMODIFIED_SINCE, before)], Outcome::Failed);
    }

    #[test]
    fn a_range_of_another_content_does_not_count() {
        let check = |value: Option<&str>, counts: bool| {
            let map = value.iter().map(|value| (header::IF_RANGE, value.parse().unwrap())).collect();
            assert_eq!(range_counts(&map, "\"abc\"", 1_000_000), counts, "{value:?}");
        };
        check(None, true);
        check(Some("\"abc\""), true);
        check(Some("\"x\""), false);
        check(Some("W/\"abc\""), false);
        check(Some(&http_date(1_000_000)), true);
        check(Some(&http_date(1_000_001)), false);
    }
}
