//! Projects: make, list, show, rename, suspend, resume, delete, restore.

use axum::Json;
use axum::response::IntoResponse;
use base::{ProjectRef, ProjectStatus};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::platform::Platform;
use crate::provision::{NewProject, ProvisionError};
use crate::request::{Fields, OwnerCx, ProjectCx, QueryFields};
use crate::store;
use crate::store::project::Project;
use crate::timestamp::Timestamp;

/// Longest name of a project, in characters.
const LONGEST_NAME: usize = 100;
/// Projects on one page.
const PAGE: i64 = 100;
const MOST_PER_PAGE: i64 = 1000;

#[derive(Serialize)]
pub(crate) struct ProjectView {
    id: String,
    name: String,
    status: ProjectStatus,
    /// Why provisioning failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    api_url: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    /// Until when a deleted project can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    purge_after: Option<Timestamp>,
}

impl ProjectView {
    fn new(platform: &Platform, project: Project) -> Self {
        let api_url = ProjectRef::parse(&project.id).map(|id| platform.config().api_url(&id)).unwrap_or_default();
        Self {
            id: project.id,
            name: project.name,
            status: project.status,
            failure: project.failure,
            api_url,
            created_at: project.created_at,
            updated_at: project.updated_at,
            deleted_at: project.deleted_at,
            purge_after: project.purge_after,
        }
    }
}

impl From<ProvisionError> for Error {
    fn from(error: ProvisionError) -> Self {
        match error {
            ProvisionError::NameTaken => Self::NameTaken,
            ProvisionError::IdTaken => Self::IdTaken,
            ProvisionError::NotFound => Self::NoSuchProject,
            ProvisionError::WrongStatus { status, .. } => Self::WrongStatus(status.name().to_owned()),
            ProvisionError::DiskNearlyFull => Self::DiskNearlyFull,
            ProvisionError::Busy => Self::ProjectBusy,
            ProvisionError::Refused(what) | ProvisionError::Unsupported(what) => Self::Unsupported(what),
            error @ ProvisionError::Database(_) => Self::Unavailable(error.into()),
        }
    }
}

/// A project's name as it is stored, or a problem.
fn read_name(fields: &mut Fields) -> String {
    let name = fields.required_text("name", LONGEST_NAME);
    let trimmed = name.trim();
    if !name.is_empty() && trimmed.is_empty() {
        fields.refuse("name", "must not be blank");
    }
    if trimmed.chars().any(char::is_control) {
        fields.refuse("name", "must not contain control characters");
    }
    trimmed.to_owned()
}

pub(crate) async fn create_project(cx: OwnerCx, mut fields: Fields) -> Result<impl IntoResponse, Error> {
    let name = read_name(&mut fields);
    let id = match fields.text("id", 45).map(|text| ProjectRef::parse(&text)) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(error)) => {
            fields.refuse("id", error.to_string());
            None
        }
    };
    fields.finish()?;
    if id.is_some() && !cx.owner.is_admin {
        return Err(Error::AdminRequired);
    }
    let new = NewProject { owner_id: cx.owner.id.clone(), name, id };
    let provisioner = cx.platform.provisioner().on_behalf_of(cx.actor());
    let project_ref = cx.platform.to_the_end(async move { provisioner.create(new).await }).await??;
    let project = finish(&cx, &project_ref).await?;
    Ok((StatusCode::CREATED, Json(project)))
}

pub(crate) async fn list_projects(cx: OwnerCx, QueryFields(mut query): QueryFields) -> Result<Json<Value>, Error> {
    let include_deleted = query.boolean("include_deleted").unwrap_or(false);
    let limit = query.integer("limit", 1, MOST_PER_PAGE).unwrap_or(PAGE);
    let offset = query.integer("offset", 0, i64::from(i32::MAX)).unwrap_or(0);
    query.finish()?;
    let db = cx.platform.db().await?;
    // One more than asked for shows whether there are more.
    let mut rows = store::project::project_list(&**db, &cx.owner.id, include_deleted, limit + 1, offset).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let next_offset = (rows.len() > wanted).then_some(offset + limit);
    rows.truncate(wanted);
    let projects: Vec<_> = rows.into_iter().map(|row| ProjectView::new(&cx.platform, row)).collect();
    Ok(Json(json!({ "projects": projects, "next_offset": next_offset })))
}

