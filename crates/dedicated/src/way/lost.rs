//! A request that an instance had begun when it ended.

use std::borrow::Cow;

use http::StatusCode;
use web::{Protocol, WireError};

/// Whether it was done nobody knows. Not 503: published clients try that again by themselves.
pub(super) struct Lost(pub(super) hyper_util::client::legacy::Error);

impl WireError for Lost {
    fn status(&self) -> StatusCode {
        StatusCode::BAD_GATEWAY
    }

    fn code(&self) -> Cow<'_, str> {
        // "connection failure", as PostgreSQL names it.
        "08006".into()
    }

    fn body(&self) -> Vec<u8> {
        let message = "The project's data API ended while it worked on the request; it may have been done or not";
        Protocol::Rest.body(self.status(), &self.code(), message, None, None)
    }

    fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
