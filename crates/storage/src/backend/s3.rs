//! Contents in any S3-compatible store, through `object_store`: `<prefix>/<project>/<bucket>/<path>/%<version>`, the layout
//! of the disk.
//!
//! What is written is whole or not there at all, which is what such stores promise. Large contents go in parts; parts of an
//! upload that a crash ended are the store's to expire (a lifecycle rule for incomplete uploads).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base::{ProjectRef, Secret};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _, PutPayload, RetryConfig, WriteMultipart,
};
use rustls::{ClientConfig, RootCertStore};

use super::file_body::FileBody;
use super::layout::{Location, key_of_folders, version_of_file};
use super::{Backend, BackendError, Found, Page, StagedFile};
use crate::key::BucketId;

/// Contents up to this many bytes are written in one request.
const SINGLE: u64 = 8 * 1024 * 1024;
/// Smallest part, and how many there may be of one content (S3's 10,000 with some room).
const LEAST_PART: u64 = 8 * 1024 * 1024;
const MOST_PARTS: u64 = 9_000;
/// Parts of one content on the way at once.
const PARTS_AT_ONCE: usize = 3;
/// S3 copies no more than this in one request, in bytes.
const LARGEST_COPY: u64 = 5 * 1024 * 1024 * 1024;
/// Longest key of S3, in bytes.
const LONGEST_PATH: usize = 1_024;
/// Versions of one page of a listing.
const PAGE: usize = 1_000;
/// Versions that are removed at once.
const REMOVALS_AT_ONCE: usize = 16;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest pause of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the store is and how it is entered.
#[derive(Clone, Debug)]
pub struct S3Config {
    pub bucket: String,
    /// URL of a store other than AWS's.
    pub endpoint: Option<String>,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: Secret<String>,
    pub session_token: Option<Secret<String>>,
    /// The bucket is part of the path, not of the host's name.
    pub path_style: bool,
    /// What every key begins with; may be empty.
    pub prefix: String,
}

/// A bucket of an S3-compatible store.
#[derive(Clone)]
pub struct S3Backend {
    pub(super) store: Arc<AmazonS3>,
    pub(super) prefix: String,
}

/// Hands the store a client with our TLS, so that nothing has to be set for the whole process.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

fn client() -> Result<reqwest::Client, BackendError> {
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|error| BackendError::Store(error.to_string()))?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.with_root_certificates(roots).with_no_client_auth())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent("LaunchDB")
        .build()
        .map_err(|error| BackendError::Store(error.to_string()))
}

impl S3Backend {
    /// Fails when the settings make no sense; whether the store answers, [`Self::check`] says.
    pub fn open(config: &S3Config) -> Result<Self, BackendError> {
        let mut builder = AmazonS3Builder::new()
            .with_http_connector(Connector(client()?))
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_access_key_id(&config.access_key_id)
            .with_secret_access_key(config.secret_access_key.expose())
            .with_virtual_hosted_style_request(!config.path_style)
            .with_retry(RetryConfig {
                max_retries: 3,
                retry_timeout: Duration::from_secs(30),
                ..RetryConfig::default()
            });
        if let Some(token) = &config.session_token {
            builder = builder.with_token(token.expose());
        }
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let store = builder.build()?;
        Ok(Self { store: Arc::new(store), prefix: config.prefix.trim_matches('/').to_owned() })
    }

