//! What a setting may hold: one rule per key, checked by name, every problem reported.

use std::borrow::Cow;

use base::auth_settings::redirect_patterns;
use serde_json::{Map, Value, json};

use crate::error::Problem;

/// What a value has to look like.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Bool,
    /// A whole number between the two, both included.
    Int(i64, i64),
    /// Text of at most so many characters.
    Text(usize),
    Choice(&'static [&'static str]),
    /// An absolute URL with a host; custom schemes too, because mobile applications have them.
    Url,
    /// Patterns of URLs, separated by commas (those between braces aside); a list is accepted too.
    UrlList,
    Email,
    /// Subject of a mail, or a message, of at most so many characters: a template that can be used.
    TextTemplate(usize),
    /// As [`Kind::TextTemplate`] for a whole mail.
    HtmlTemplate(usize),
    /// Text that is stored sealed and never shown.
    Secret,
    /// Names of schemas; text separated by commas is accepted too.
    Schemas,
    /// Names of the project's own roles.
    Roles,
    /// `name` or `schema.name` of a function.
    FunctionName,
    /// Origins of browsers, or `*`.
    Origins,
    /// An object with rules of its own.
    Object(Vec<Rule>),
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: Kind,
    pub(crate) default: Value,
    /// Whether null is a value of its own; otherwise null puts the default back.
    pub(crate) nullable: bool,
}

/// A rule without a default of its own: null until set.
pub(crate) fn unset(name: impl Into<Cow<'static, str>>, kind: Kind) -> Rule {
    Rule { name: name.into(), kind, default: Value::Null, nullable: false }
}

pub(crate) fn rule(name: impl Into<Cow<'static, str>>, kind: Kind, default: impl Into<Value>) -> Rule {
    Rule { name: name.into(), kind, default: default.into(), nullable: false }
}

impl Rule {
    pub(crate) fn nullable(self) -> Self {
        Self { nullable: true, ..self }
    }

    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }

    /// The value in its stored form; problems are added with the name `path`.
    pub(crate) fn check(&self, path: &str, value: &Value, problems: &mut Vec<Problem>) -> Option<Value> {
        match self.kind.check(path, value, problems) {
            Ok(value) => Some(value),
            Err(Some(problem)) => {
                problems.push(Problem::new(path, problem));
                None
            }
            // The problems were added already.
            Err(None) => None,
        }
    }
}

/// A key's full value: the stored one, or the default; objects are merged key by key.
pub(crate) fn effective(rule: &Rule, stored: Option<&Value>) -> Value {
    match (&rule.kind, stored) {
        (Kind::Object(rules), stored) => {
            let empty = Map::new();
            let stored = stored.and_then(Value::as_object).unwrap_or(&empty);
            Value::Object(effective_map(rules, stored))
        }
        (_, Some(value)) => value.clone(),
        (_, None) => rule.default.clone(),
    }
}

/// Every key of the rules with its full value. Stored keys without a rule (of another version) are left out.
pub(crate) fn effective_map(rules: &[Rule], stored: &Map<String, Value>) -> Map<String, Value> {
    rules.iter().map(|rule| (rule.name.clone().into_owned(), effective(rule, stored.get(rule.name.as_ref())))).collect()
}

/// Applies a patch to what is stored; secrets are left out and returned by name, `None` for those to forget.
pub(crate) fn apply(
    rules: &[Rule],
    path: &str,
    stored: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    problems: &mut Vec<Problem>,
) -> Vec<(String, Option<String>)> {
    let mut secrets = Vec::new();
    for (name, value) in patch {
        let path = format!("{path}.{name}");
        let Some(rule) = rules.iter().find(|rule| rule.name == *name) else {
            problems.push(Problem::new(path, "is not a known setting"));
            continue;
        };
        match (&rule.kind, value) {
            (Kind::Object(inner), Value::Object(patch)) => {
                let mut object = stored.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
                // No object has secrets in it.
                apply(inner, &path, &mut object, patch, problems);
                stored.insert(name.clone(), Value::Object(object));
            }
            (Kind::Secret, Value::Null) => secrets.push((name.clone(), None)),
            // What is shown in place of a secret comes back unchanged from a form.
            (Kind::Secret, Value::String(text)) if text == super::MASK => {}
            (Kind::Secret, _) => {
                if let Some(Value::String(text)) = rule.check(&path, value, problems) {
                    secrets.push((name.clone(), Some(text).filter(|text| !text.is_empty())));
                }
            }
            (_, Value::Null) if rule.nullable => drop(stored.insert(name.clone(), Value::Null)),
            (_, Value::Null) => drop(stored.shift_remove(name)),
            _ => {
                if let Some(value) = rule.check(&path, value, problems) {
                    stored.insert(name.clone(), value);
                }
            }
        }
    }
    secrets
}

type Checked = Result<Value, Option<String>>;

fn because(problem: impl Into<String>) -> Option<String> {
    Some(problem.into())
}

