//! Extensions of a project's database: which there are, and those that only the server can install.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::IntoResponse;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};

use crate::error::Error;
use crate::platform::Platform;
use crate::provision::OFFERED_EXTENSIONS;
use crate::request::{Fields, ProjectCx, path_param};
use crate::{sql, store};

/// The `extension` of a path.
pub(crate) struct ExtensionName(String);

impl FromRequestParts<Platform> for ExtensionName {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, Error> {
        let name = path_param(parts, platform, "extension").await.filter(|name| is_offered(name));
        name.map(Self).ok_or(Error::NoSuchExtension)
    }
}

fn is_offered(name: &str) -> bool {
    OFFERED_EXTENSIONS.contains(&name)
}

pub(crate) async fn list_extensions(cx: ProjectCx) -> Result<Json<Value>, Error> {
    Ok(Json(json!({ "extensions": extensions(&cx).await? })))
}

/// What the server has: what the owner installs by SQL, and what is installed here.
async fn extensions(cx: &ProjectCx) -> Result<Vec<Value>, Error> {
    cx.require_active()?;
    let result = sql::run_own(cx, store::extension::EXTENSIONS).await?;
    let rows = result.statements.last().map(|statement| statement.rows.as_slice()).unwrap_or_default();
    let views = rows.iter().filter_map(|row| {
        let text = |column: usize| row.get(column).cloned().flatten();
        let (name, by_sql) = (text(0)?, text(1).as_deref() == Some("t"));
        let (version, installed_version) = (text(2), text(3));
        if !by_sql && !is_offered(&name) && installed_version.is_none() {
            return None;
        }
        Some(json!({
            "install": if by_sql { "sql" } else { "api" },
            "name": name,
            "version": version,
            "installed_version": installed_version,
            "schema": text(4),
            "comment": text(5),
        }))
    });
    Ok(views.collect())
}

pub(crate) async fn install_extension(cx: ProjectCx, mut fields: Fields) -> Result<impl IntoResponse, Error> {
    let name = fields.required_text("name", 63);
    if !name.is_empty() && !is_offered(&name) {
        let offered = OFFERED_EXTENSIONS.join(", ");
        fields.refuse("name", format!("must be one of {offered}; others are made with SQL: create extension"));
    }
    fields.finish()?;
    cx.require_active()?;
    let provisioner = cx.platform().provisioner().on_behalf_of(cx.caller.actor());
    let (id, wanted) = (cx.project_ref.clone(), name.clone());
    cx.platform().to_the_end(async move { provisioner.extension_install(&id, &wanted).await }).await??;
    let present = extensions(&cx).await?.into_iter().find(|extension| extension["name"] == name.as_str());
    Ok((StatusCode::CREATED, Json(present.unwrap_or(Value::Null))))
}

pub(crate) async fn remove_extension(cx: ProjectCx, ExtensionName(name): ExtensionName) -> Result<StatusCode, Error> {
    cx.require_active()?;
    let provisioner = cx.platform().provisioner().on_behalf_of(cx.caller.actor());
    let id = cx.project_ref.clone();
    cx.platform().to_the_end(async move { provisioner.extension_remove(&id, &name).await }).await??;
    Ok(StatusCode::NO_CONTENT)
}
