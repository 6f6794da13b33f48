//! Which types a bucket takes, and whether a content is what its type says. Pure.

use crate::error::Error;

/// Longest type that is stored, in bytes.
const LONGEST: usize = 1_000;

/// `type/subtype` in lower case, without parameters.
pub(crate) fn essence(mime: &str) -> String {
    mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether `mime` fits a list in which a subtype may be `*`. An empty list takes everything.
pub(crate) fn check_allowed(mime: &str, allowed: &[String]) -> Result<(), Error> {
    if allowed.is_empty() {
        return Ok(());
    }
    let own = essence(mime);
    let Some((kind, _)) = own.split_once('/') else { return Err(Error::InvalidMimeType(mime.to_owned())) };
    let fits = allowed.iter().any(|pattern| {
        let pattern = essence(pattern);
        pattern == own
            || matches!(&*pattern, "*" | "*/*")
            || pattern.strip_suffix("/*").is_some_and(|wanted| wanted == kind)
    });
    if fits { Ok(()) } else { Err(Error::InvalidMimeType(mime.to_owned())) }
}

/// Whether a list can be a bucket's (upstream's pattern: `type/subtype`, perhaps with a charset, or `*`).
pub(crate) fn check_list(list: &[String]) -> Result<(), Error> {
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.' | b'*' | b'_'))
    };
    for mime in list {
        let own = mime.split(';').next().unwrap_or_default().trim();
        let fits = mime.len() <= LONGEST
            && (own == "*" || own.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub)));
        if !fits {
            return Err(Error::InvalidMimeType(mime.chars().take(100).collect()));
        }
    }
    Ok(())
}

/// Whether a type can be stored and sent as a header.
pub(crate) fn check_storable(mime: &str) -> Result<(), Error> {
    // Browsers take a comma for the beginning of another type.
    let fits = mime.len() <= LONGEST && mime.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b',');
    if fits {
        Ok(())
    } else {
        Err(Error::InvalidMimeType(mime.chars().filter(char::is_ascii_graphic).take(100).collect()))
    }
}

/// How many bytes [`check_content`] looks at.
pub(crate) const SNIFFED: usize = 8 * 1024;

/// Refuses a content that plainly is something else than declared, where a bucket has a list: a page of HTML that calls
/// itself an image, a program that calls itself a document. What nobody can tell passes.
pub(crate) fn check_content(declared: &str, head: &[u8], allowed: &[String]) -> Result<(), Error> {
    if allowed.is_empty() {
        return Ok(());
    }
    let Some(found) = infer::get(head).map(|kind| kind.mime_type()) else { return Ok(()) };
    let own = essence(declared);
    let kind = |mime: &str| mime.split('/').next().unwrap_or_default().to_owned();
    // Different names for one thing, and containers (documents are zip files, SVG is XML, films are named as they like).
    let same = own == found
        || (kind(&own) == kind(found) && kind(found) != "text")
        || (kind(&own) == "text" && kind(found) == "text" && found != "text/html")
        || (found.ends_with("xml") && own.ends_with("xml"))
        || matches!((&*kind(&own), &*kind(found)), ("audio" | "video", "audio" | "video" | "application"))
        || (kind(&own) == "application" && kind(found) != "text")
        || own == "application/octet-stream"
        || check_allowed(found, allowed).is_ok();
    if same { Ok(()) } else { Err(Error::MimeMismatch { declared: declared.to_owned(), found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(types: &[&str]) -> Vec<String> {
        types.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn lists_with_wildcards() {
        let check = |mime: &str, types: &[&str], fits: bool| {
            assert_eq!(check_allowed(mime, &list(types)).is_ok(), fits, "{mime} {types:?}");
        };
        check("image/png", &[], true);
        check("image/png", &["image/png"], true);
        check("Image/PNG; q=1", &["image/png"], true);
        check("image/png", &["image/*"], true);
        check("image/png", &["*"], true);
        check("image/png", &["*/*"], true);
        check("image/png", &["image/jpeg", "text/*"], false);
        check("image", &["image/*"], false);
        check("imagex/png", &["image/*"], false);
        check("", &["image/*"], false);
        assert!(check_list(&list(&["image/*", "text/plain; charset=utf-8", "*", "application/vnd.ms-excel"])).is_ok());
        for bad in ["", "image", "image/", "/png", "image/p ng", "a/b/c", &"x/".repeat(600)] {
            assert!(check_list(&list(&[bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_content_that_is_plainly_something_else() {
        const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        const HTML: &[u8] = b"<!DOCTYPE html><script>alert(1)</script>";
        const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let check = |declared: &str, head: &[u8], types: &[&str], fits: bool| {
            assert_eq!(check_content(declared, head, &list(types)).is_ok(), fits, "{declared} {types:?}");
        };
        check("image/png", PNG, &["image/*"], true);
        check("image/jpeg", PNG, &["image/*"], true);
        check("image/png", HTML, &["image/*"], false);
        check("image/png", HTML, &[], true);
        check("image/png", HTML, &["image/png", "text/html"], true);
        check("image/png", ELF, &["image/*"], false);
        check("image/png", b"some text", &["image/*"], true);
        check("image/png", b"", &["image/*"], true);
        check("text/plain", HTML, &["text/plain"], false);
        check("image/svg+xml", b"<?xml version=\"1.0\"?><svg/>", &["image/svg+xml"], true);
    }
}