pub(crate) async fn get_project(cx: ProjectCx) -> Json<ProjectView> {
    let platform = cx.platform().clone();
    Json(ProjectView::new(&platform, cx.project))
}

pub(crate) async fn update_project(cx: ProjectCx, mut fields: Fields) -> Result<Json<ProjectView>, Error> {
    let name = read_name(&mut fields);
    fields.finish()?;
    cx.require_present()?;
    let detail = json!({ "name": name, "old_name": cx.project.name });
    let actor = cx.caller.actor();
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    store::project::project_rename(&*tx, &cx.project_ref, &name).await.map_err(|error| {
        if store::violates(&error, store::project::NAME_KEY) { Error::NameTaken } else { error.into() }
    })?;
    store::audit::audit_insert(&*tx, &actor.entry(Some(&cx.project_ref), "project.update", detail)).await?;
    tx.commit().await?;
    drop(db);
    finish(&cx.caller, &cx.project_ref).await.map(Json)
}

pub(crate) async fn delete_project(cx: ProjectCx) -> Result<Json<ProjectView>, Error> {
    let (provisioner, id) = (cx.platform().provisioner().on_behalf_of(cx.caller.actor()), cx.project_ref.clone());
    cx.platform().to_the_end(async move { provisioner.delete(&id).await }).await??;
    finish(&cx.caller, &cx.project_ref).await.map(Json)
}

pub(crate) async fn restore_project(cx: ProjectCx) -> Result<Json<ProjectView>, Error> {
    let (provisioner, id) = (cx.platform().provisioner().on_behalf_of(cx.caller.actor()), cx.project_ref.clone());
    cx.platform().to_the_end(async move { provisioner.restore(&id).await }).await??;
    finish(&cx.caller, &cx.project_ref).await.map(Json)
}

pub(crate) async fn suspend_project(cx: ProjectCx) -> Result<Json<ProjectView>, Error> {
    let (provisioner, id) = (cx.platform().provisioner().on_behalf_of(cx.caller.actor()), cx.project_ref.clone());
    cx.platform().to_the_end(async move { provisioner.suspend(&id).await }).await??;
    finish(&cx.caller, &cx.project_ref).await.map(Json)
}

pub(crate) async fn resume_project(cx: ProjectCx) -> Result<Json<ProjectView>, Error> {
    let (provisioner, id) = (cx.platform().provisioner().on_behalf_of(cx.caller.actor()), cx.project_ref.clone());
    cx.platform().to_the_end(async move { provisioner.resume(&id).await }).await??;
    finish(&cx.caller, &cx.project_ref).await.map(Json)
}

/// Fresh passwords of both login roles; what is connected stays connected.
pub(crate) async fn rotate_database_passwords(cx: ProjectCx) -> Result<impl IntoResponse, Error> {
    cx.require_present()?;
    let (provisioner, id) = (cx.platform().provisioner().on_behalf_of(cx.caller.actor()), cx.project_ref.clone());
    let directory = cx.platform().directory().clone();
    let rotated = async move {
        provisioner.rotate_database_passwords(&id).await?;
        directory.refresh(&id).await
    };
    cx.platform().to_the_end(rotated).await??;
    crate::connection::get_connection(cx).await
}

/// What every change ends with: this process sees it at once, the caller gets the project.
async fn finish(cx: &OwnerCx, id: &ProjectRef) -> Result<ProjectView, Error> {
    cx.platform.directory().refresh(id).await?;
    let db = cx.platform.db().await?;
    let row = store::project::project_get(&**db, &cx.owner.id, id).await?.ok_or(Error::NoSuchProject)?;
    Ok(ProjectView::new(&cx.platform, row))
}
