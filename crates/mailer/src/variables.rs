//! What templates see.

use base::Project;
use serde_json::{Map, Value, json};

use crate::store::Mail;

/// Longest metadata of a user that a template sees, in bytes of JSON: users write it, and loops go through it.
const LONGEST_METADATA: usize = 64 * 1024;

/// The variables of Supabase's templates for a mail of the queue.
pub(crate) fn of_mail(project: &Project, mail: &Mail) -> Value {
    let text_of = |map: Option<&Map<String, Value>>, name: &str| {
        map.and_then(|map| map.get(name)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let part = |name: &str| mail.data.get(name).and_then(Value::as_object);
    let (user, email_data) = (part("user"), part("email_data"));
    let metadata = user.and_then(|user| user.get("user_metadata"));
    let metadata = metadata.filter(|metadata| metadata.to_string().len() <= LONGEST_METADATA);
    json!({
        "SiteURL": project.auth.site_url,
        "ConfirmationURL": text_of(Some(&mail.data), "confirmation_url"),
        "RedirectTo": text_of(email_data, "redirect_to"),
        "Token": text_of(email_data, "token"),
        "TokenHash": text_of(email_data, "token_hash"),
        "Email": text_of(user, "email"),
        "NewEmail": text_of(Some(&mail.data), "new_email"),
        "SendingTo": mail.recipient,
        "Data": metadata.cloned().unwrap_or_else(|| Value::Object(Map::new())),
    })
}

/// Variables of a preview.
pub(crate) fn of_preview(project: &Project, public_url: &str, data: Map<String, Value>) -> Value {
    let link = format!("{public_url}/p/{}/auth/v1/verify?token=preview&type=signup", project.project_ref);
    let row = json!({
        "user": {"email": "user@example.org", "user_metadata": data},
        "email_data": {"token": "123456", "token_hash": "preview", "redirect_to": project.auth.site_url},
        "confirmation_url": link,
        "new_email": "new@example.org",
    });
    let Value::Object(data) = row else { return Value::Null };
    let mail = Mail {
        id: 0,
        kind: String::new(),
        recipient: "user@example.org".to_owned(),
        data,
        too_long: false,
        attempts: 0,
        created_at: 0,
    };
    of_mail(project, &mail)
}
