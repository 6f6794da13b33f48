//! Files of every project, compatible with supabase/storage: buckets and objects over REST, resumable uploads (TUS), the
//! S3 protocol, signed links. One service for all projects.
//!
//! A request is parsed ([`route`]), decided by the project's own policies (each statement runs as the caller, see
//! [`database`]), and acted out on a [`backend`], which keeps contents under versions that never change. Rows say which
//! version counts, so that row and file agree after any crash: a content has its place before its row is committed, and
//! loses it after.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backend;
mod body;
mod bucket;
mod change;
mod conditional;
mod content;
mod copy;
mod database;
mod disk;
mod download;
mod error;
pub mod fuzz;
mod key;
mod list;
mod maintain;
mod memory;
pub mod migrate;
mod mime;
mod pending;
mod quota;
mod range;
pub mod reconcile;
mod remove;
mod render;
mod request;
mod route;
mod s3;
mod sign;
mod store;
mod sweep;
mod tus;
mod upload;
mod usage;
mod verify;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use base::{Clock, WriteGate};
use pg::ServicePools;
use tokio_util::task::TaskTracker;
use web::{ApiKeyCheck, HttpService};

use crate::backend::{SharedBackend, Staging};
use crate::disk::DiskGuard;
pub use crate::error::Error;
pub use crate::key::{BucketId, ObjectKey, Version};
pub use crate::maintain::Rounds;
use crate::memory::Memory;
use crate::pending::Pending;
use crate::quota::{Quotas, UploadSlots};
pub use crate::render::RenderLimits;
use crate::render::Renderer;
use crate::request::Cx;
use crate::route::Route;
use crate::sweep::Sweeper;
use crate::tus::{OpenUploads, UploadLocks};
use crate::usage::{Counter, Metered};
use crate::verify::Comparisons;

#[cfg(test)]
mod tests;

/// What the service is made of.
#[derive(Clone)]
pub struct StorageConfig {
    /// Connections to the projects' databases.
    pub pools: Arc<ServicePools>,
    /// Where contents are kept.
    pub backend: SharedBackend,
    /// Where contents are received, on a local disk.
    pub staging: Staging,
    /// Bytes of that disk that uploads leave free, so that PostgreSQL and everything else on it can go on.
    pub disk_reserve: u64,
    /// Most bytes of one project's files, whatever its owner sets; 0 is none.
    pub project_bytes: u64,
    /// Closed while the server's own disk is nearly full.
    pub write_gate: WriteGate,
    /// The server's public URL, without a slash at its end: what URLs that are handed out begin with.
    pub public_url: String,
    /// How long a signed URL counts when nobody says, in seconds.
    pub signed_url_ttl: u64,
    /// Uploads under way at once, of all projects and of one.
    pub max_uploads: usize,
    pub max_uploads_per_project: usize,
    /// Verifies the session tokens of S3 clients.
    pub keys: Arc<ApiKeyCheck>,
    /// What transforming images may cost.
    pub render: RenderLimits,
    /// When rows and files are compared without being asked.
    pub rounds: Rounds,
    /// Knows the tasks that outlive a request.
    pub tasks: TaskTracker,
    pub clock: Clock,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

/// What every request has in common.
pub(crate) struct Shared {
    pub(crate) config: StorageConfig,
    pub(crate) disk: DiskGuard,
    /// The configured one, which counts what comes and goes.
    pub(crate) backend: SharedBackend,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) counter: Counter,
    pub(crate) uploads: UploadSlots,
    pub(crate) sweeper: Sweeper,
    pub(crate) resumable: UploadLocks,
    pub(crate) open_uploads: OpenUploads,
    pub(crate) renderer: Renderer,
    pub(crate) memory: Memory,
    pub(crate) pending: Pending,
    pub(crate) comparisons: Comparisons,
}

impl Storage {
    pub fn new(config: StorageConfig) -> Self {
        let quotas = Arc::new(Quotas::new(config.project_bytes));
        let shared = Shared {
            disk: DiskGuard::new(config.staging.clone(), config.disk_reserve, config.write_gate.clone()),
            backend: Arc::new(Metered { inner: config.backend.clone(), quotas: quotas.clone() }),
            quotas,
            counter: Counter::default(),
            uploads: UploadSlots::new(config.max_uploads, config.max_uploads_per_project),
            sweeper: Sweeper::default(),
            resumable: UploadLocks::default(),
            open_uploads: OpenUploads::default(),
            renderer: Renderer::new(config.render),
            memory: Memory::default(),
            pending: Pending::default(),
            comparisons: Comparisons::default(),
            config,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What answers the requests: with project and caller in their extensions, and paths relative to the service.
    pub fn service(&self) -> HttpService {
        let shared = self.shared.clone();
        HttpService::from_fn(move |request| handle(shared.clone(), request))
    }
}

async fn handle(shared: Arc<Shared>, request: Request) -> Response {
    let route = match route::route(request.method(), request.uri().path()) {
        Ok(route) => route,
        Err(error) => return error.respond(),
    };
    let (cx, body) = match Cx::new(shared, request) {
        Ok(parts) => parts,
        Err(error) => return error.respond(),
    };
    if let Route::Resumable { signed, id } = route {
        return tus::handle(cx, signed, id, body).await;
    }
    if route == Route::Options {
        return tus::options();
    }
    if route == Route::S3 {
        return s3::handle(cx, body).await;
    }
    let answer = Box::pin(answer(&cx, route, body)).await;
    answer.unwrap_or_else(|error| error.respond())
}

async fn answer(cx: &Cx, route: Route, body: axum::body::Body) -> Result<Response, Error> {
    match route {
        Route::Health => request::json(&serde_json::json!({"status": "ok"})),
        Route::ListBuckets => bucket::list_buckets(cx).await,
        Route::CreateBucket => bucket::create_bucket(cx, body).await,
        Route::GetBucket(id) => bucket::get_bucket(cx, &id).await,
        Route::UpdateBucket(id) => bucket::update_bucket(cx, &id, body).await,
        Route::DeleteBucket(id) => bucket::delete_bucket(cx, &id).await,
        Route::EmptyBucket(id) => bucket::empty_bucket(cx, &id).await,
        Route::Upload { at, update } => upload::upload_object(cx, at, update, body).await,
        Route::UploadSigned(at) => sign::upload_signed(cx, at, body).await,
        Route::Download { at, access } => download::download_object(cx, at, access).await,
        Route::Info { at, access } => download::object_info(cx, at, access).await,
        Route::List(bucket) => list::list_objects(cx, &bucket, body).await,
        Route::ListV2(bucket) => list::list_objects_v2(cx, &bucket, body).await,
        Route::Move => change::move_object(cx, body).await,
        Route::Copy => copy::copy_object(cx, body).await,
        Route::Delete(at) => remove::delete_object(cx, &at).await,
        Route::DeleteMany(bucket) => remove::delete_objects(cx, &bucket, body).await,
        Route::Sign(at) => sign::sign_url(cx, &at, body).await,
        Route::SignMany(bucket) => sign::sign_urls(cx, &bucket, body).await,
        Route::SignUpload(at) => sign::sign_upload_url(cx, &at).await,
        Route::PurgeCache => remove::purge_cache(cx),
        Route::Render { at, access } => render::render_image(cx, at, access).await,
        Route::Verify => verify::verify(cx, body).await,
        Route::S3 | Route::Options | Route::Resumable { .. } => {
            Err(Error::Internal("a route that is answered elsewhere"))
        }
    }
}
