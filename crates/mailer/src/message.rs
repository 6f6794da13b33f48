//! One mail from its template to the bytes that go over the wire.

use std::time::{Duration, UNIX_EPOCH};

use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use serde_json::Value;

use crate::template::{self, Kind, TemplateError};
use crate::{defaults, plain_text};

/// Longest subject, in characters.
const LONGEST_SUBJECT: usize = 500;

/// Subject and template; where a project has none of its own, the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub subject: Option<String>,
    pub content: Option<String>,
}

/// A mail as its template makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub subject: String,
    pub html: String,
    pub text: String,
}

/// Renders a kind of mail over the variables of Supabase's templates (`SiteURL`, `ConfirmationURL`, `Token`, ...).
///
/// # Errors
/// What is wrong with the project's template; an unknown kind is one, too.
pub fn render(kind: &str, template: &Template, variables: &Value) -> Result<Rendered, TemplateError> {
    let default = defaults::of(kind)
        .ok_or_else(|| TemplateError::Syntax { line: 0, what: format!("there is no mail called {kind}") })?;
    let subject = template::render(Kind::Text, template.subject.as_deref().unwrap_or(default.subject), variables)?;
    let html = template::render(Kind::Html, template.content.as_deref().unwrap_or(default.content), variables)?;
    Ok(Rendered { subject: one_line(&subject), text: plain_text::from_html(&html), html })
}

/// A header is one line, whatever a value had in it.
fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(LONGEST_SUBJECT).collect()
}

/// Who a mail is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    pub address: String,
    pub name: Option<String>,
}

/// Why no mail could be made of what there is.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("the sender's address \"{0}\" is no e-mail address")]
    Sender(String),
    #[error("the recipient's address is no e-mail address")]
    Recipient,
    #[error("the mail could not be made")]
    Build(#[source] lettre::error::Error),
}

/// A mail ready to be sent: who it goes to, and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) envelope: Envelope,
    pub(crate) bytes: Vec<u8>,
}

/// Whether `text` can be the address of a recipient.
pub fn is_address(text: &str) -> bool {
    text.parse::<Address>().is_ok()
}

/// Builds the mail. `id` is the part of the Message-ID before the `@`; the same one is used for every attempt, so that a mail
/// that was sent twice can be recognised.
pub(crate) fn build(
    from: &Sender,
    to: &str,
    rendered: &Rendered,
    id: &str,
    unix_seconds: i64,
) -> Result<Letter, MessageError> {
    let sender: Address = from.address.parse().map_err(|_| MessageError::Sender(from.address.clone()))?;
    let recipient: Address = to.parse().map_err(|_| MessageError::Recipient)?;
    let message_id = format!("<{id}@{}>", sender.domain());
    let name = from.name.as_deref().map(one_line).filter(|name| !name.is_empty());
    let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or_default());
    let message = Message::builder()
        .from(Mailbox::new(name, sender))
        .to(Mailbox::new(None, recipient))
        .subject(one_line(&rendered.subject))
        .date(date)
        .message_id(Some(message_id))
        // No answers by machines (RFC 3834).
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .multipart(MultiPart::alternative_plain_html(rendered.text.clone(), rendered.html.clone()))
        .map_err(MessageError::Build)?;
    Ok(Letter { envelope: message.envelope().clone(), bytes: message.formatted() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sender(address: &str, name: &str) -> Sender {
        Sender { address: address.into(), name: Some(name.into()) }
    }

    #[test]
    fn every_default_has_the_code_and_all_that_lead_somewhere_the_link() {
        let variables = json!({
            "SiteURL": "https://app.example", "Token": "123456", "Email": "a@example.org", "NewEmail": "b@example.org",
            "ConfirmationURL": "https://api.example/verify?token=x&type=signup",
        });
        for kind in defaults::KINDS {
            let mail = render(kind, &Template::default(), &variables).unwrap();
            assert!(mail.html.contains("123456") && mail.text.contains("123456"), "{kind}");
            let link = "https://api.example/verify?token=x&type=signup";
            assert_eq!(mail.text.contains(link), kind != "reauthentication", "{kind}: {}", mail.text);
            assert!(!mail.subject.is_empty(), "{kind}");
        }
        assert!(render("unheard_of", &Template::default(), &variables).is_err());
    }

    #[test]
    fn nothing_that_a_user_writes_becomes_a_header() {
        let template = Template { subject: Some("Hello {{ .Data.name }}".into()), content: None };
        let variables = json!({"Data": {"name": "x\r\nBcc: all@example.org\r\n\r\nbody"}});
        let rendered = render("invite", &template, &variables).unwrap();
        let from = sender("no-reply@example.org", "App\r\nBcc: all@example.org");
        let letter = build(&from, "a@example.org", &rendered, "1", 0).unwrap();
        let text = String::from_utf8(letter.bytes).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let unfolded = head.replace("\r\n ", " ");
        let names: Vec<&str> = unfolded.split("\r\n").map(|line| line.split(':').next().unwrap()).collect();
        assert!(!names.contains(&"Bcc"), "{head}");
        assert_eq!(letter.envelope.to().len(), 1);
        assert!(head.contains("Message-ID: <1@example.org>"), "{head}");
    }

    #[test]
    fn addresses_are_addresses() {
        let rendered = render("invite", &Template::default(), &json!({})).unwrap();
        let build = |from: &str, to: &str| build(&sender(from, "n"), to, &rendered, "1", 0);
        assert!(build("a@example.org", "ü@exämple.org").is_ok());
        for to in ["", "a", "a@b@c", "a@example.org\r\nRCPT TO:<x@example.org>", "a@example.org>", "a b@example.org"] {
            assert!(matches!(build("a@example.org", to), Err(MessageError::Recipient)), "{to:?}");
            assert!(!is_address(to));
        }
        assert!(matches!(build("nobody", "a@example.org"), Err(MessageError::Sender(_))));
    }
}
