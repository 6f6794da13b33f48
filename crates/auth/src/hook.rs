//! Hooks: what a project wants to decide itself, as a function of its database.

use base::auth_settings::HookSettings;
use http::StatusCode;
use serde_json::Value;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::store::Tx;
use crate::store::hook as store;

/// How the address of a function begins.
const FUNCTIONS: &str = "pg-functions://postgres/";

/// Runs a hook and returns its output. An `error` in it, or an exception, refuses the request.
pub(crate) async fn run(
    cx: &Cx,
    tx: Option<&mut Tx>,
    name: &str,
    hook: &HookSettings,
    event: &Value,
) -> Result<Value, Error> {
    let failed = |what: String| Error::new(ErrorCode::UnexpectedFailure, what);
    let Some(path) = hook.uri.strip_prefix(FUNCTIONS) else {
        return Err(failed(format!("The {name} hook is at an address that this version cannot call")));
    };
    let Some((schema, function)) = path
        .split_once('/')
        .filter(|(schema, function)| !schema.is_empty() && !function.is_empty() && !function.contains('/'))
    else {
        return Err(failed(format!("The {name} hook has no address of a function")));
    };
    let mut own = None;
    let tx = match tx {
        Some(tx) => tx,
        None => own.insert(Tx::begin(&cx.pool).await?),
    };
    let output = store::hook_call_in_tx(tx, schema, function, event).await?;
    let output = output.map_err(|error| failed(format!("Error running the {name} hook")).because(error))?;
    if let Some(own) = own {
        own.commit().await?;
    }
    refusal(&output).map_or(Ok(output), Err)
}

/// What a hook says when it refuses: `{"error": {"http_code": 403, "message": "..."}}`.
fn refusal(output: &Value) -> Option<Error> {
    let error = output.get("error").filter(|error| error.is_object())?;
    let message = error["message"].as_str().filter(|text| !text.is_empty()).unwrap_or("The hook refused the request");
    let status = error["http_code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let status = status.and_then(|code| StatusCode::from_u16(code).ok()).filter(|code| code.as_u16() >= 400);
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Some(Error::new(ErrorCode::UnexpectedFailure, message.to_owned()).with_status(status))
}
