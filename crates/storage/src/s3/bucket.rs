//! Buckets over S3. The caller's policies on `storage.buckets` decide.

use axum::response::Response;
use http::{HeaderName, StatusCode};
use serde::{Deserialize, Serialize};

use super::error::S3Error;
use super::payload::Payload;
use super::{REGION, S3Cx, empty, timestamp, xml};
use crate::bucket as rest;
use crate::error::Error;
use crate::key::{BucketId, is_uuid};
use crate::request::set;
use crate::store;
use crate::store::bucket::{self as rows, BucketFields};

const MOST_BUCKETS: u64 = 10_000;

#[derive(Deserialize)]
struct Row {
    id: String,
    created: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BucketElement {
    name: String,
    creation_date: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Buckets {
    #[serde(rename = "Bucket")]
    buckets: Vec<BucketElement>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListAllMyBuckets {
    owner: Owner,
    buckets: Buckets,
    prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Owner {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "DisplayName")]
    display_name: String,
}

impl Owner {
    pub(crate) fn of(s3: &S3Cx) -> Self {
        let name = s3.cx.project.project_ref.as_str().to_owned();
        Self { id: name.clone(), display_name: name }
    }
}

pub(super) async fn list_buckets(s3: &S3Cx) -> Result<Response, S3Error> {
    let limit = match s3.query("max-buckets").map(|text| text.parse::<u64>()) {
        None => MOST_BUCKETS,
        Some(Ok(limit)) if (1..=MOST_BUCKETS).contains(&limit) => limit,
        Some(_) => return Err(S3Error::InvalidArgument("max-buckets must be a number from 1 to 10000")),
    };
    let prefix = s3.query("prefix").unwrap_or_default();
    let after = s3.query("continuation-token").unwrap_or_default();
    let statement = rows::bucket_page(&prefix, &after, limit + 1);
    let list = s3.cx.database.read(&s3.cx.session(s3.operation), vec![statement]).await?;
    let mut list: Vec<Row> = match list.first().and_then(|rows| rows.rows.first()) {
        Some(row) => store::json(row, 0)?.unwrap_or_default(),
        None => Vec::new(),
    };
    let more = list.len() as u64 > limit;
    list.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let continuation_token = list.last().filter(|_| more).map(|row| row.id.clone());
    let buckets = list.into_iter().map(|row| BucketElement { name: row.id, creation_date: timestamp(row.created) });
    let content = ListAllMyBuckets {
        owner: Owner::of(s3),
        buckets: Buckets { buckets: buckets.collect() },
        prefix,
        continuation_token,
    };
    xml::answer("ListAllMyBucketsResult", &content)
}

/// The caller may see a bucket.
pub(super) async fn check_visible(s3: &S3Cx, id: &BucketId) -> Result<(), S3Error> {
    let statement = rows::bucket_view(id);
    let rows = s3.cx.database.read(&s3.cx.session(s3.operation), vec![statement]).await?;
    match rows.first().is_some_and(|rows| !rows.rows.is_empty()) {
        true => Ok(()),
        false => Err(Error::NoSuchBucket.into()),
    }
}

pub(super) async fn head_bucket(s3: &S3Cx, id: &BucketId) -> Result<Response, S3Error> {
    check_visible(s3, id).await?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, HeaderName::from_static("x-amz-bucket-region"), REGION);
    Ok(response)
}

pub(super) async fn create_bucket(s3: &S3Cx, id: &BucketId, payload: Payload) -> Result<Response, S3Error> {
    #[derive(Deserialize)]
    struct Configuration {}
    // S3's own names are narrower; a bucket of such a name must be reachable everywhere.
    if id.as_str().trim() != id.as_str() {
        return Err(S3Error::InvalidBucketName);
    }
    let body = payload.read(&s3.cx).await?;
    if !body.is_empty() {
        let Configuration {} = xml::read(&body)?;
    }
    let owner = s3.cx.owner.as_deref();
    let fields = BucketFields::default();
    let insert = rows::bucket_insert(id.as_str(), id.as_str(), owner, owner.filter(|owner| is_uuid(owner)), &fields);
    match s3.cx.database.write(&s3.cx.session(s3.operation), vec![insert]).await {
        Ok(_) => {}
        Err(Error::AlreadyExists) => return Err(S3Error::BucketAlreadyExists),
        Err(error) => return Err(error.into()),
    }
    let mut response = empty(StatusCode::OK);
    set(&mut response, http::header::LOCATION, &format!("/{id}"));
    Ok(response)
}

pub(super) async fn delete_bucket(s3: &S3Cx, id: &BucketId) -> Result<Response, S3Error> {
    rest::delete_bucket(&s3.cx, id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn get_bucket_location(s3: &S3Cx, id: &BucketId) -> Result<Response, S3Error> {
    #[derive(Serialize)]
    struct Nothing {}
    check_visible(s3, id).await?;
    // S3's way to say us-east-1.
    xml::answer("LocationConstraint", &Nothing {})
}

pub(super) async fn get_bucket_versioning(s3: &S3Cx, id: &BucketId) -> Result<Response, S3Error> {
    #[derive(Serialize)]
    struct Nothing {}
    check_visible(s3, id).await?;
    xml::answer("VersioningConfiguration", &Nothing {})
}
