//! Internal services that other processes of the installation call with the internal key: `POST /internal/migrations/run`
//! brings a project's database up to the present baseline (contracts, section 5).

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base::{ProjectRef, Secret};
use http::StatusCode;
use serde_json::{Value, json};
use web::internal_key;

use crate::error::Error;
use crate::platform::Platform;
use crate::provision::ProvisionError;
use crate::provision::upgrade::UpgradeReport;
use crate::request::Fields;
use crate::rotation::InternalKeys;

impl Platform {
    /// Everything below `/internal`; whoever calls it has to know `key`, or the one it was replaced by or replaces.
    pub fn internal_router(&self, key: Secret<String>) -> Router {
        self.internal_keys().add_first(key);
        Router::new()
            .route("/internal/migrations/run", post(run_migrations))
            .method_not_allowed_fallback(|| async { Error::MethodNotAllowed })
            .layer(middleware::from_fn_with_state(self.internal_keys().clone(), check_key))
            .with_state(self.clone())
    }
}

async fn check_key(State(keys): State<InternalKeys>, request: Request, next: Next) -> Response {
    let given = internal_key::HEADERS.iter().find_map(|name| request.headers().get(*name));
    if given.is_some_and(|given| keys.accept(given.as_bytes())) {
        next.run(request).await
    } else {
        Error::WrongInternalKey.into_response()
    }
}

async fn run_migrations(State(platform): State<Platform>, mut fields: Fields) -> Result<Response, Error> {
    let id = fields.required_text("project_id", 45);
    let id = ProjectRef::parse(&id).map_err(|error| fields.refuse("project_id", error.to_string()));
    fields.finish()?;
    let Ok(id) = id else { return Err(Error::NoSuchProject) };
    let provisioner = platform.provisioner().clone();
    let asked = id.clone();
    let report = platform.to_the_end(async move { provisioner.upgrade_reported(&asked).await }).await?;
    match report {
        Ok(report) => Ok(Json(view(&id, &report, None)).into_response()),
        Err((error @ ProvisionError::Database(_), Some(report))) => {
            tracing::error!(project.ref = %id, cause = %web::error::chain(&error), "a project cannot be upgraded");
            let failed = report.failed.unwrap_or("the project's database");
            let body = view(&id, &report, Some((failed, &error.to_string())));
            Ok((StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response())
        }
        Err((error, _)) => Err(error.into()),
    }
}

fn view(id: &ProjectRef, report: &UpgradeReport, failed: Option<(&str, &str)>) -> Value {
    let mut results: Vec<Value> = report
        .files
        .iter()
        .map(|file| {
            let milliseconds = file.took.map_or(0, |took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            json!({
                "name": file.name, "checksum": file.checksum, "executed": file.took.is_some(), "duration_ms": milliseconds,
            })
        })
        .collect();
    if let Some((name, error)) = failed {
        results.push(json!({ "name": name, "checksum": null, "executed": false, "duration_ms": 0, "error": error }));
    }
    let applied = report.files.iter().filter(|file| file.took.is_some()).count();
    let status = match (failed, applied) {
        (Some(_), _) => "failed",
        (None, 0) => "no_changes",
        (None, _) => "success",
    };
    json!({
        "project_id": id,
        "migrations_applied": applied,
        "migrations_skipped": report.files.len() - applied,
        "total_duration_ms": u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
        "status": status,
        "results": results,
    })
}
