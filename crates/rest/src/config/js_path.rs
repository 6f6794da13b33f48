//! `jwt-role-claim-key`: where a token's claims hold the role (PostgREST 14 docs, "JWT Role Extraction").

use std::fmt;

use serde_json::{Map, Value};

/// A path like `.app."my roles"[0]` or `.roles[?(@ == "author")]`. The default is `.role`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    /// The first string of an array that compares so with the text. Always the last step.
    Filter(Comparison, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equals,
    NotEquals,
    StartsWith,
    EndsWith,
    Contains,
}

/// Tried in this order: what starts like another comes first.
const COMPARISONS: [(&str, Comparison); 5] = [
    ("==^", Comparison::EndsWith),
    ("==", Comparison::Equals),
    ("!=", Comparison::NotEquals),
    ("^==", Comparison::StartsWith),
    ("*==", Comparison::Contains),
];

impl Default for JsPath {
    fn default() -> Self {
        Self(vec![Step::Key("role".into())])
    }
}

impl JsPath {
    /// Reads a path; None when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let step;
            (step, rest) = step_of(rest)?;
            let last = matches!(step, Step::Filter(..));
            steps.push(step);
            if last && !rest.is_empty() {
                return None;
            }
        }
        (!steps.is_empty()).then_some(Self(steps))
    }

    /// What the claims hold there.
    pub fn find<'v>(&self, claims: &'v Map<String, Value>) -> Option<&'v Value> {
        let (Step::Key(key), rest) = self.0.split_first()? else { return None };
        rest.iter().try_fold(claims.get(key)?, |value, step| match step {
            Step::Key(key) => value.as_object()?.get(key),
            Step::Index(index) => value.as_array()?.get(*index),
            Step::Filter(comparison, text) => {
                let fits = |value: &&Value| value.as_str().is_some_and(|value| comparison.holds(value, text));
                value.as_array()?.iter().find(fits)
            }
        })
    }

    /// The role: a string as it is, anything else as JSON text.
    pub fn role(&self, claims: &Value) -> Option<String> {
        Some(match self.find(claims.as_object()?)? {
            Value::String(role) => role.clone(),
            other => other.to_string(),
        })
    }
}

impl Comparison {
    fn holds(self, value: &str, text: &str) -> bool {
        match self {
            Self::Equals => value == text,
            Self::NotEquals => value != text,
            Self::StartsWith => value.starts_with(text),
            Self::EndsWith => value.ends_with(text),
            Self::Contains => value.contains(text),
        }
    }
}

fn step_of(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix('.') {
        if rest.starts_with('"') {
            let (key, rest) = quoted(rest)?;
            return Some((Step::Key(key.to_owned()), rest));
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$' | '@')).unwrap_or(rest.len());
        let (key, rest) = rest.split_at(end);
        return (!key.is_empty()).then(|| (Step::Key(key.to_owned()), rest));
    }
    if let Some(rest) = text.strip_prefix("[?(@") {
        let rest = rest.trim_start();
        let (comparison, rest) =
            COMPARISONS.iter().find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)))?;
        let (value, rest) = quoted(rest.trim_start())?;
        return Some((Step::Filter(comparison, value.to_owned()), rest.strip_prefix(")]")?));
    }
    let (digits, rest) = text.strip_prefix('[')?.split_once(']')?;
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    Some((Step::Index(all_digits.then(|| digits.parse().ok())??), rest))
}

/// `"..."` without escapes.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('"')?.split_once('"')
}

impl fmt::Display for JsPath {
    /// As `--dump-config` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Key(key) => write!(f, ".\"{key}\""),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Filter(comparison, text) => {
                let sign = COMPARISONS.iter().find(|(_, own)| own == comparison).map_or("", |(sign, _)| sign);
                write!(f, "[?(@ {sign} \"{text}\")]")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn roles_are_found() {
        let claims = json!({
            "role": "anon",
            "postgrest": {"roles": ["other", "author", 7], "a_role": "x"},
            "https://www.example.com/role": {"key": "author"},
            "flag": true,
        });
        let check = |path: &str, role: Option<&str>| {
            let path = JsPath::parse(path).unwrap();
            assert_eq!(path.role(&claims).as_deref(), role, "{path}");
            assert_eq!(JsPath::parse(&path.to_string()), Some(path));
        };
        check(".role", Some("anon"));
        check(".postgrest.roles[1]", Some("author"));
        check(".postgrest.roles[9]", None);
        check(r#"."https://www.example.com/role".key"#, Some("author"));
        check(".postgrest.a_role", Some("x"));
        check(".flag", Some("true"));
        check(".role.deeper", None);
        check("[0]", None);
        check(r#".postgrest.roles[?(@ == "author")]"#, Some("author"));
        check(r#".postgrest.roles[?(@ != "other")]"#, Some("author"));
        check(r#".postgrest.roles[?(@ ^== "au")]"#, Some("author"));
        check(r#".postgrest.roles[?(@ ==^ "er")]"#, Some("other"));
        check(r#".postgrest.roles[?(@*=="the")]"#, Some("other"));
        check(r#".postgrest.roles[?(@ == "none")]"#, None);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "role",
            ".",
            "..a",
            ".a[",
            ".a[x]",
            ".a[-1]",
            ".a[]",
            r#".a[?(@ == "x")].b"#,
            r#".a[?(@ == x)]"#,
            ".a b",
        ] {
            assert_eq!(JsPath::parse(text), None, "{text}");
        }
    }
}
