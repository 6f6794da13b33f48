//! Quoting of identifiers and literals: the only place where names and values become SQL text.

/// `name` as a quoted identifier. A NUL ends the name, because PostgreSQL cannot store one.
pub fn quote_ident(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    push_ident(&mut out, name);
    out
}

/// Appends `name` as a quoted identifier.
pub fn push_ident(out: &mut String, name: &str) {
    out.push('"');
    for c in name.chars().take_while(|c| *c != '\0') {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
}

/// `schema.name`, both quoted; the name alone when the schema is empty.
pub fn quote_qualified(schema: &str, name: &str) -> String {
    if schema.is_empty() { quote_ident(name) } else { format!("{}.{}", quote_ident(schema), quote_ident(name)) }
}

/// `text` as a string literal, safe under either setting of `standard_conforming_strings`. For statements that take
/// no parameters (`ALTER ROLE ... PASSWORD`, `SET`); everything else passes values as parameters.
pub fn quote_literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 3);
    if text.contains('\\') {
        out.push_str(" E");
    }
    out.push('\'');
    for c in text.chars().take_while(|c| *c != '\0') {
        if matches!(c, '\'' | '\\') {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_cannot_leave_their_quotes() {
        assert_eq!(quote_ident(r#"a"b"#), r#""a""b""#);
        assert_eq!(quote_ident("a\0\"; drop"), r#""a""#);
        assert_eq!(quote_qualified("", "t"), r#""t""#);
        assert_eq!(quote_qualified("s", "t"), r#""s"."t""#);
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\'b"), r" E'a\\''b'");
    }
}
