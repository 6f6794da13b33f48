//! The machinery under the grammar of query parameters.
//!
//! PGRST100 errors carry the texts of the parser library PostgREST uses (Parsec), and people search for them. So its
//! rules for what consumes input, what can be tried again and which expectations are reported are kept here. Keeping
//! account of expectations costs more than the parsing itself, so an input is parsed without it (`RECORD` is false)
//! and, only when that fails, once more with it.

use std::borrow::Cow;

use crate::error::{Error, QueryParamError};
use crate::limit::Limit;

/// Marks that a parser did not succeed. What was expected is in the parser; whether it can be tried another way is
/// told by the position: a parser that fails where it started has consumed nothing.
#[derive(Debug)]
pub(super) struct Fail;

pub(super) type Parsed<T> = Result<T, Fail>;

/// A grammar rule without and with account of expectations.
pub(super) struct Rule<'a, T> {
    pub(super) quick: fn(&mut Parser<'a, false>) -> Parsed<T>,
    pub(super) recording: fn(&mut Parser<'a, true>) -> Parsed<T>,
}

/// Parses the start of `input` by a rule. `what` and `shown` are for the message: `failed to parse <what> (<shown>)`.
pub(super) fn parse<'a, T>(what: &str, shown: &str, input: &'a str, rule: Rule<'a, T>) -> Result<T, Error> {
    let mut parser = Parser::new(input, None);
    let result = (rule.quick)(&mut parser);
    // Whatever else could have been tried after it.
    if let Some(limit) = parser.passed {
        return Err(Error::Limit(limit));
    }
    if let Ok(value) = result {
        return Ok(value);
    }
    // First where the error is, then what is expected there: texts for all other places would be made in vain.
    let mut parser = Parser::<true>::new(input, None);
    let _ = (rule.recording)(&mut parser);
    let mut parser = Parser::<true>::new(input, Some(parser.error.pos));
    (rule.recording)(&mut parser).map_err(|Fail| {
        let (line, column) = line_and_column(input, parser.error.pos);
        Error::QueryParam(Box::new(QueryParamError {
            message: format!("\"failed to parse {what} ({shown})\" (line {line}, column {column})"),
            details: parser.error.describe(),
        }))
    })
}

