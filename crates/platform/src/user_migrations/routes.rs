//! The two routes.

use axum::Json;
use serde_json::{Value, json};

use super::MigrationFile;
use super::run::Session;
use crate::error::Error;
use crate::request::{Fields, ProjectCx};
use crate::store::audit::audit_insert;

/// Files of one call, and characters of a version and a name.
const MOST_FILES: usize = 1_000;
const LONGEST_NAME: usize = 200;

pub(crate) async fn list_migrations(cx: ProjectCx) -> Result<Json<Value>, Error> {
    cx.require_active()?;
    let mut session = Session::open(&cx).await?;
    let ledger = session.ledger().await;
    session.close().await;
    Ok(Json(json!({ "migrations": ledger? })))
}

pub(crate) async fn apply_migrations(cx: ProjectCx, mut fields: Fields) -> Result<Json<Value>, Error> {
    let dry_run = fields.boolean("dry_run").unwrap_or(false);
    let files = read_files(&mut fields);
    fields.finish()?;
    cx.require_active()?;
    cx.platform().provisioner().write_gate().check().map_err(|_| Error::DiskNearlyFull)?;
    let platform = cx.platform().clone();
    // A client that hangs up does not cut a migration off.
    platform
        .to_the_end(async move {
            let versions: Vec<&str> = files.iter().map(|file| file.version.as_str()).collect();
            let detail = json!({ "versions": versions, "dry_run": dry_run });
            let entry = cx.caller.actor();
            let db = cx.platform().db().await?;
            audit_insert(&**db, &entry.entry(Some(&cx.project_ref), "migrations.apply", detail)).await?;
            drop(db);
            let mut session = Session::open(&cx).await?;
            let outcome = session.apply(files, dry_run).await;
            session.close().await;
            outcome.map(|outcome| Json(outcome.view(dry_run)))
        })
        .await?
}

/// `migrations`: objects of `version`, `name` and `sql`.
fn read_files(fields: &mut Fields) -> Vec<MigrationFile> {
    let Some(Value::Array(items)) = fields.take("migrations") else {
        fields.refuse("migrations", "must be an array of objects with version, name and sql");
        return Vec::new();
    };
    if items.len() > MOST_FILES {
        fields.refuse("migrations", format!("must have at most {MOST_FILES} files"));
        return Vec::new();
    }
    let mut files: Vec<MigrationFile> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let text = |name: &str| item[name].as_str().filter(|text| !text.contains('\0')).map(str::to_owned);
        match (text("version"), text("name"), text("sql")) {
            (Some(version), Some(name), Some(sql))
                if (1..=LONGEST_NAME).contains(&version.len())
                    && version.bytes().all(|b| b.is_ascii_digit())
                    && name.len() <= LONGEST_NAME =>
            {
                if files.iter().any(|file| file.version == version) {
                    fields.refuse(&format!("migrations.{at}.version"), "is the version of another file, too");
                }
                files.push(MigrationFile { version, name, sql });
            }
            _ => fields.refuse(
                &format!("migrations.{at}"),
                "must have a version of digits, a name and the sql, as texts without NUL",
            ),
        }
    }
    files
}
