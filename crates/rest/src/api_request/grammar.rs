//! The grammar of query parameters (PostgREST docs, "Tables and Views" and "Resource Embedding"): names and JSON paths
//! here, the rest by parameter. Rules read the start of their input, as PostgREST's do: text after a complete value is
//! mostly ignored.

use std::borrow::Cow;

use super::parser::{Parsed, Parser};
use super::types::{EmbedPath, Field, JsonOperand, JsonOperation, JsonPath};
use crate::limit;

mod filter;
mod order;
mod select;
#[cfg(test)]
mod tests;

/// What a miss inside an identifier is reported as.
const IDENTIFIER: [&str; 2] = ["letter", "digit"];

fn is_identifier(c: char) -> bool {
    c.is_alphabetic() || c.is_ascii_digit() || matches!(c, '_' | ' ' | '$')
}

impl<'a, const RECORD: bool> Parser<'a, RECORD> {
    /// Letters, digits, `_`, `$` and spaces inside.
    fn identifier(&mut self) -> Parsed<&'a str> {
        self.many1_chars(is_identifier, &IDENTIFIER).map(str::trim)
    }

    /// A name, quoted or made of identifiers with dashes between.
    pub(super) fn field_name(&mut self) -> Parsed<Cow<'a, str>> {
        self.label("field name (* or [a..z0..9_$])", |p| {
            p.or(Self::quoted_value, |p| p.joined_by_dashes(Self::identifier))
        })
    }

    /// `"..."` with `\` before `"` and `\`.
    fn quoted_value(&mut self) -> Parsed<Cow<'a, str>> {
        const ESCAPE: [&str; 1] = [r#""\\""#];
        self.char('"')?;
        let mut value = Cow::Borrowed(self.many_chars(|c| !matches!(c, '"' | '\\'), &ESCAPE));
        while self.peek() == Some('\\') {
            self.char('\\')?;
            let text = value.to_mut();
            text.push(self.one(|_| true, &[])?);
            text.push_str(self.many_chars(|c| !matches!(c, '"' | '\\'), &ESCAPE));
        }
        self.char('"')?;
        Ok(value)
    }

    /// Parts with `-` between; the dash of an arrow is none.
    fn joined_by_dashes(&mut self, part: fn(&mut Self) -> Parsed<&'a str>) -> Parsed<Cow<'a, str>> {
        let mut joined = Cow::Borrowed(part(self)?);
        self.many(|p| {
            p.attempt(|p| {
                p.char('-')?;
                p.not_followed_by(|c| c == '>', &[r#"">""#])
            })?;
            let next = part(p)?;
            let text = joined.to_mut();
            text.push('-');
            text.push_str(next);
            Ok(())
        })?;
        Ok(joined)
    }

    fn delimiter(&mut self) -> Parsed<()> {
        self.one(|c| c == '.', &["delimiter (.)"]).map(drop)
    }

    fn json_path(&mut self) -> Parsed<JsonPath> {
        let mut path = JsonPath::new();
        self.many(|p| {
            let double = p.or(
                |p| p.attempt(|p| p.string("->>")).map(|()| true),
                |p| p.attempt(|p| p.string("->")).map(|()| false),
            )?;
            let operand = p.or(|p| p.attempt(Self::json_index), |p| p.attempt(Self::json_key))?;
            path.push(if double { JsonOperation::DoubleArrow(operand) } else { JsonOperation::Arrow(operand) });
            p.within(limit::JSON_PATH, path.len())
        })?;
        Ok(path)
    }

    fn json_index(&mut self) -> Parsed<JsonOperand> {
        let negative = self.optional(|p| p.char('-'))?.is_some();
        let digits = self.many1_chars(|c| c.is_ascii_digit(), &["digit"])?;
        self.ahead("->", |p| p.ahead("::", |p| p.ahead(".", |p| p.ahead(",", Self::end))))?;
        Ok(JsonOperand::Index(format!("{}{digits}", if negative { '-' } else { '+' })))
    }

    /// Succeeds, consuming nothing, where `text` comes next or the other rule succeeds.
    fn ahead(&mut self, text: &'static str, or: impl FnOnce(&mut Self) -> Parsed<()>) -> Parsed<()> {
        self.or(|p| p.attempt(|p| p.look_ahead(|p| p.string(text))), |p| p.attempt(or))
    }

    fn json_key(&mut self) -> Parsed<JsonOperand> {
        let key = self.label("any non reserved character different from: .,>()", |p| {
            p.or(Self::quoted_value, |p| {
                p.joined_by_dashes(|p| {
                    let accepts = |c| !matches!(c, '(' | '-' | ':' | '.' | ',' | '>' | ')');
                    p.many1_chars(accepts, &[]).map(str::trim)
                })
            })
        })?;
        Ok(JsonOperand::Key(key.into_owned()))
    }

    /// A column with the JSON path behind it.
    fn field(&mut self) -> Parsed<Field> {
        self.lexeme(|p| {
            let name = p.field_name()?.into_owned();
            let path = p.json_path()?;
            Ok(Field { name, path })
        })
    }

    /// `name.name.name->json`: the path of an embedded resource and a field of it.
    pub(super) fn tree_path(&mut self) -> Parsed<(EmbedPath, Field)> {
        let mut name = self.field_name()?.into_owned();
        let mut embed_path = EmbedPath::new();
        self.many(|p| {
            p.delimiter()?;
            let next = p.field_name()?.into_owned();
            embed_path.push(std::mem::replace(&mut name, next));
            Ok(())
        })?;
        let path = self.json_path()?;
        Ok((embed_path, Field { name, path }))
    }

    /// `columns=` and `on_conflict=`.
    pub(super) fn columns(&mut self) -> Parsed<Vec<String>> {
        self.separated(|p| p.field_name().map(Cow::into_owned), |p| p.lexeme(|p| p.char(',')))
    }
}
