//! `launchdb storage verify` as a request: the service role may have rows and files compared.

use axum::body::Body;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use crate::Storage;
use crate::error::Error;
use crate::reconcile::Scope;
use crate::request::{Cx, json as json_answer, read_json};

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
    let scope = Scope { checksums: params.checksums, repair: params.repair, grace: params.grace.max(0) };
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
        "expired_uploads": report.expired_uploads,
        "faults": faults,
        "more_faults": report.more_faults,
    }))
}
