//! Access tokens: JWTs that the project's services believe (contracts, section 3).

use serde_json::{Map, Value, json};

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::hook;
use crate::store::Tx;
use crate::store::session::Session;
use crate::user::{AUDIENCE, User};

/// Claims that the custom access token hook has to leave there (GoTrue's schema of them).
const REQUIRED: [&str; 10] =
    ["aud", "exp", "iat", "sub", "email", "phone", "role", "aal", "session_id", "is_anonymous"];

/// Signs a token for a session; returns it with its end in Unix seconds.
pub(crate) async fn issue(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    session: &Session,
    method: &str,
) -> Result<(String, i64), Error> {
    let issued_at = cx.now.unix_seconds();
    let mut expires_at = issued_at + cx.settings().jwt_exp;
    let mut claims = claims(cx, user, session, issued_at, expires_at);
    if let Some(custom) = cx.settings().hook("custom_access_token") {
        let event = json!({ "user_id": user.id, "claims": claims, "authentication_method": method });
        let output = hook::run(cx, Some(tx), "custom_access_token", custom, &event).await?;
        claims = customised(&claims, output)?;
        expires_at = claims.get("exp").and_then(Value::as_i64).unwrap_or(expires_at);
    }
    let token = cx.project.signing.sign(&Value::Object(claims));
    let token = token.map_err(|error| Error::internal("Error signing the access token", error))?;
    Ok((token, expires_at))
}

fn claims(cx: &Cx, user: &User, session: &Session, issued_at: i64, expires_at: i64) -> Map<String, Value> {
    let amr: Vec<Value> =
        session.amr.iter().map(|amr| json!({ "method": amr.method, "timestamp": amr.at.unix_seconds() })).collect();
    let claims = json!({
        "iss": cx.auth_url(),
        "sub": user.id,
        "aud": user.aud.as_deref().unwrap_or(AUDIENCE),
        "exp": expires_at,
        "iat": issued_at,
        "email": user.email().unwrap_or_default(),
        "phone": user.phone().unwrap_or_default(),
        "app_metadata": user.raw_app_meta_data.as_ref().unwrap_or(&Map::new()),
        "user_metadata": user.raw_user_meta_data.as_ref().unwrap_or(&Map::new()),
        "role": user.role.as_deref().filter(|role| !role.is_empty()).unwrap_or(AUDIENCE),
        "aal": session.aal.as_deref().unwrap_or("aal1"),
        "amr": amr,
        "session_id": session.id,
        "is_anonymous": user.is_anonymous,
        "project_id": cx.project.project_ref,
    });
    match claims {
        Value::Object(claims) => claims,
        _ => Map::new(),
    }
}

/// The claims as the hook wants them, if they still are those of this session of this project.
fn customised(ours: &Map<String, Value>, output: Value) -> Result<Map<String, Value>, Error> {
    let refused = |what: String| Error::new(ErrorCode::UnexpectedFailure, what);
    let Some(Value::Object(mut theirs)) = output.get("claims").cloned() else {
        return Err(refused("output claims field is missing".to_owned()));
    };
    if let Some(missing) = REQUIRED.iter().find(|name| !theirs.contains_key(**name)) {
        return Err(refused(format!("output claims do not conform to the expected schema: {missing} is required")));
    }
    // A hook may add what it likes; whom the token is for, and by whom, is not its to say.
    for name in ["iss", "sub", "session_id", "project_id"] {
        if let Some(value) = ours.get(name) {
            theirs.insert(name.to_owned(), value.clone());
        }
    }
    if !theirs.get("exp").is_some_and(Value::is_i64) || !theirs.get("role").is_some_and(Value::is_string) {
        return Err(refused("output claims do not conform to the expected schema: exp or role".to_owned()));
    }
    Ok(theirs)
}
