//! The functions that translated templates call.

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Schemes that run something where a link is opened.
const RUNNING_SCHEMES: [&str; 3] = ["javascript", "vbscript", "data"];

pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_function("raw", |value: Value| shown(&value));
    environment.add_function("esc", |value: Value| escape(&shown(&value)));
    environment.add_function("esc_unquoted", |value: Value| escape_unquoted(&shown(&value)));
    environment.add_function("esc_url", |value: Value| escape(&checked_url(shown(&value))));
    environment.add_function("esc_url_unquoted", |value: Value| escape_unquoted(&checked_url(shown(&value))));
    environment.add_function("esc_query", |value: Value| percent_encoded(&shown(&value)));
    environment.add_function("fn_html", |value: Value| escape(&shown(&value)));
    environment.add_function("fn_js", |value: Value| escape(&shown(&value)));
    environment.add_function("fn_urlquery", |value: Value| percent_encoded(&shown(&value)));
    environment.add_function("fn_eq", |first: Value, others: Rest<Value>| others.contains(&first));
    environment.add_function("fn_items", |value: Value| items(&value));
    environment.add_function("fn_len", |value: Value| value.len().unwrap_or_default());
    environment.add_function("fn_print", |values: Rest<Value>| joined(&values, ""));
    environment.add_function("fn_println", |values: Rest<Value>| joined(&values, " ").map(|text| text + "\n"));
    environment.add_function("fn_printf", |format: String, values: Rest<Value>| printf(&format, &values));
}

/// A value as text; what is not there is empty.
fn shown(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => String::new(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        _ => value.to_string(),
    }
}

/// Values as one text, which is not longer than a mail may be: what is called may never be printed.
fn joined(values: &[Value], between: &str) -> Result<String, Error> {
    let mut out = String::new();
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push_str(between);
        }
        out.push_str(&shown(value));
        bounded(&out)?;
    }
    Ok(out)
}

fn bounded(text: &str) -> Result<(), Error> {
    if text.len() > super::LARGEST_OUTPUT {
        return Err(Error::new(ErrorKind::InvalidOperation, "its output is too long"));
    }
    Ok(())
}

/// What `range` goes through: the items of a list, the values of an object, nothing of anything else.
fn items(value: &Value) -> Vec<Value> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter().map(Iterator::collect).unwrap_or_default(),
        ValueKind::Map => {
            value.try_iter().map(|keys| keys.filter_map(|key| value.get_item(&key).ok()).collect()).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn escape_unquoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in escape(text).chars() {
        match c {
            '=' | '`' | ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' => out.push_str(&format!("&#{};", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// `#` in place of a URL that would run something. Browsers skip white space and control characters in a scheme.
fn checked_url(url: String) -> String {
    let scheme: String = url
        .chars()
        .take_while(|c| *c != ':')
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .take(16)
        .collect::<String>()
        .to_ascii_lowercase();
    if RUNNING_SCHEMES.contains(&scheme.as_str()) { "#".to_owned() } else { url }
}

fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// `%s`, `%v`, `%d`, `%q` and `%%`.
fn printf(format: &str, values: &[Value]) -> Result<String, Error> {
    let mut values = values.iter();
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        bounded(&out)?;
        let wrong = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("printf: {what}"));
        match chars.next() {
            Some('%') => out.push('%'),
            Some(verb @ ('s' | 'v' | 'd' | 'q')) => {
                let value = values.next().map(shown).ok_or_else(|| wrong("a value is missing"))?;
                out.push_str(&if verb == 'q' { super::action::quoted(&value) } else { value });
            }
            _ => return Err(wrong("only %s, %v, %d, %q and %% are supported")),
        }
    }
    bounded(&out)?;
    Ok(out)
}
