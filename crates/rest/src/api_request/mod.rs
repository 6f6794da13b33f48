//! Translates an HTTP request into the API's own terms (PostgREST `ApiRequest`).

pub mod types;
