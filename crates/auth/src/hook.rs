//! Hooks: what a project wants to decide itself, as a function of its database or at an address on the web.

pub(crate) mod https;

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
        let config = &cx.shared.config;
        let project = cx.project.project_ref.as_str();
        let output = https::call(&config.outbound, &config.clock, project, name, hook, event).await?;
        return refusal(&output).map_or(Ok(output), Err);
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

/// What the worker of mails calls for projects whose mails a hook on the web sends.
pub fn send_email_hook(outbound: outbound::Client, clock: base::Clock) -> mailer::SendHook {
    std::sync::Arc::new(move |project, mail| {
        let (outbound, clock) = (outbound.clone(), clock.clone());
        Box::pin(async move {
            let gone = || mailer::SendError::Retry("the send-mail hook is switched off".to_owned());
            let hook = project.auth.hook("send_email").ok_or_else(gone)?;
            let event = serde_json::json!({ "user": mail.data.get("user"), "email_data": mail.data.get("email_data") });
            let id = project.project_ref.as_str();
            let output = https::call(&outbound, &clock, id, "send_email", hook, &event)
                .await
                .map_err(|error| mailer::SendError::Retry(error.message().to_owned()))?;
            match refusal(&output) {
                Some(error) => Err(mailer::SendError::Refused(error.message().to_owned())),
                None => Ok(()),
            }
        })
    })
}
