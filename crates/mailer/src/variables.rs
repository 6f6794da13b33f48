//! What templates see.

use base::Project;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::store::Mail;

/// The variables of Supabase's templates for a mail of the queue.
pub(crate) fn of_mail(project: &Project, public_url: &str, mail: &Mail) -> Value {
    let text = |name: &str| mail.data.get(name).and_then(Value::as_str).unwrap_or_default();
    let user = mail.data.get("user").and_then(Value::as_object);
    let of_user = |name: &str| user.and_then(|user| user.get(name)).and_then(Value::as_str).unwrap_or_default();
    let site_url = project.auth.site_url.as_str();
    let redirect_to = if text("redirect_to").is_empty() { site_url } else { text("redirect_to") };
    let confirmation_url = match text("token_hash") {
        "" => String::new(),
        token_hash => {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("token", token_hash)
                .append_pair("type", text("email_action_type"))
                .append_pair("redirect_to", redirect_to)
                .finish();
            format!("{public_url}/p/{}/auth/v1/verify?{query}", project.project_ref)
        }
    };
    json!({
        "SiteURL": site_url,
        "ConfirmationURL": confirmation_url,
        "RedirectTo": redirect_to,
        "Token": text("token"),
        "TokenHash": text("token_hash"),
        "Email": of_user("email"),
        "NewEmail": of_user("new_email"),
        "SendingTo": mail.recipient,
        "Provider": text("provider"),
        "Data": user.and_then(|user| user.get("user_metadata")).cloned().unwrap_or_else(|| Value::Object(Map::new())),
    })
}

/// Variables of a preview.
pub(crate) fn of_preview(project: &Project, public_url: &str, data: Map<String, Value>) -> Value {
    let user = json!({"email": "user@example.org", "new_email": "new@example.org", "user_metadata": data});
    let row = json!({
        "user": user, "token": "123456", "token_hash": "preview", "redirect_to": project.auth.site_url,
        "email_action_type": "signup",
    });
    let Value::Object(data) = row else { return Value::Null };
    let mail =
        Mail { id: 0, kind: String::new(), recipient: "user@example.org".to_owned(), data, attempts: 0, created_at: 0 };
    of_mail(project, public_url, &mail)
}