impl Kind {
    /// The value in its stored form, or a problem; `None` when problems were added to the list.
    fn check(&self, path: &str, value: &Value, problems: &mut Vec<Problem>) -> Checked {
        match self {
            Self::Bool => value.as_bool().map(Value::Bool).ok_or_else(|| because("must be true or false")),
            Self::Int(least, most) => value
                .as_i64()
                .filter(|number| (least..=most).contains(&number))
                .map(Value::from)
                .ok_or_else(|| because(format!("must be a whole number from {least} to {most}"))),
            Self::Text(most) => text(value, *most).map(Value::from),
            Self::TextTemplate(most) => template(value, *most, mailer::template::Kind::Text),
            Self::HtmlTemplate(most) => template(value, *most, mailer::template::Kind::Html),
            Self::Secret => text(value, 4096).map(Value::from),
            Self::Choice(choices) => {
                let text = text(value, 100)?;
                let known = choices.contains(&text.as_str());
                if known { Ok(text.into()) } else { Err(because(format!("must be one of: {}", choices.join(", ")))) }
            }
            Self::Url => {
                let text = text(value, 2048)?;
                if is_url(&text) { Ok(text.into()) } else { Err(because("must be an absolute URL")) }
            }
            Self::Email => {
                let text = text(value, 254)?;
                if crate::owners::is_email(&text) { Ok(text.into()) } else { Err(because("must be an e-mail address")) }
            }
            Self::UrlList => {
                let value = match value {
                    Value::String(text) => json!(redirect_patterns(text).collect::<Vec<_>>()),
                    other => other.clone(),
                };
                let list = list(&value, 500, "URLs")?;
                let wrong = list.iter().find(|url| !is_url(&url.replace(['*', '?', '[', ']', '{', '}', ','], "x")));
                match wrong {
                    Some(wrong) => Err(because(format!("must hold absolute URLs; {wrong:?} is none"))),
                    None => Ok(list.join(",").into()),
                }
            }
            Self::Schemas => {
                let list = list(value, 100, "names of schemas")?;
                match list.iter().find_map(|name| schema_problem(name)) {
                    Some(problem) => Err(because(problem)),
                    None => Ok(json!(list)),
                }
            }
            Self::Roles => {
                let list = list(value, 100, "names of roles")?;
                match list.iter().find_map(|name| role_problem(name)) {
                    Some(problem) => Err(because(problem)),
                    None => Ok(json!(list)),
                }
            }
            Self::FunctionName => {
                let text = text(value, 130)?;
                let parts: Vec<_> = text.split('.').collect();
                let fits = (1..=2).contains(&parts.len()) && parts.iter().all(|part| is_plain_name(part));
                if fits { Ok(text.into()) } else { Err(because("must be the name of a function, as schema.name")) }
            }
            Self::Origins => {
                let list = list(value, 100, "origins")?;
                match list.iter().find(|origin| !is_origin(origin)) {
                    Some(wrong) => Err(because(format!(
                        "must hold \"*\" or origins such as \"https://app.example.com\"; {wrong:?} is none"
                    ))),
                    None => Ok(json!(list)),
                }
            }
            Self::Object(rules) => {
                let Value::Object(patch) = value else { return Err(because("must be an object")) };
                let before = problems.len();
                let mut object = Map::new();
                apply(rules, path, &mut object, patch, problems);
                if problems.len() == before { Ok(Value::Object(object)) } else { Err(None) }
            }
        }
    }
}

fn template(value: &Value, most: usize, kind: mailer::template::Kind) -> Checked {
    let text = text(value, most)?;
    match mailer::template::check(kind, &text) {
        Ok(()) => Ok(text.into()),
        Err(error) => Err(because(format!("must be a template that can be used; {error}"))),
    }
}

fn text(value: &Value, most: usize) -> Result<String, Option<String>> {
    let Value::String(text) = value else { return Err(because("must be a string")) };
    if text.contains('\0') {
        return Err(because("must not contain a NUL character"));
    }
    if text.chars().count() > most {
        return Err(because(format!("must have at most {most} characters")));
    }
    Ok(text.clone())
}

/// A list of texts, or one text separated by commas.
fn list(value: &Value, most: usize, what: &str) -> Result<Vec<String>, Option<String>> {
    let wrong = || because(format!("must be a list of {what}"));
    let list: Vec<String> = match value {
        Value::String(text) => text.split(',').map(|item| item.trim().to_owned()).filter(|t| !t.is_empty()).collect(),
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
    if list.len() > most {
        return Err(because(format!("must hold at most {most} {what}")));
    }
    if list.iter().any(|item| item.is_empty() || item.contains('\0') || item.len() > 2048) {
        return Err(because(format!("holds an empty or unusable text among the {what}")));
    }
    Ok(list)
}

/// Names in PostgreSQL are cut at 63 bytes; a longer one would mean another object than it says.
fn name_problem(name: &str) -> Option<String> {
    let fits = !name.is_empty() && name.len() <= 63 && !name.chars().any(char::is_control);
    (!fits).then(|| format!("{name:?} is not a name of 1 to 63 bytes"))
}

/// A name that means the same with and without quotes around it, but for its case.
fn is_plain_name(name: &str) -> bool {
    name_problem(name).is_none()
        && name.chars().all(|c| c.is_alphanumeric() || "_$-".contains(c))
        && !name.starts_with(|c: char| c.is_ascii_digit() || "$-".contains(c))
}

fn schema_problem(name: &str) -> Option<String> {
    let system = name.starts_with("pg_") || name == "information_schema";
    name_problem(name).or_else(|| system.then(|| format!("{name:?} is one of PostgreSQL's own schemas")))
}

/// Roles that no token may ever choose (architecture, section 5).
fn role_problem(name: &str) -> Option<String> {
    const RESERVED: [&str; 6] = ["postgres", "authenticator", "dashboard_user", "pgbouncer", "public", "none"];
    const PREFIXES: [&str; 4] = ["pg_", "supabase_", "proj_", "launchdb"];
    let reserved = RESERVED.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    name_problem(name).or_else(|| reserved.then(|| format!("{name:?} is a role that tokens may not choose")))
}

/// `scheme://something` without blanks; `scheme` as in RFC 3986.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let mut letters = scheme.chars();
    let scheme_fits = letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let host_fits = !web || !rest.is_empty() && !rest.starts_with(['/', '?', '#', ':']);
    scheme_fits && host_fits && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|host| !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c)))
}
