//! A statement being written: text and parameters.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::identifier::QualifiedIdentifier;

/// SQL text with its parameters. Each way to add to it says where the text comes from; text of a request can only
/// become a parameter or a quoted identifier.
#[derive(Clone, Debug, Default)]
pub(super) struct Snippet {
    sql: String,
    params: Vec<Option<Bytes>>,
}

impl Snippet {
    pub(super) fn new() -> Self {
        Self { sql: String::with_capacity(512), params: Vec::new() }
    }

    /// SQL of ours.
    pub(super) fn sql(&mut self, sql: &'static str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// SQL that PostgreSQL printed: the name of a type, a default, a function's qualified name.
    pub(super) fn catalog_sql(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// A type that the request names. Words and what makes arrays and precisions stay bare, because quoting would
    /// keep `int` and `double precision` from being found; anything else is quoted as one identifier. So is what has a
    /// dollar: `$$` would begin a string, and end where the request says it again.
    pub(super) fn type_name(&mut self, name: &str) -> &mut Self {
        let bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | ' ' | '[' | ']' | '.');
        if name.chars().all(bare) {
            self.sql.push_str(name);
        } else {
            pg::ident::push_ident(&mut self.sql, name);
        }
        self
    }

    pub(super) fn ident(&mut self, name: &str) -> &mut Self {
        pg::ident::push_ident(&mut self.sql, name);
        self
    }

    pub(super) fn qi(&mut self, qi: &QualifiedIdentifier) -> &mut Self {
        if !qi.schema.is_empty() {
            self.ident(&qi.schema).sql(".");
        }
        self.ident(&qi.name)
    }

    /// `table.column`, or all columns for `*`.
    pub(super) fn column(&mut self, table: &QualifiedIdentifier, column: &str) -> &mut Self {
        self.qi(table);
        if column == "*" { self.sql(".*") } else { self.sql(".").ident(column) }
    }

    /// A name from the catalog as a string literal.
    pub(super) fn catalog_literal(&mut self, text: &str) -> &mut Self {
        self.sql.push_str(&pg::ident::quote_literal(text));
        self
    }

    /// A value as the next parameter, whose type PostgreSQL infers from where it stands.
    pub(super) fn param(&mut self, value: Option<Bytes>) -> &mut Self {
        self.params.push(value);
        // Writing to a String does not fail.
        let _ = write!(self.sql, "${}", self.params.len());
        self
    }

    pub(super) fn text_param(&mut self, value: &str) -> &mut Self {
        self.param(Some(Bytes::copy_from_slice(value.as_bytes())))
    }

    pub(super) fn number_param(&mut self, value: u64) -> &mut Self {
        let mut buffer = itoa::Buffer::new();
        self.param(Some(Bytes::copy_from_slice(buffer.format(value).as_bytes())))
    }

    /// Writes `items` with `separator` between them.
    pub(super) fn join<T>(
        &mut self,
        separator: &'static str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.sql.push_str(separator);
            }
            write(self, item);
        }
        self
    }

    pub(super) fn into_query(self) -> pg::Query {
        pg::Query { sql: self.sql.into(), params: self.params }
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.sql
    }
}

/// A PostgreSQL array literal of texts. Without NULs, which PostgreSQL cannot store.
pub(super) fn array_literal<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::from("{");
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('"');
        for c in item.chars().take_while(|c| *c != '\0') {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_request_leaves_its_quotes() {
        let mut s = Snippet::new();
        s.ident("a\"b").sql(" = ").text_param("it's").sql(" AS ").type_name("int); drop table x");
        assert_eq!(s.text(), r#""a""b" = $1 AS "int); drop table x""#);
        let mut s = Snippet::new();
        s.type_name("double precision").sql(", ").type_name("int $$");
        assert_eq!(s.text(), r#"double precision, "int $$""#);
        assert_eq!(array_literal(["a", "b\"\\c", "d\0e"]), r#"{"a","b\"\\c","d"}"#);
    }
}
