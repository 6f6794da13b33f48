//! `/admin/mail/*`: what a mail would look like, and a mail to try the mail server's settings out. LaunchDB's own; GoTrue
//! has no such thing.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::contact;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::rate_limit::Limit;
use crate::request;
use crate::response;

#[derive(Default, Deserialize)]
#[serde(default)]
struct PreviewParams {
    /// `confirmation`, `invite`, ...
    template: Option<String>,
    /// In place of the project's own; both or neither are settings of the project.
    subject: Option<String>,
    content: Option<String>,
    /// The user metadata that the template sees.
    data: Map<String, Value>,
}

/// `POST /admin/mail/preview`
pub(super) async fn preview(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    let params: PreviewParams = request::params(body)?;
    // Templates cost time that others' mails wait for.
    cx.limit_subject(Limit::VerifyAddress, "mail preview")?;
    let kind = params.template.as_deref().unwrap_or("confirmation");
    let given = params.subject.is_some() || params.content.is_some();
    let template = given.then_some(mailer::Template { subject: params.subject, content: params.content });
    let rendered = cx.shared.config.mailer.preview(&cx.project, kind, template, params.data).await;
    let rendered = rendered.map_err(|error| Error::invalid(format!("The template cannot be used: {error}")))?;
    response::ok(&json!({ "subject": rendered.subject, "html": rendered.html, "text": rendered.text }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TestParams {
    email: Option<String>,
}

/// `POST /admin/mail/test`: sends at once, and says what the mail server said.
pub(super) async fn send_test(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    let params: TestParams = request::params(body)?;
    let email = contact::email(params.email.as_deref())?;
    cx.limit_subject(Limit::EmailSent, "")?;
    cx.limit_subject(Limit::VerifyAddress, "test mail")?;
    cx.shared.config.mailer.send_test(&cx.project, &email).await.map_err(|error| {
        Error::new(ErrorCode::UnexpectedFailure, error.to_string()).with_status(StatusCode::UNPROCESSABLE_ENTITY)
    })?;
    response::empty_object()
}
