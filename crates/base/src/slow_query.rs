//! A request of the data API whose statements took long, as its project's owner sees it.

use std::time::Duration;

use crate::ids::ProjectRef;

/// Longest part of a statement that is kept, in bytes.
pub const LONGEST_STATEMENT: usize = 2048;
/// Longest part of a path, in bytes.
pub const LONGEST_PATH: usize = 256;

/// No value of a request is in it: statements have parameters in place of them, and a path has no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowQuery {
    pub project_ref: ProjectRef,
    /// When its statements were done, since the Unix epoch.
    pub at: Duration,
    /// From the wish for a connection to the last row.
    pub took: Duration,
    /// What the request ran, cut where it is longer than [`LONGEST_STATEMENT`].
    pub statement: String,
    pub role: String,
    pub method: String,
    pub path: String,
    /// The answer's `x-request-id`.
    pub request_id: String,
    /// Rows of the answer; none where the statement failed, and where they are handed on as they come.
    pub rows: Option<i64>,
    /// The error's code, where it failed.
    pub error_code: Option<String>,
}

/// The beginning of a text, at most so many bytes, cut between characters.
pub fn beginning(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        for (text, most, expected) in [("abc", 5, "abc"), ("abc", 2, "ab"), ("aéb", 2, "a"), ("é", 1, ""), ("", 0, "")]
        {
            assert_eq!(beginning(text, most), expected, "{text} {most}");
        }
    }
}