    /// Whether the store lets us in: lists one thing.
    pub async fn check(&self) -> Result<(), BackendError> {
        let mut listed = self.store.list(self.folder("")?.as_ref());
        match listed.next().await {
            Some(Err(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn path(&self, at: &Location) -> Result<Path, BackendError> {
        let path = match &*self.prefix {
            "" => at.path(),
            prefix => format!("{prefix}/{}", at.path()),
        };
        if path.len() > LONGEST_PATH {
            return Err(BackendError::Store(format!("the key is longer than {LONGEST_PATH} bytes")));
        }
        parse(&path)
    }

    /// A folder below the prefix; none for the root of the store.
    pub(super) fn folder(&self, name: &str) -> Result<Option<Path>, BackendError> {
        let path = format!("{}/{name}", self.prefix);
        match path.trim_matches('/') {
            "" => Ok(None),
            path => parse(path).map(Some),
        }
    }

    fn found(&self, project: &ProjectRef, path: &Path, size: u64, modified: i64) -> Option<Found> {
        let own = match &*self.prefix {
            "" => path.as_ref(),
            prefix => path.as_ref().strip_prefix(prefix)?.strip_prefix('/')?,
        };
        let names: Vec<&str> = own.split('/').collect();
        let [first, bucket, key @ .., file] = &names[..] else { return None };
        if *first != project.as_str() {
            return None;
        }
        Some(Found {
            location: Location {
                project: project.clone(),
                bucket: BucketId::parse(bucket)?,
                key: key_of_folders(key.iter().copied())?,
                version: version_of_file(file)?,
            },
            size,
            modified,
        })
    }

    pub(super) async fn write(&self, path: &Path, size: u64, mut body: FileOrBytes) -> Result<(), BackendError> {
        if size <= SINGLE {
            let mut pieces = Vec::new();
            while let Some(piece) = body.next().await? {
                pieces.push(piece);
            }
            self.store.put(path, PutPayload::from_iter(pieces)).await?;
            return Ok(());
        }
        let part = usize::try_from(LEAST_PART.max(size / MOST_PARTS)).unwrap_or(usize::MAX);
        let upload = self.store.put_multipart(path).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, part);
        loop {
            let piece = match body.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    writer.abort().await?;
                    return Err(error);
                }
            };
            if let Err(error) = writer.wait_for_capacity(PARTS_AT_ONCE).await {
                writer.abort().await?;
                return Err(error.into());
            }
            writer.put(piece);
        }
        writer.finish().await?;
        Ok(())
    }

    pub(super) async fn open_whole(&self, path: &Path, range: Option<Range<u64>>) -> Result<Body, BackendError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let got = self.store.get_opts(path, options).await?;
        Ok(Body::from_stream(got.into_stream()))
    }
}

/// Where a content is written from.
pub(super) enum FileOrBytes {
    Body(Body),
    /// A file, and what comes behind it.
    Staged(Option<FileBody>, std::vec::IntoIter<bytes::Bytes>),
}

impl FileOrBytes {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, BackendError> {
        let frame = match self {
            Self::Body(body) => body.frame().await.map(|frame| frame.map_err(std::io::Error::other)),
            Self::Staged(file, rest) => {
                let frame = match file {
                    Some(file) => file.frame().await,
                    None => None,
                };
                match frame {
                    None => {
                        *file = None;
                        return Ok(rest.next());
                    }
                    Some(frame) => Some(frame),
                }
            }
        };
        frame.map(|frame| Ok(frame?.into_data().unwrap_or_default())).transpose()
    }
}

pub(super) fn parse(path: &str) -> Result<Path, BackendError> {
    Path::parse(path).map_err(|error| BackendError::Store(error.to_string()))
}

impl From<object_store::Error> for BackendError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            other => Self::Store(web::error::chain(&other)),
        }
    }
}

