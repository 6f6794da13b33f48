//! `launchdb storage verify` as a request: the service role may have rows and files compared.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use base::ProjectRef;
use serde::Deserialize;
use serde_json::json;

use crate::Storage;
use crate::error::Error;
use crate::reconcile::Scope;
use crate::request::{Cx, json as json_answer, read_json};

/// Comparisons at once, of all projects.
const AT_ONCE: usize = 2;
/// Seconds for which uploads on their way are left alone, whatever is asked for.
const UPLOADS_GRACE: i64 = 3600;

/// The comparisons that were asked for and are under way: one of a project, and few in all, because each may read the
/// whole disk.
#[derive(Default)]
pub(crate) struct Comparisons(Mutex<HashSet<ProjectRef>>);

/// One of them, until it is dropped.
struct Comparison<'a> {
    all: &'a Comparisons,
    project: ProjectRef,
}

impl Drop for Comparison<'_> {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.project);
    }
}

impl Comparisons {
    fn enter(&self, project: &ProjectRef) -> Result<Comparison<'_>, Error> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.len() >= AT_ONCE || !under_way.insert(project.clone()) {
            return Err(Error::Busy("Rows and files are being compared already, try again later"));
        }
        Ok(Comparison { all: self, project: project.clone() })
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Params {
    checksums: bool,
    repair: bool,
    /// Seconds for which a file without a row is left alone.
    grace: i64,
}

impl Default for Params {
    fn default() -> Self {
        Self { checksums: true, repair: false, grace: 3600 }
    }
}

pub(crate) async fn verify(cx: &Cx, body: Body) -> Result<Response, Error> {
    if !cx.is_service_role() {
        return Err(Error::denied());
    }
    let params: Params = read_json(cx, body).await?;
    let _comparison = cx.shared.comparisons.enter(&cx.project.project_ref)?;
    let grace = params.grace.max(0);
    let scope =
        Scope { checksums: params.checksums, repair: params.repair, grace, uploads_grace: grace.max(UPLOADS_GRACE) };
    let report = Storage { shared: cx.shared.clone() }.reconcile(&cx.project, scope).await?;
    let faults: Vec<_> =
        report.faults.iter().map(|fault| json!({"object": fault.object, "what": fault.what})).collect();
    json_answer(&json!({
        "clean": report.is_clean(),
        "objects": report.objects,
        "files": report.files,
        "bytes_read": report.bytes_read,
        "orphans": report.orphans,
        "repaired": report.repaired,
        "kept": report.kept,
        "expired_uploads": report.expired_uploads,
        "faults": faults,
        "more_faults": report.more_faults,
    }))
}
