//! Cuts a template into texts and actions.

use super::TemplateError;

/// A part of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    /// What stands between `{{` and `}}`, without trim markers.
    Action {
        line: usize,
        code: &'a str,
    },
}

/// Cuts `source` into its parts; comments are gone, and so is the space that trim markers take.
pub(super) fn scan(source: &str) -> Result<Vec<Part<'_>>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = source;
    let mut trim_start = false;
    let (mut line, mut counted) = (1, 0);
    loop {
        let (text, behind) = match rest.find("{{") {
            Some(at) => (&rest[..at], Some(&rest[at + 2..])),
            None => (rest, None),
        };
        let marked = behind.and_then(|code| code.strip_prefix('-')).filter(|code| code.starts_with(is_space));
        let text = if trim_start { text.trim_start_matches(is_space) } else { text };
        let text = if marked.is_some() { text.trim_end_matches(is_space) } else { text };
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        let Some(code) = marked.or(behind) else { return Ok(parts) };
        let at = source.len() - code.len();
        line += source[counted..at].matches('\n').count();
        counted = at;
        let open = || TemplateError::Syntax { line, what: "an action is not closed with }}".to_owned() };
        let (code, comment, after) = if let Some(comment) = code.trim_start_matches(is_space).strip_prefix("/*") {
            let end = comment.find("*/").ok_or_else(open)?;
            let tail = &comment[end + 2..];
            let close = tail.find("}}").ok_or_else(open)?;
            (&tail[..close], true, &tail[close + 2..])
        } else {
            let close = end_of_action(code).ok_or_else(open)?;
            (&code[..close], false, &code[close + 2..])
        };
        let trimmed = code.strip_suffix('-').filter(|code| code.is_empty() || code.ends_with(is_space));
        trim_start = trimmed.is_some();
        if !comment {
            parts.push(Part::Action { line, code: trimmed.unwrap_or(code).trim_matches(is_space) });
        }
        rest = after;
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Where `}}` is, outside of quotes.
fn end_of_action(code: &str) -> Option<usize> {
    let bytes = code.as_bytes();
    let mut quote = None;
    let mut i = 0;
    while i < bytes.len() {
        match (quote, bytes[i]) {
            (Some(b'"'), b'\\') => i += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'`')) => quote = Some(byte),
            (None, b'}') if bytes.get(i + 1) == Some(&b'}') => return Some(i),
            (None, _) => {}
        }
        i += 1;
    }
    None
}
