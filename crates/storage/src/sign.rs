//! Links that carry a right of their own: a token for one object of one project, until a time. It is signed with a key
//! derived from the project's JWT secret, so that it is no user's token, counts nowhere else, and dies with the secret.

use axum::body::Body;
use axum::response::Response;
use base::jwt::{JwtKey, JwtKeys, sign_hs256};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::body::decoded_metadata;
use crate::content::ContentInfo;
use crate::database::Session;
use crate::download;
use crate::error::Error;
use crate::key::{BucketId, ObjectKey};
use crate::render::Transform;
use crate::request::{Cx, json as json_answer, read_json};
use crate::route::ObjectPath;
use crate::store;
use crate::store::object::{self, Overwrite};
use crate::upload::{Permit, Target, receive};

/// Seconds that a link for an upload counts, as Supabase documents.
const UPLOAD_SECONDS: i64 = 2 * 3600;
/// What the key that links are signed with is derived for; it ends with the project's JWT secret.
pub(crate) const PURPOSE: &str = "storage: links";
/// Longest a link counts, in seconds: a century.
const LONGEST: i64 = 100 * 366 * 86_400;
/// Names in one request.
const MOST_PATHS: usize = 1_000;

const DOWNLOAD: &str = "download";
const UPLOAD: &str = "upload";
/// The claim that says how an image is transformed.
const TRANSFORM: &str = "transformations";

/// Clients in Python send the number as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(i64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignParams {
    expires_in: Option<Seconds>,
    paths: Option<Vec<String>>,
    transform: Option<Map<String, Value>>,
}

impl SignParams {
    fn seconds(&self, cx: &Cx) -> Result<i64, Error> {
        let seconds = match &self.expires_in {
            None => i64::try_from(cx.shared.config.signed_url_ttl).ok(),
            Some(Seconds::Number(seconds)) => Some(*seconds),
            Some(Seconds::Text(text)) => text.trim().parse().ok(),
        };
        seconds
            .filter(|seconds| (1..=LONGEST).contains(seconds))
            .ok_or_else(|| Error::InvalidRequest("body/expiresIn must be a number of seconds from 1".into()))
    }
}

fn token(cx: &Cx, mut claims: Value, seconds: i64) -> Result<String, Error> {
    let key = cx.project.signing.derive(PURPOSE);
    let now = cx.shared.config.clock.unix_seconds();
    claims["iat"] = now.into();
    claims["exp"] = now.saturating_add(seconds).into();
    Ok(sign_hs256(&key, &claims))
}

/// The claims of a token for `at` and `scope`.
fn check(cx: &Cx, token: &str, at: &ObjectPath, scope: &str) -> Result<Map<String, Value>, Error> {
    // Links outlive a change of the project's secret, unless that ended what was issued before.
    let keys = cx.project.signing.derive_all(PURPOSE);
    let claims = JwtKeys::new(keys.iter().map(|key| JwtKey::secret(key)).collect())
        .verify_signature(token)
        .map_err(|_| Error::InvalidJwt("signature verification failed"))?;
    if claims.text("scope") != Some(scope) {
        return Err(Error::InvalidSignature("The token is for something else"));
    }
    if claims.text("url") != Some(&*format!("{}/{}", at.bucket, at.key)) {
        return Err(Error::InvalidSignature("Invalid signature"));
    }
    let expires = claims.seconds("exp").ok_or(Error::InvalidJwt("the token does not say when it expires"))?;
    if expires < cx.shared.config.clock.unix_seconds() {
        return Err(Error::ExpiredToken);
    }
    Ok((*claims.map).clone())
}

/// Checks the token in the query; tells when it expires, in Unix seconds.
pub(crate) fn check_download(cx: &Cx, at: &ObjectPath) -> Result<i64, Error> {
    let token = cx
        .query("token")
        .ok_or_else(|| Error::InvalidRequest("querystring must have required property 'token'".into()))?;
    let claims = check(cx, &token, at, DOWNLOAD)?;
    if claims.contains_key(TRANSFORM) {
        return Err(Error::InvalidSignature("The token is for a transformed image"));
    }
    Ok(claims.get("exp").and_then(Value::as_i64).unwrap_or_default())
}

/// The right that a token for a transformed image gives.
pub(crate) struct RenderRight {
    /// Unix seconds.
    pub(crate) expires: i64,
    pub(crate) transform: String,
}