/// What ended a parser, or what could have continued it.
#[derive(Clone, Debug, Default)]
struct Expectation {
    pos: usize,
    /// Whether there are messages, be they kept or not.
    known: bool,
    messages: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Message {
    /// The input that did not fit, as a string literal; empty is the end of input.
    SysUnexpected(String),
    /// Input that was refused although it could be read, as a character literal.
    Unexpected(String),
    Expected(Cow<'static, str>),
}

impl Expectation {
    /// The one that got further; both when they are at the same place.
    fn merge(self, other: Self) -> Self {
        if !other.known {
            return self;
        }
        if !self.known {
            return other;
        }
        match self.pos.cmp(&other.pos) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal => {
                let mut merged = self;
                merged.messages.extend(other.messages);
                merged
            }
        }
    }

    fn expect_only(&mut self, what: &'static str, kept: bool) {
        self.known = true;
        if kept {
            self.messages.retain(|message| !matches!(message, Message::Expected(_)));
            self.messages.insert(0, Message::Expected(Cow::Borrowed(what)));
        }
    }

    /// `unexpected "x" expecting a, b or c`
    fn describe(&self) -> String {
        if self.messages.is_empty() {
            return "unknown parse error".to_owned();
        }
        let texts = |select: fn(&Message) -> Option<&str>| {
            let mut texts: Vec<&str> = Vec::new();
            for text in self.messages.iter().filter_map(select) {
                if !text.is_empty() && !texts.contains(&text) {
                    texts.push(text);
                }
            }
            match texts.as_slice() {
                [] => None,
                [one] => Some((*one).to_owned()),
                [several @ .., last] => Some(format!("{} or {last}", several.join(", "))),
            }
        };
        let refused = texts(|m| if let Message::Unexpected(text) = m { Some(text) } else { None });
        let expected = texts(|m| if let Message::Expected(text) = m { Some(text) } else { None });
        let found = self.messages.iter().find_map(|m| match m {
            Message::SysUnexpected(text) if text.is_empty() => Some("end of input"),
            Message::SysUnexpected(text) => Some(text),
            _ => None,
        });
        let has_refused = self.messages.iter().any(|m| matches!(m, Message::Unexpected(_)));
        let parts = [
            found.filter(|_| !has_refused).map(|text| format!("unexpected {text}")),
            refused.map(|text| format!("unexpected {text}")),
            expected.map(|text| format!("expecting {text}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Lines end at a line feed, columns count characters from 1, and tabs stop at every eighth column.
fn line_and_column(input: &str, pos: usize) -> (usize, usize) {
    let (mut line, mut column) = (1, 1);
    for c in input[..pos].chars() {
        match c {
            '\n' => (line, column) = (line + 1, 1),
            '\t' => column += 8 - (column - 1) % 8,
            _ => column += 1,
        }
    }
    (line, column)
}

/// A character inside a literal as Haskell shows it.
fn escaped(c: char, quote: char) -> String {
    const NAMES: [&str; 32] = [
        "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "a", "b", "t", "n", "v", "f", "r", "SO", "SI", "DLE", "DC1",
        "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
    ];
    match c {
        '\\' => "\\\\".to_owned(),
        c if c == quote => format!("\\{c}"),
        '\x7f' => "\\DEL".to_owned(),
        c => match NAMES.get(c as usize) {
            Some(name) => format!("\\{name}"),
            None if c.is_ascii() => c.to_string(),
            None => format!("\\{}", u32::from(c)),
        },
    }
}

pub(super) struct Parser<'a, const RECORD: bool> {
    input: &'a str,
    pos: usize,
    error: Expectation,
    /// The only position for which messages are kept.
    keep_at: Option<usize>,
    depth: usize,
    nodes: usize,
    /// A limit that the input passes.
    passed: Option<Limit>,
}

impl<'a, const RECORD: bool> Parser<'a, RECORD> {
    fn new(input: &'a str, keep_at: Option<usize>) -> Self {
        Self { input, pos: 0, error: Expectation::default(), keep_at, depth: 0, nodes: 0, passed: None }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.input[self.pos..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self, bytes: usize) {
        self.pos += bytes;
        self.forget();
    }

    /// Drops what was expected so far: something was consumed since.
    fn forget(&mut self) {
        if RECORD {
            self.error = Expectation::default();
        }
    }

    fn note(&mut self, pos: usize, messages: impl FnOnce() -> Vec<Message>) {
        if RECORD {
            let messages = if self.keep_at == Some(pos) { messages() } else { Vec::new() };
            let before = std::mem::take(&mut self.error);
            self.error = before.merge(Expectation { pos, known: true, messages });
        }
    }

    fn found(next: Option<char>) -> Message {
        Message::SysUnexpected(next.map_or(String::new(), |c| format!("\"{}\"", escaped(c, '"'))))
    }

    /// Fails at the next character.
    fn miss<T>(&mut self, expected: &[&'static str]) -> Parsed<T> {
        let next = self.peek();
        self.note(self.pos, || {
            let expected = expected.iter().map(|text| Message::Expected(Cow::Borrowed(text)));
            std::iter::once(Self::found(next)).chain(expected).collect()
        });
        Err(Fail)
    }

    /// Fails when there is more than a limit allows, and the whole parsing with it.
    pub(super) fn within(&mut self, limit: Limit, count: usize) -> Parsed<()> {
        if count > limit.most {
            self.passed = Some(limit);
            return Err(Fail);
        }
        Ok(())
    }

    /// One character. `expected` is how a miss is reported: nothing for an unnamed set of characters.
    pub(super) fn one(&mut self, accepts: impl Fn(char) -> bool, expected: &[&'static str]) -> Parsed<char> {
        match self.peek() {
            Some(c) if accepts(c) => {
                self.advance(c.len_utf8());
                Ok(c)
            }
            _ => self.miss(expected),
        }
    }

    pub(super) fn char(&mut self, wanted: char) -> Parsed<()> {
        if self.peek() == Some(wanted) {
            self.advance(wanted.len_utf8());
            return Ok(());
        }
        let next = self.peek();
        self.note(self.pos, || {
            vec![Self::found(next), Message::Expected(format!("\"{}\"", escaped(wanted, '"')).into())]
        });
        Err(Fail)
    }

    /// The longest run of characters, may be empty.
    pub(super) fn many_chars(&mut self, accepts: impl Fn(char) -> bool, expected: &[&'static str]) -> &'a str {
        let rest = self.rest();
        let run = &rest[..rest.find(|c| !accepts(c)).unwrap_or(rest.len())];
        if !run.is_empty() {
            self.advance(run.len());
        }
        if RECORD {
            let _ = self.miss::<()>(expected);
        }
        run
    }

    pub(super) fn many1_chars(&mut self, accepts: impl Fn(char) -> bool, expected: &[&'static str]) -> Parsed<&'a str> {
        let run = self.many_chars(accepts, expected);
        if run.is_empty() { Err(Fail) } else { Ok(run) }
    }

    /// A fixed ASCII text. A miss is reported at its start, and has consumed what fitted.
    pub(super) fn string(&mut self, wanted: &'static str) -> Parsed<()> {
        let rest = self.rest();
        if rest.starts_with(wanted) {
            self.advance(wanted.len());
            return Ok(());
        }
        let fitting = rest.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
        let start = self.pos;
        if fitting > 0 {
            self.advance(fitting);
        }
        let next = self.peek();
        self.note(start, || vec![Self::found(next), Message::Expected(format!("\"{wanted}\"").into())]);
        Err(Fail)
    }

    /// A fixed ASCII text in lower or upper case.
    pub(super) fn string_ignoring_case(&mut self, wanted: &'static str) -> Parsed<()> {
        for lower in wanted.chars() {
            let upper = lower.to_ascii_uppercase();
            match self.peek() {
                Some(c) if c == lower || c == upper => self.advance(c.len_utf8()),
                next => {
                    self.note(self.pos, || {
                        let quoted = |c: char| Message::Expected(format!("\"{c}\"").into());
                        vec![Self::found(next), quoted(lower), quoted(upper)]
                    });
                    return Err(Fail);
                }
            }
        }
        Ok(())
    }

    /// Whatever is left.
    pub(super) fn all(&mut self) -> &'a str {
        self.many_chars(|_| true, &[])
    }

    pub(super) fn end(&mut self) -> Parsed<()> {
        let next = self.peek();
        self.note(self.pos, || {
            let found = match next {
                Some(c) => Message::Unexpected(format!("'{}'", escaped(c, '\''))),
                None => Message::SysUnexpected(String::new()),
            };
            vec![Message::Expected("end of input".into()), found]
        });
        if next.is_none() { Ok(()) } else { Err(Fail) }
    }

    /// Succeeds, consuming nothing, unless the next character is a refused one.
    pub(super) fn not_followed_by(&mut self, refuses: impl Fn(char) -> bool, expected: &[&'static str]) -> Parsed<()> {
        match self.peek() {
            Some(c) if refuses(c) => {
                self.note(self.pos + c.len_utf8(), || vec![Message::Unexpected(format!("'{}'", escaped(c, '\'')))]);
                Err(Fail)
            }
            _ => {
                let _ = self.miss::<()>(expected);
                Ok(())
            }
        }
    }

    /// Fails without consuming.
    pub(super) fn attempt<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let start = self.pos;
        let before = if RECORD { self.error.clone() } else { Expectation::default() };
        let result = rule(self);
        if result.is_err() && self.pos != start {
            self.pos = start;
            if RECORD {
                self.error = before.merge(std::mem::take(&mut self.error));
            }
        }
        result
    }

    /// Succeeds without consuming.
    pub(super) fn look_ahead<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let start = self.pos;
        let before = if RECORD { self.error.clone() } else { Expectation::default() };
        let result = rule(self);
        if result.is_ok() {
            self.pos = start;
            self.error = before;
        }
        result
    }

    /// The second rule where the first fails without consuming.
    pub(super) fn or<T>(
        &mut self,
        first: impl FnOnce(&mut Self) -> Parsed<T>,
        second: impl FnOnce(&mut Self) -> Parsed<T>,
    ) -> Parsed<T> {
        let start = self.pos;
        match first(self) {
            Err(Fail) if self.pos == start => second(self),
            result => result,
        }
    }

    pub(super) fn optional<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<Option<T>> {
        let start = self.pos;
        match rule(self) {
            Ok(value) => Ok(Some(value)),
            Err(Fail) if self.pos == start => Ok(None),
            Err(Fail) => Err(Fail),
        }
    }

    /// As often as it succeeds.
    pub(super) fn many(&mut self, mut rule: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        loop {
            let start = self.pos;
            match rule(self) {
                Ok(()) if self.pos == start => return Ok(()),
                Ok(()) => self.forget(),
                Err(Fail) if self.pos == start => return Ok(()),
                Err(Fail) => return Err(Fail),
            }
        }
    }

    /// One or more, separated.
    pub(super) fn separated<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
        mut separator: impl FnMut(&mut Self) -> Parsed<()>,
    ) -> Parsed<Vec<T>> {
        let mut items = vec![item(self)?];
        self.many(|p| {
            separator(p)?;
            items.push(item(p)?);
            Ok(())
        })?;
        Ok(items)
    }

    /// Reports a failure at the rule's start by the rule's name.
    pub(super) fn label<T>(&mut self, name: &'static str, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if !RECORD {
            return rule(self);
        }
        let start = self.pos;
        let before = std::mem::take(&mut self.error);
        let result = rule(self);
        if self.pos == start {
            let mut after = std::mem::take(&mut self.error);
            if !after.known {
                after.pos = start;
            }
            if result.is_err() || after.known {
                let kept = self.keep_at == Some(after.pos);
                after.expect_only(name, kept);
            }
            self.error = before.merge(after);
        }
        result
    }

    /// Spaces and tabs.
    pub(super) fn blanks(&mut self) {
        self.many_chars(|c| matches!(c, ' ' | '\t'), &[]);
    }

    /// A rule with spaces and tabs around.
    pub(super) fn lexeme<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.blanks();
        let value = rule(self)?;
        self.blanks();
        Ok(value)
    }

    /// Goes one level deeper; leave with [`Self::leave`]. Rules and plans are recursive, on a stack of fixed size.
    pub(super) fn enter(&mut self, limit: Limit) -> Parsed<()> {
        self.depth += 1;
        self.within(limit, self.depth)
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Counts one node of a tree.
    pub(super) fn node(&mut self, limit: Limit) -> Parsed<()> {
        self.nodes += 1;
        self.within(limit, self.nodes)
    }
}