impl Backend for S3Backend {
    fn put<'a>(&'a self, staged: StagedFile, to: &'a Location) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let path = self.path(to)?;
            let size = staged.size();
            let readable = staged.into_readable().await?;
            let file = readable.file.map(|file| FileBody::new(file, 0..readable.written));
            let from = FileOrBytes::Staged(file, readable.rest.into_iter());
            // `readable.temporary` removes the file when all is done.
            self.write(&path, size, from).await
        })
    }

    fn open<'a>(&'a self, at: &'a Location, range: Range<u64>) -> BoxFuture<'a, Result<Body, BackendError>> {
        Box::pin(async move { self.open_whole(&self.path(at)?, Some(range)).await })
    }

    fn size<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>> {
        Box::pin(async move { Ok(self.store.head(&self.path(at)?).await?.size) })
    }

    fn copy<'a>(&'a self, from: &'a Location, to: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>> {
        Box::pin(async move {
            let (from, to) = (self.path(from)?, self.path(to)?);
            let size = self.store.head(&from).await?.size;
            if size <= LARGEST_COPY {
                self.store.copy(&from, &to).await?;
                return Ok(size);
            }
            let body = self.open_whole(&from, None).await?;
            self.write(&to, size, FileOrBytes::Body(body)).await?;
            Ok(size)
        })
    }

    fn remove<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>> {
        Box::pin(async move {
            // What no key can be is not there; one such entry must not keep those behind it.
            let Ok(path) = self.path(at) else { return Ok(0) };
            // Stores do not tell what a removal removed.
            let bytes = match self.store.head(&path).await {
                Ok(meta) => meta.size,
                Err(object_store::Error::NotFound { .. }) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
            match self.store.delete(&path).await {
                Ok(()) => Ok(bytes),
                Err(object_store::Error::NotFound { .. }) => Ok(0),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn bytes<'a>(&'a self, project: &'a ProjectRef) -> BoxFuture<'a, Result<u64, BackendError>> {
        Box::pin(async move {
            let listed = self.store.list(self.folder(project.as_str())?.as_ref());
            let bytes =
                listed.try_fold(0_u64, |bytes, meta| async move { Ok(bytes.saturating_add(meta.size)) }).await?;
            Ok(bytes)
        })
    }

    fn list<'a>(&'a self, project: &'a ProjectRef, from: Option<String>) -> BoxFuture<'a, Result<Page, BackendError>> {
        Box::pin(async move {
            let folder = self.folder(project.as_str())?;
            let mut listed = match from {
                Some(from) => self.store.list_with_offset(folder.as_ref(), &parse(&from)?),
                None => self.store.list(folder.as_ref()),
            };
            let (mut page, mut seen) = (Page::default(), 0);
            while let Some(meta) = listed.try_next().await? {
                seen += 1;
                let modified = meta.last_modified.timestamp();
                page.found.extend(self.found(project, &meta.location, meta.size, modified));
                if seen == PAGE {
                    page.next = Some(meta.location.to_string());
                    break;
                }
            }
            Ok(page)
        })
    }

    fn projects(&self) -> BoxFuture<'_, Result<Vec<ProjectRef>, BackendError>> {
        Box::pin(async move {
            let listed = self.store.list_with_delimiter(self.folder("")?.as_ref()).await?;
            let names = listed.common_prefixes.iter().filter_map(|path| path.filename());
            Ok(names.filter_map(|name| ProjectRef::parse(name).ok()).collect())
        })
    }

    fn remove_project<'a>(&'a self, project: &'a ProjectRef) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let listed = self.store.list(self.folder(project.as_str())?.as_ref()).map_err(BackendError::from);
            listed
                .try_for_each_concurrent(REMOVALS_AT_ONCE, |meta| async move {
                    match self.store.delete(&meta.location).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                        Err(error) => Err(error.into()),
                    }
                })
                .await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ObjectKey, Version};

    /// A row that SQL made may name what no store takes; its removal must not hold up those behind it.
    #[tokio::test]
    async fn what_cannot_be_a_key_is_gone_already() {
        let store = S3Backend::open(&S3Config {
            bucket: "b".to_owned(),
            // Nobody is asked.
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            region: "us-east-1".to_owned(),
            access_key_id: "x".to_owned(),
            secret_access_key: Secret::new("x".to_owned()),
            session_token: None,
            path_style: true,
            prefix: "p".to_owned(),
        });
        let at = Location {
            project: ProjectRef::parse("proj_abc").unwrap(),
            bucket: BucketId::parse("b").unwrap(),
            key: ObjectKey::parse(&"x".repeat(1_020)).unwrap(),
            version: Version::generate(),
        };
        assert_eq!(store.unwrap().remove(&at).await.unwrap(), 0);
    }
}
