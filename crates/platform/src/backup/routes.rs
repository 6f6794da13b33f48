//! `/api/projects/{id}/backups`: a project's owner makes backups and sees which there are.

use axum::Json;
use axum::response::IntoResponse;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::{BackupError, BackupFile, Backups, Subject, store};
use crate::error::Error;
use crate::request::ProjectCx;
use crate::store::audit::audit_insert;
use crate::timestamp::Timestamp;

/// Backups that a project's owner may ask for in a day; the newest of them is kept.
const MOST_A_DAY: i64 = 6;

#[derive(Serialize)]
struct BackupView {
    file: String,
    taken_at: Timestamp,
    bytes: u64,
    /// When it was last restored into a scratch database and found right.
    verified_at: Option<Timestamp>,
}

impl From<BackupFile> for BackupView {
    fn from(file: BackupFile) -> Self {
        Self {
            file: file.name.to_string(),
            taken_at: Timestamp::from_unix_seconds(file.name.taken_at),
            bytes: file.bytes,
            verified_at: file.verified_at.map(Timestamp::from_unix_seconds),
        }
    }
}

fn backups(cx: &ProjectCx) -> Result<&Backups, Error> {
    cx.platform().backups().ok_or_else(|| {
        Error::Unsupported("this server makes no backups by itself: they are made where its operator does".to_owned())
    })
}

/// Newest first.
pub(crate) async fn list_backups(cx: ProjectCx) -> Result<Json<Value>, Error> {
    let (folder, id) = (backups(&cx)?.folder().clone(), cx.project_ref.clone());
    let files =
        tokio::task::spawn_blocking(move || folder.list()).await.map_err(|error| Error::Internal(error.into()))?;
    let files = files.map_err(|error| Error::Internal(error.into()))?;
    let own = files.into_iter().rev().filter(|file| file.name.database == id.database());
    Ok(Json(json!({ "backups": own.map(BackupView::from).collect::<Vec<_>>() })))
}

/// Begins a backup; it is listed when it is whole.
pub(crate) async fn create_backup(cx: ProjectCx) -> Result<impl IntoResponse, Error> {
    let backups = backups(&cx)?;
    cx.require_present()?;
    // Before a connection is taken: a folder on another machine may not answer.
    match backups.check_room().await {
        Err(BackupError::DiskFull { .. }) => return Err(Error::NoRoomForBackup),
        checked => checked.map_err(|error| Error::Internal(error.into()))?,
    }
    let db = cx.platform().db().await?;
    let (asked, seconds) = store::asked_within_a_day(&**db, &cx.project_ref).await?;
    if asked >= MOST_A_DAY {
        return Err(Error::TooManyRequests(u64::try_from(seconds).unwrap_or(1).max(1)));
    }
    let work = backups.try_run(Subject::Project(cx.project_ref.clone())).ok_or(Error::ProjectBusy)?;
    let entry = cx.caller.actor();
    audit_insert(&**db, &entry.entry(Some(&cx.project_ref), "project.backup", json!({}))).await?;
    drop(db);
    let id = cx.project_ref.clone();
    cx.platform().spawn(async move {
        if let Err(error) = work.await {
            tracing::error!(project.ref = %id, cause = %web::error::chain(&error), "a backup failed");
        }
    });
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": "started" }))))
}
