//! Templates of mails in the language that Supabase's users know: Go's, as far as mails need it.
//!
//! `{{ .ConfirmationURL }}`, `{{ .Data.name }}`, `if`/`else if`/`else`/`end`, `with`, `range`, comparisons, `and`, `or`, `not`,
//! `index`, `len`, `print`, `printf`, `html`, `urlquery`, trim markers and comments work; variables, `define` and `template` are
//! refused with a message. A template becomes one for minijinja in which every text between actions is a value, so nothing
//! that looks like Jinja has a meaning, and every value that is printed passes the escaping of the place it stands in
//! ([`html`]).

mod action;
mod function;
mod html;
mod scan;
mod translate;

use std::io::{self, Write};

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

use self::translate::Translated;

/// Instructions a template may take: some ten thousand lines of output.
const FUEL: u64 = 100_000;
/// Largest mail or subject, in bytes.
const LARGEST_OUTPUT: usize = 1024 * 1024;

/// What a template is for; it decides how values are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Html,
    /// Subjects and SMS: nothing is escaped.
    Text,
}

/// Why a template cannot be used; the text is for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("line {line}: {what}")]
    Syntax { line: usize, what: String },
    #[error("the template could not be rendered: {0}")]
    Render(String),
}

/// Renders `source` over `variables`, an object whose names templates use behind a dot. What is not there is empty.
///
/// # Errors
/// [`TemplateError::Syntax`] for what is no template or uses what is not supported, [`TemplateError::Render`] for one that
/// does too much or prints too much.
pub fn render(kind: Kind, source: &str, variables: &serde_json::Value) -> Result<String, TemplateError> {
    let Translated { source, literals } = translate::translate(kind, source)?;
    let failed = |error: minijinja::Error| TemplateError::Render(shown(&error));
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    function::register(&mut environment);
    let template = environment.template_from_str(&source).map_err(failed)?;
    let mut out = Bounded(Vec::new());
    let variables = Value::from(Serde(variables));
    template.render_captured_to(context! { d0 => variables, t => literals }, &mut out).map_err(failed)?;
    String::from_utf8(out.0).map_err(|error| TemplateError::Render(error.to_string()))
}

/// Whether `source` can be used: it is rendered with a value for everything that mails and messages have.
///
/// # Errors
/// As those of [`render`].
pub fn check(kind: Kind, source: &str) -> Result<(), TemplateError> {
    let variables = serde_json::json!({
        "SiteURL": "https://app.example.org",
        "ConfirmationURL": "https://db.example.org/verify?token=sample",
        "RedirectTo": "https://app.example.org/welcome",
        "Token": "123456",
        "TokenHash": "sample",
        "Code": "123456",
        "Email": "user@example.org",
        "NewEmail": "new@example.org",
        "SendingTo": "user@example.org",
        "Data": {},
    });
    render(kind, source, &variables).map(drop)
}

/// The source that minijinja saw is not the author's, so its place in it says nothing.
fn shown(error: &minijinja::Error) -> String {
    match error.kind() {
        minijinja::ErrorKind::OutOfFuel => "it does too much".to_owned(),
        minijinja::ErrorKind::WriteFailure => "its output is too long".to_owned(),
        _ => error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
    }
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST_OUTPUT {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