/// Checks the token in the query of a transformed image. A token for the original is good for what is made of it, too.
pub(crate) fn check_render(cx: &Cx, at: &ObjectPath) -> Result<RenderRight, Error> {
    let token = cx
        .query("token")
        .ok_or_else(|| Error::InvalidRequest("querystring must have required property 'token'".into()))?;
    let claims = check(cx, &token, at, DOWNLOAD)?;
    Ok(RenderRight {
        expires: claims.get("exp").and_then(Value::as_i64).unwrap_or_default(),
        transform: claims.get(TRANSFORM).and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}

/// The right that a token for an upload gives.
pub(crate) struct UploadRight {
    pub(crate) owner: Option<String>,
    pub(crate) upsert: bool,
}

pub(crate) fn check_upload(cx: &Cx, token: &str, at: &ObjectPath) -> Result<UploadRight, Error> {
    let claims = check(cx, token, at, UPLOAD)?;
    Ok(UploadRight {
        owner: claims.get("owner").and_then(Value::as_str).map(str::to_owned),
        upsert: claims.get("upsert").and_then(Value::as_bool).unwrap_or_default(),
    })
}

pub(crate) async fn sign_url(cx: &Cx, at: &ObjectPath, body: Body) -> Result<Response, Error> {
    let params: SignParams = read_json(cx, body).await?;
    let seconds = params.seconds(cx)?;
    let transform = match params.transform.as_ref().filter(|transform| !transform.is_empty()) {
        None => None,
        Some(_) if !cx.project.storage.features.image_transformation_enabled() => {
            return Err(Error::FeatureNotEnabled("imageTransformation"));
        }
        Some(transform) => Some(Transform::of_json(transform)?),
    };
    if download::find_as_caller(cx, &at.bucket, &at.key, "storage.object.sign").await?.is_none() {
        return Err(Error::NoSuchKey);
    }
    let url = match transform {
        None => signed_url(cx, &at.bucket, at.key.as_str(), seconds)?,
        Some(transform) => {
            let url = format!("{}/{}", at.bucket, at.key);
            let claims = json!({"url": url, "scope": DOWNLOAD, TRANSFORM: transform.text()});
            format!("/render/image/sign/{url}?token={}", token(cx, claims, seconds)?)
        }
    };
    json_answer(&json!({"signedURL": url}))
}

fn signed_url(cx: &Cx, bucket: &BucketId, key: &str, seconds: i64) -> Result<String, Error> {
    let token = token(cx, json!({"url": format!("{bucket}/{key}"), "scope": DOWNLOAD}), seconds)?;
    Ok(format!("/object/sign/{bucket}/{key}?token={token}"))
}

pub(crate) async fn sign_urls(cx: &Cx, bucket: &BucketId, body: Body) -> Result<Response, Error> {
    let params: SignParams = read_json(cx, body).await?;
    let seconds = params.seconds(cx)?;
    let paths = params.paths.unwrap_or_default();
    if paths.is_empty() || paths.len() > MOST_PATHS {
        return Err(Error::InvalidRequest(format!("body/paths must have from 1 to {MOST_PATHS} items").into()));
    }
    // What cannot be a key is not there.
    let keys: Vec<&str> = paths.iter().map(String::as_str).filter(|path| ObjectKey::parse(path).is_some()).collect();
    let query = object::objects_find(bucket, keys);
    let rows = cx.database.read(&cx.session("storage.object.sign_many"), vec![query]).await?;
    let found: Vec<String> = match rows.first().and_then(|rows| rows.rows.first()) {
        Some(row) => store::json(row, 0)?.unwrap_or_default(),
        None => Vec::new(),
    };
    let found: std::collections::HashSet<String> = found.into_iter().collect();
    let mut answer = Vec::with_capacity(paths.len());
    for path in &paths {
        answer.push(if found.contains(path) {
            json!({"error": null, "path": path, "signedURL": signed_url(cx, bucket, path, seconds)?})
        } else {
            json!({
                "error": "Either the object does not exist or you do not have access to it",
                "path": path,
                "signedURL": null,
            })
        });
    }
    json_answer(&answer)
}

pub(crate) async fn sign_upload_url(cx: &Cx, at: &ObjectPath) -> Result<Response, Error> {
    let upsert = cx.wants_upsert();
    let overwrite = Overwrite::if_wanted(upsert);
    let user_metadata = cx.header("x-metadata").and_then(decoded_metadata);
    let permit = Permit {
        at,
        overwrite: &overwrite,
        owner: cx.owner.as_deref(),
        info: &ContentInfo::new("application/octet-stream", "no-cache"),
        user_metadata: user_metadata.as_ref(),
        length: None,
    };
    permit.ask(&cx.database, &cx.session("storage.object.sign_upload_url")).await.map_err(|error| match error {
        Error::RelatedMissing => Error::NoSuchBucket,
        other => other,
    })?;
    let path = format!("{}/{}", at.bucket, at.key);
    let claims = json!({"url": path, "scope": UPLOAD, "upsert": upsert, "owner": cx.owner});
    let token = token(cx, claims, UPLOAD_SECONDS)?;
    json_answer(&json!({"url": format!("/object/upload/sign/{path}?token={token}"), "token": token}))
}

pub(crate) async fn upload_signed(cx: &Cx, at: ObjectPath, body: Body) -> Result<Response, Error> {
    let token = cx
        .query("token")
        .ok_or_else(|| Error::InvalidRequest("querystring must have required property 'token'".into()))?;
    let right = check_upload(cx, &token, &at)?;
    let key = format!("{}/{}", at.bucket, at.key);
    // The policies said yes when the link was made.
    let session = Session::admin("storage.object.upload_signed");
    receive(cx, Target { at, overwrite: Overwrite::if_wanted(right.upsert), owner: right.owner, session }, body)
        .await?;
    json_answer(&json!({"Key": key}))
}
