//! Transformed images: `/render/image/...`. Who may read the object may read what is made of it.
//!
//! A few images are made at once, on threads where blocking is allowed, and a few wait; beyond that the answer is 503. What
//! was made is kept in memory up to some size: contents never change, so that a result is good as long as its version.

mod picture;
mod transform;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

pub(crate) use self::transform::Transform;
use crate::backend::BackendError;
use crate::conditional::{self, Outcome, http_date};
use crate::download::{self, Readable};
use crate::error::Error;
use crate::quota::UploadSlots;
use crate::request::{Cx, set};
use crate::route::{Access, ObjectPath};
use crate::sign;

/// How often an object is looked up when its content is replaced just then.
const MOST_TRIES: usize = 4;
/// Entries the cache makes room for at first.
const CACHE_ENTRIES: usize = 256;

/// What transforming images may cost.
#[derive(Clone, Copy, Debug)]
pub struct RenderLimits {
    /// Largest original, in bytes.
    pub original_bytes: u64,
    /// Most pixels of an original.
    pub original_pixels: u64,
    /// Images that are made at once, and that wait beside them.
    pub at_once: usize,
    pub waiting: usize,
    /// Memory of the results that are kept, in bytes.
    pub cache_bytes: u64,
}

impl Default for RenderLimits {
    // 25 MB and 50 megapixels are upstream's. One of that size takes up to 500 MB while it is made.
    fn default() -> Self {
        Self {
            original_bytes: 25 * 1024 * 1024,
            original_pixels: 50_000_000,
            at_once: 2,
            waiting: 32,
            cache_bytes: 32 * 1024 * 1024,
        }
    }
}

/// What a result is kept under: the place of its original, with the version, and the transformation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    original: Box<str>,
    transform: Transform,
    takes_webp: bool,
}

#[derive(Clone, Debug)]
struct Made {
    bytes: Bytes,
    mime_type: &'static str,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Made> for Weight {
    fn weight(&self, key: &Key, made: &Made) -> u64 {
        (key.original.len() + made.bytes.len() + 256) as u64
    }
}

/// Makes images and keeps them.
pub(crate) struct Renderer {
    limits: RenderLimits,
    /// Those that are made and those that wait.
    /// A project has half of the places at most.
    admitted: UploadSlots,
    working: Arc<Semaphore>,
    cache: Cache<Key, Made, Weight>,
}

impl Renderer {
    pub(crate) fn new(limits: RenderLimits) -> Self {
        Self {
            limits,
            admitted: UploadSlots::new(limits.at_once + limits.waiting, (limits.at_once + limits.waiting).div_ceil(2)),
            working: Arc::new(Semaphore::new(limits.at_once)),
            cache: Cache::with_weighter(CACHE_ENTRIES, limits.cache_bytes, Weight),
        }
    }

    /// What is kept, or a fresh one; who asks for the same waits for the first.
    async fn make(&self, cx: &Cx, found: &Readable, transform: Transform, takes_webp: bool) -> Result<Made, Error> {
        if found.content.size > self.limits.original_bytes {
            return Err(Error::InvalidImage("The image is too large to be transformed"));
        }
        let key = Key { original: found.location.path().into(), transform, takes_webp };
        self.cache.get_or_insert_async(&key, self.render(cx, found, transform, takes_webp)).await
    }

    async fn render(&self, cx: &Cx, found: &Readable, transform: Transform, takes_webp: bool) -> Result<Made, Error> {
        let admitted = self.admitted.enter(&cx.project.project_ref);
        let admitted = admitted.map_err(|_| Error::Busy("Too many images are being transformed"))?;
        let closed = |_| Error::Internal("the renderer is closed");
        let working = self.working.clone().acquire_owned().await.map_err(closed)?;
        let original = read(cx, found).await?;
        let pixels = self.limits.original_pixels;
        // Ends by itself when the client hangs up; its places are taken until then.
        let making = tokio::task::spawn_blocking(move || {
            let _places = (admitted, working);
            picture::make(&original, &transform, takes_webp, pixels)
        });
        // A decoder that falls over an image takes nothing along.
        let made = making.await.map_err(|_| Error::InvalidImage("The image cannot be transformed"))??;
        Ok(Made { bytes: made.bytes.into(), mime_type: made.mime_type })
    }
}

/// The whole original.
async fn read(cx: &Cx, found: &Readable) -> Result<Vec<u8>, Error> {
    let size = found.content.size;
    let mut original = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    if size == 0 {
        return Ok(original);
    }
    let mut body = match cx.shared.backend.open(&found.location, 0..size).await {
        Err(BackendError::Missing) => return Err(Error::FileMissing),
        body => body?,
    };
    while let Some(frame) = body.frame().await {
        let piece = frame.map_err(|_| Error::FileMissing)?.into_data().unwrap_or_default();
        original.extend_from_slice(&piece);
    }
    Ok(original)
}

pub(crate) async fn render_image(cx: &Cx, at: ObjectPath, access: Access) -> Result<Response, Error> {
    if !cx.project.storage.features.image_transformation_enabled() {
        return Err(Error::FeatureNotEnabled("imageTransformation"));
    }
    let (transform, expires) = match access {
        Access::Signed => {
            // The token says what may be seen, not the query.
            let right = sign::check_render(cx, &at)?;
            (Transform::of_text(&right.transform)?, Some(right.expires))
        }
        _ => (Transform::of_query(|name| cx.query(name))?, None),
    };
    for _ in 0..MOST_TRIES {
        let found = download::find(cx, &at, access, "storage.render.image_authenticated").await?;
        match respond(cx, &found, transform, expires).await {
            // Replaced between the look at the row and the one at the file.
            Err(Error::FileMissing) => {}
            answer => return answer,
        }
    }
    Err(Error::FileMissing)
}

async fn respond(cx: &Cx, found: &Readable, transform: Transform, expires: Option<i64>) -> Result<Response, Error> {
    let takes_webp = cx.header(header::ACCEPT).is_some_and(|accept| accept.contains("image/webp"));
    let modified = found.object.modified.unwrap_or_default();
    let tag = format!("{} {} {takes_webp}", found.location.version.as_str(), transform.text());
    let etag = format!("\"{}\"", &base::digest::sha256_hex(tag.as_bytes())[..32]);
    let mut response = Response::new(Body::empty());
    download::describe(&mut response, found, expires, cx.query("download").as_deref());
    response.headers_mut().remove(header::ACCEPT_RANGES);
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    set(&mut response, header::ETAG, &etag);
    set(&mut response, header::LAST_MODIFIED, &http_date(modified));
    match conditional::outcome(&cx.parts.headers, &etag, modified) {
        Outcome::Send => {}
        Outcome::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        Outcome::Failed => return Err(Error::PreconditionFailed),
    }
    let made = cx.shared.renderer.make(cx, found, transform, takes_webp).await?;
    set(&mut response, header::CONTENT_TYPE, made.mime_type);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(made.bytes.len()));
    if cx.parts.method != Method::HEAD {
        *response.body_mut() = Body::from(made.bytes);
    }
    Ok(response)
}
