//! What an upload's body is: the content alone, or a form with the content as its file.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::Stream;
use http::header;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use multer::{Field, Multipart};
use serde_json::Value;
use web::limits::body_error;

use crate::backend::HashAlgorithm;
use crate::content::ContentInfo;
use crate::error::Error;
use crate::memory::Room;
use crate::request::Cx;
use crate::s3::{Algorithm, Payload};

/// Longest field of a form beside the file, and longest metadata of a user, in bytes.
const LONGEST_FIELD: usize = 1024 * 1024;
/// Fields of a form before its file.
const MOST_FIELDS: usize = 32;

/// An upload whose content is still to be received.
pub(crate) struct Upload {
    pub(crate) info: ContentInfo,
    pub(crate) user_metadata: Option<Value>,
    /// The content's length when it is known before.
    pub(crate) length: Option<u64>,
    /// The body's length, which a form's is longer than the content's.
    pub(crate) body_length: Option<u64>,
    pub(crate) hash: HashAlgorithm,
    content: Content,
}

enum Content {
    Raw(Body),
    Form(Box<Form>),
    /// Of the S3 protocol.
    Signed(Box<Payload>),
}

struct Form {
    multipart: Multipart<'static>,
    /// None once it was read to its end.
    file: Option<Field<'static>>,
}

impl Upload {
    /// A part of the S3 protocol that is the whole body.
    pub(crate) fn part(info: ContentInfo, length: Option<u64>, body: Body) -> Self {
        let (hash, content) = (HashAlgorithm::Md5, Content::Raw(body));
        Self { info, user_metadata: None, length, body_length: length, hash, content }
    }

    /// Reads what comes before the content.
    pub(crate) async fn open(cx: &Cx, body: Body) -> Result<Self, Error> {
        let content_type = match cx.parts.headers.get(header::CONTENT_TYPE) {
            Some(value) => {
                value.to_str().map_err(|_| Error::InvalidMimeType("in the Content-Type header".to_owned()))?
            }
            None => "",
        };
        let body_length = cx
            .header(header::CONTENT_LENGTH)
            .and_then(|length| length.parse().ok())
            .or_else(|| body.size_hint().exact());
        if content_type.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
            return Self::open_form(cx, content_type, body, body_length).await;
        }
        let or = |text: Option<&str>, default: &str| text.filter(|text| !text.is_empty()).unwrap_or(default).to_owned();
        let info = ContentInfo::new(
            or(Some(content_type.trim()), "application/octet-stream"),
            or(cx.header(header::CACHE_CONTROL), "no-cache"),
        );
        let user_metadata = cx.header("x-metadata").and_then(decoded_metadata);
        let (hash, content) = (HashAlgorithm::Blake3, Content::Raw(body));
        Ok(Self { info, user_metadata, length: body_length, body_length, hash, content })
    }

    async fn open_form(cx: &Cx, content_type: &str, body: Body, body_length: Option<u64>) -> Result<Self, Error> {
        let boundary =
            multer::parse_boundary(content_type).map_err(|_| Error::MalformedBody("The form has no boundary"))?;
        let mut multipart = Multipart::new(Pieces { body, rest: false }, boundary);
        let (mut cache_control, mut mime_type, mut user_metadata) = (None, None, None);
        // Its fields are given back with the metadata that they become, which is as short as one of them.
        let room = cx.shared.memory.room(&cx.project.project_ref);
        for _ in 0..MOST_FIELDS {
            let Some(field) = multipart.next_field().await.map_err(form_error)? else { break };
            let name = field.name().unwrap_or_default().to_owned();
            // The clients call the file nothing, or `file`; browsers give every file a name.
            if field.file_name().is_some() || name.is_empty() {
                let own = field.content_type().map(ToString::to_string);
                let mime_type = mime_type.or(own).unwrap_or_else(|| "application/octet-stream".to_owned());
                let cache_control =
                    cache_control.map_or_else(|| "no-cache".to_owned(), |seconds: String| format!("max-age={seconds}"));
                return Ok(Self {
                    info: ContentInfo::new(mime_type, cache_control),
                    user_metadata,
                    length: None,
                    body_length,
                    hash: HashAlgorithm::Blake3,
                    content: Content::Form(Box::new(Form { multipart, file: Some(field) })),
                });
            }
            let text = short_text(field, &room).await?;
            match name.as_str() {
                "cacheControl" if !text.is_empty() => cache_control = Some(text),
                "contentType" if !text.is_empty() => mime_type = Some(text),
                "metadata" | "userMetadata" => {
                    user_metadata = user_metadata.or_else(|| serde_json::from_str(&text).ok().filter(Value::is_object));
                }
                _ => {}
            }
        }
        Err(Error::NoContent("No content provided"))
    }

    /// An upload of the S3 protocol.
    pub(crate) fn signed(info: ContentInfo, user_metadata: Option<Value>, payload: Payload) -> Self {
        let length = payload.length();
        let (hash, content) = (HashAlgorithm::Md5, Content::Signed(Box::new(payload)));
        Self { info, user_metadata, length, body_length: length, hash, content }
    }

    /// The checksum that came with an upload of the S3 protocol, once all of it has come.
    pub(crate) fn checksum(&self) -> Option<(Algorithm, String)> {
        match &self.content {
            Content::Signed(payload) => payload.checksum(),
            _ => None,
        }
    }

    /// The next piece of the content; none at its end, which is then known to be the end of a whole body.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match &mut self.content {
            Content::Raw(body) => next_piece(body).await,
            Content::Signed(payload) => payload.next().await,
            Content::Form(form) => {
                if let Some(file) = &mut form.file
                    && let Some(piece) = file.chunk().await.map_err(form_error)?
                {
                    return Ok(Some(piece));
                }
                // Only the closing boundary tells that nothing is missing.
                form.file = None;
                while form.multipart.next_field().await.map_err(form_error)?.is_some() {}
                Ok(None)
            }
        }
    }
}

/// The next piece of a body.
pub(crate) async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, Error> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => return Err(body_error(error).into()),
        }
    }
}

async fn short_text(mut field: Field<'static>, room: &Room) -> Result<String, Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(form_error)? {
        if bytes.len() + piece.len() > LONGEST_FIELD {
            return Err(Error::TooLarge { limit: LONGEST_FIELD as u64 });
        }
        room.grow(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| Error::MalformedBody("A field of the form is not in UTF-8"))
}

/// A user's own metadata: JSON in base64. What cannot be read is left out, as upstream does.
pub(crate) fn decoded_metadata(text: &str) -> Option<Value> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    if bytes.len() > LONGEST_FIELD {
        return None;
    }
    serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
}

fn form_error(error: multer::Error) -> Error {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<axum::Error>() {
            Ok(cause) => body_error(*cause).into(),
            Err(_) => Error::MalformedBody("The request body could not be read"),
        },
        multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. } => {
            Error::MalformedBody("The form ended before it was complete")
        }
        _ => Error::MalformedBody("The form is malformed"),
    }
}

/// A body as a stream that gives one piece at a time: the reader of forms takes whatever is ready, however much it is.
struct Pieces {
    body: Body,
    rest: bool,
}

impl Stream for Pieces {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rest {
            self.rest = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest = true;
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}
