//! The manager's API (contracts, section 5).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base::{ProjectRef, Secret};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use web::internal_key;

use crate::error::Error;
use crate::fleet::{Fleet, View};

/// Longest body that is read.
const BODY: usize = 16 * 1024;

#[derive(Clone)]
struct Keys(Arc<[Secret<String>]>);

/// Everything below `/internal/postgrest`; whoever calls it has to know one of the keys.
pub fn router(fleet: Fleet, keys: Vec<Secret<String>>) -> Router {
    Router::new()
        .route("/internal/postgrest", get(list))
        .route("/internal/postgrest/spawn", post(spawn))
        .route("/internal/postgrest/{id}/restart", post(restart))
        .route("/internal/postgrest/{id}", get(show).delete(delete))
        .method_not_allowed_fallback(|| async { Error::Method })
        .fallback(|| async { Error::NoRoute })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn_with_state(Keys(keys.into()), check_key))
        .with_state(fleet)
}

async fn check_key(State(keys): State<Keys>, request: Request, next: Next) -> Response {
    match internal_key::is_right(request.headers(), &keys.0) {
        true => next.run(request).await,
        false => Error::WrongKey.into_response(),
    }
}

fn parse(id: &str) -> Result<ProjectRef, Error> {
    ProjectRef::parse(id).map_err(|error| Error::BadId(format!("projectId: {error}")))
}

fn view(view: &View) -> Value {
    let mut out = json!({
        "projectId": view.id,
        "containerId": view.container_id,
        "containerName": view.container_name,
        "host": view.host,
        "port": view.port,
        "status": view.status.name(),
        "restarts": view.restarts,
    });
    if let Some(problem) = &view.problem {
        out["problem"] = problem.as_str().into();
    }
    out
}

async fn list(State(fleet): State<Fleet>) -> Json<Value> {
    Json(json!({ "containers": fleet.list().iter().map(view).collect::<Vec<_>>() }))
}

async fn show(State(fleet): State<Fleet>, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let id = parse(&id)?;
    let found = fleet.list().into_iter().find(|view| view.id == id);
    found.map(|found| Json(view(&found))).ok_or(Error::NotRunning(id))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpawnParams {
    project_id: String,
}

async fn spawn(State(fleet): State<Fleet>, body: Bytes) -> Result<Response, Error> {
    let params: SpawnParams = serde_json::from_slice(&body).map_err(|_| Error::Body)?;
    let id = parse(&params.project_id)?;
    let made = fleet.clone().to_the_end(async move { fleet.spawn(&id).await }).await?;
    Ok((StatusCode::CREATED, Json(view(&made))).into_response())
}

async fn restart(State(fleet): State<Fleet>, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let id = parse(&id)?;
    fleet.clone().to_the_end(async move { fleet.reload(&id).await }).await.map(|reloaded| Json(view(&reloaded)))
}

async fn delete(State(fleet): State<Fleet>, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let id = parse(&id)?;
    let asked = id.clone();
    fleet.clone().to_the_end(async move { fleet.delete(&asked).await }).await?;
    Ok(Json(json!({ "projectId": id, "status": "stopped" })))
}
