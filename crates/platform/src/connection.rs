//! How to reach a project: the one place where its owner sees keys and passwords whole.

use axum::Json;
use axum::response::IntoResponse;
use base::Secret;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::config::Address;
use crate::error::Error;
use crate::request::ProjectCx;
use crate::secrets::{self, kind};
use crate::store;

/// What a password keeps as it is inside a URI (RFC 3986, "unreserved").
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Serialize)]
pub(crate) struct ConnectionView {
    project_id: String,
    db_uri: String,
    db_uri_pooler: Option<String>,
    anon_key: Option<String>,
    service_role_key: Option<String>,
    publishable_key: Option<String>,
    secret_key: Option<String>,
    /// Signs and verifies the project's tokens (HS256); what applications with users of their own need.
    jwt_secret: Option<String>,
    api_url: String,
    postgrest_url: String,
    auth_url: String,
    storage_url: String,
    /// Why a field is null.
    #[serde(skip_serializing_if = "Notes::is_empty")]
    notes: Notes,
}

#[derive(Serialize)]
struct Notes {
    #[serde(skip_serializing_if = "Option::is_none")]
    db_uri_pooler: Option<&'static str>,
}

impl Notes {
    fn is_empty(&self) -> bool {
        self.db_uri_pooler.is_none()
    }
}

/// `postgresql://user:password@host:port/database`.
fn database_uri(address: &Address, name: &str, password: &Secret<String>) -> String {
    let password = utf8_percent_encode(password.expose(), UNRESERVED);
    let host = if address.host.contains(':') {
        // An IPv6 address.
        format!("[{}]", address.host)
    } else {
        utf8_percent_encode(&address.host, UNRESERVED).to_string()
    };
    format!("postgresql://{name}:{password}@{host}:{}/{name}", address.port)
}

pub(crate) async fn get_connection(cx: ProjectCx) -> Result<impl IntoResponse, Error> {
    cx.require_present()?;
    let config = cx.platform().config();
    let secrets = {
        let db = cx.platform().db().await?;
        store::secret::secret_map(&**db, cx.project_ref.as_str()).await?
    };
    let open = |kind: &str| {
        secrets::open_kind(&config.master_key, &cx.project_ref, &secrets, kind)
            .map_err(|error| Error::Internal(error.into()))
    };
    let Some(password) = open(kind::DB_PASSWORD)? else {
        return Err(Error::WrongStatus(cx.project.status.name().to_owned()));
    };
    let text = |kind: &str| open(kind).map(|secret| secret.map(|secret| secret.expose().clone()));
    let id = cx.project_ref.as_str();
    let api_url = config.api_url(&cx.project_ref);
    let pooler = config.pooler_address.as_ref();
    let view = ConnectionView {
        project_id: id.to_owned(),
        db_uri: database_uri(&config.database_address, id, &password),
        db_uri_pooler: pooler.map(|address| database_uri(address, id, &password)),
        anon_key: text(kind::ANON_KEY)?,
        service_role_key: text(kind::SERVICE_ROLE_KEY)?,
        publishable_key: text(kind::PUBLISHABLE_KEY)?,
        secret_key: text(kind::SECRET_KEY)?,
        jwt_secret: text(kind::JWT_SECRET)?,
        postgrest_url: format!("{api_url}/rest/v1"),
        auth_url: format!("{api_url}/auth/v1"),
        storage_url: format!("{api_url}/storage/v1"),
        api_url,
        notes: Notes {
            db_uri_pooler: pooler.is_none().then_some("no pooler is configured on this server; use db_uri"),
        },
    };
    // Passwords stay out of every cache on the way.
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(view)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_cannot_break_the_uri() {
        let address = |host: &str| Address { host: host.into(), port: 5432 };
        let password = Secret::new("a@b:c/d?e#f%g h".to_owned());
        assert_eq!(
            database_uri(&address("db.example"), "proj_abc", &password),
            "postgresql://proj_abc:a%40b%3Ac%2Fd%3Fe%23f%25g%20h@db.example:5432/proj_abc"
        );
        let plain = Secret::new("x".to_owned());
        assert_eq!(database_uri(&address("::1"), "proj_abc", &plain), "postgresql://proj_abc:x@[::1]:5432/proj_abc");
    }
}
