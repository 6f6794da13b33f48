//! What makes a response body of rows, by media type.

use std::collections::HashMap;

use crate::identifier::QualifiedIdentifier;
use crate::media_type::MediaType;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaHandler {
    /// One JSON object. Cannot be overridden.
    SingleJson {
        nulls_stripped: bool,
    },
    /// A JSON array without nulls. Cannot be overridden.
    ArrayJsonStrip,
    Json,
    GeoJson,
    Csv,
    /// An aggregate over rows of `target`, or the type of a function's result.
    Custom {
        function: QualifiedIdentifier,
        target: HandlerTarget,
    },
    /// No body.
    None,
}

/// What a handler takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HandlerTarget {
    /// Rows of this relation, or the result of this function.
    Relation(QualifiedIdentifier),
    AnyElement,
}

/// A handler with the media type it answers with, for `*/*` is answered with another one.
pub type ResolvedHandler = (MediaHandler, MediaType);

/// Handlers by what they take and by the media type asked for.
pub type MediaHandlers = HashMap<(HandlerTarget, MediaType), ResolvedHandler>;

pub(super) const BUILTIN_MEDIA_HANDLERS: usize = 4;

/// The handlers there are without any in the database.
pub fn builtin_media_handlers() -> MediaHandlers {
    [
        (MediaType::Any, MediaHandler::Json, MediaType::ApplicationJson),
        (MediaType::ApplicationJson, MediaHandler::Json, MediaType::ApplicationJson),
        (MediaType::TextCsv, MediaHandler::Csv, MediaType::TextCsv),
        (MediaType::GeoJson, MediaHandler::GeoJson, MediaType::GeoJson),
    ]
    .into_iter()
    .map(|(asked, handler, answered)| ((HandlerTarget::AnyElement, asked), (handler, answered)))
    .collect()
}
