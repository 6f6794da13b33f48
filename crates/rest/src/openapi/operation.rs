//! What the operations of relations and functions have in common.

use std::borrow::Cow;

use serde::Serialize;

use super::model::{Entries, Operation, Response};

/// Media types that the document names.
#[derive(Clone, Copy, Serialize)]
pub(super) enum Mime {
    #[serde(rename = "application/json")]
    Json,
    #[serde(rename = "application/vnd.pgrst.object+json;nulls=stripped")]
    ObjectNullsStripped,
    #[serde(rename = "application/vnd.pgrst.object+json")]
    Object,
    #[serde(rename = "text/csv")]
    Csv,
    #[serde(rename = "application/openapi+json")]
    OpenApi,
}

/// An operation that a comment describes: its first line is the summary.
pub(super) fn operation<'a>(tag: Cow<'a, str>, comment: Option<&'a str>) -> Operation<'a> {
    let (summary, description) = comment.map(summary_and_rest).unzip();
    Operation {
        tags: [tag],
        summary,
        description: description.filter(|text| !text.is_empty()),
        produces: &[],
        parameters: Vec::new(),
        responses: Entries::default(),
    }
}

/// The first line of a comment, and the others without blank ones before them.
pub(super) fn summary_and_rest(comment: &str) -> (&str, &str) {
    let (summary, rest) = comment.split_once('\n').unwrap_or((comment, ""));
    (summary, rest.trim_start_matches('\n'))
}

pub(super) fn response<'a>(status: &'static str, description: &'static str) -> (&'static str, Response<'a>) {
    (status, Response { description, schema: None })
}
