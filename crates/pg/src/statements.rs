//! Cuts SQL text into its statements, the way psql does, without knowing the grammar: for files of migrations, whose
//! failing statement is to be named, and for dumps, which are loaded piece by piece.
//!
//! Text may come in chunks cut anywhere. `standard_conforming_strings` is taken to be on.

mod copy;
mod word;

use self::copy::CopyState;
use self::word::Words;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A statement without its semicolon and without the comments before it.
    Statement {
        text: &'a str,
        /// The line of its first character, from 1.
        line: u64,
        /// `COPY ... FROM stdin`: data follows.
        copies: bool,
    },
    /// Data of a COPY; cut anywhere, also inside a row. `rows` is how many end in it.
    CopyData { bytes: &'a [u8], rows: u64 },
    /// The line `\.`.
    CopyEnd,
    /// A comment `-- ...` between statements, without the dashes and the blank.
    Note(&'a str),
    /// A line with a command of psql, such as `\restrict`.
    Meta { text: &'a str, line: u64 },
}

/// Why a text cannot be cut; `E` is what the sink failed with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScanError<E> {
    #[error("line {line}: a statement is longer than {longest} bytes")]
    TooLong { line: u64, longest: usize },
    #[error("line {line}: the text is not UTF-8")]
    NotUtf8 { line: u64 },
    #[error("line {line}: a quote, a comment or a COPY that begins here has no end")]
    Unterminated { line: u64 },
    #[error("{0}")]
    Sink(E),
}

/// Longest statement in bytes, unless a scanner is told another; COPY data is not one.
pub const LONGEST: usize = 64 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Code,
    /// In `'...'`; `escapes`: a backslash escapes, as in `E'...'`.
    Text {
        escapes: bool,
        escaped: bool,
    },
    /// Behind a `'` that ends a text unless another follows.
    TextEnd {
        escapes: bool,
    },
    /// In `"..."`.
    Name,
    /// Behind a `$` that may begin `$tag$`.
    DollarTag {
        tag: Vec<u8>,
    },
    /// In `$tag$...$tag$`; `matched` bytes of the end were seen.
    Dollar {
        end: Vec<u8>,
        matched: usize,
    },
    LineComment,
    BlockComment {
        depth: u32,
        last: u8,
    },
    Meta,
    /// The rest of the line behind a COPY statement.
    CopyLine,
    Copy(CopyState),
}

/// Cuts a text that comes in chunks.
#[derive(Debug)]
pub struct StatementScanner {
    longest: usize,
    state: State,
    /// The statement so far, or the comment or command before it.
    text: Vec<u8>,
    words: Words,
    /// The byte before, in code.
    last: u8,
    parentheses: u32,
    /// Whether something else than blanks and comments was met.
    has_code: bool,
    line: u64,
    /// Where the statement began, and the quote or comment that is open.
    statement_line: u64,
    opened_line: u64,
    at_line_start: bool,
}

impl Default for StatementScanner {
    fn default() -> Self {
        Self::with_longest(LONGEST)
    }
}

impl StatementScanner {
    /// A scanner that takes no statement of more than so many bytes.
    pub fn with_longest(longest: usize) -> Self {
        Self {
            longest,
            state: State::Code,
            text: Vec::new(),
            words: Words::default(),
            last: b'\n',
            parentheses: 0,
            has_code: false,
            line: 1,
            statement_line: 1,
            opened_line: 1,
            at_line_start: true,
        }
    }

    /// Takes the next chunk and hands what it completes to `sink`.
    pub fn feed<E>(
        &mut self,
        mut chunk: &[u8],
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), ScanError<E>> {
        while let Some((&byte, rest)) = chunk.split_first() {
            if let State::Copy(copy) = &mut self.state {
                let (taken, ended) = copy.feed(chunk, &mut self.line, sink).map_err(ScanError::Sink)?;
                chunk = &chunk[taken..];
                if ended {
                    sink(Piece::CopyEnd).map_err(ScanError::Sink)?;
                    self.begin_statement();
                }
                continue;
            }
            self.take(byte, sink)?;
            if byte == b'\n' {
                self.line += 1;
            }
            self.at_line_start = byte == b'\n';
            chunk = rest;
        }
        Ok(())
    }

    /// The end of the text: hands out a last statement without a semicolon.
    pub fn finish<E>(mut self, sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), ScanError<E>> {
        match self.state {
            State::LineComment | State::Meta => self.feed(b"\n", sink)?,
            State::TextEnd { .. } | State::DollarTag { .. } => self.state = State::Code,
            _ => {}
        }
        self.words.end_word(self.parentheses);
        match self.state {
            State::Code if self.has_code => self.end_statement(sink),
            State::Code | State::CopyLine => Ok(()),
            _ => Err(ScanError::Unterminated { line: self.opened_line }),
        }
    }

    fn begin_statement(&mut self) {
        self.state = State::Code;
        self.text.clear();
        self.words = Words::default();
        self.last = b'\n';
        self.parentheses = 0;
        self.has_code = false;
        self.at_line_start = true;
    }

    fn push<E>(&mut self, byte: u8) -> Result<(), ScanError<E>> {
        if self.text.len() >= self.longest {
            return Err(ScanError::TooLong { line: self.statement_line, longest: self.longest });
        }
        self.text.push(byte);
        Ok(())
    }

    fn take<E>(&mut self, byte: u8, sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), ScanError<E>> {
        match &mut self.state {
            State::Code => return self.take_code(byte, sink),
            State::Text { escapes, escaped } => {
                if *escaped {
                    *escaped = false;
                } else if byte == b'\'' {
                    self.state = State::TextEnd { escapes: *escapes };
                } else if *escapes && byte == b'\\' {
                    *escaped = true;
                }
            }
            State::TextEnd { escapes } => {
                let escapes = *escapes;
                if byte != b'\'' {
                    self.state = State::Code;
                    return self.take_code(byte, sink);
                }
                self.state = State::Text { escapes, escaped: false };
            }
            State::Name => {
                if byte == b'"' {
                    self.state = State::Code;
                    self.words.quoted_name();
                }
            }
            State::DollarTag { tag } => match byte {
                b'$' => {
                    let end = [b"$", tag.as_slice(), b"$"].concat();
                    self.opened_line = self.line;
                    self.state = State::Dollar { end, matched: 0 };
                }
                _ if word::is_part(byte) && !(tag.is_empty() && byte.is_ascii_digit()) => tag.push(byte),
                _ => {
                    self.state = State::Code;
                    return self.take_code(byte, sink);
                }
            },
            State::Dollar { end, matched } => {
                *matched = match byte {
                    _ if byte == end[*matched] => *matched + 1,
                    b'$' => 1,
                    _ => 0,
                };
                if *matched == end.len() {
                    self.state = State::Code;
                    self.last = b' ';
                }
            }
            State::LineComment => {
                if byte == b'\n' {
                    self.state = State::Code;
                    self.last = b'\n';
                    if !self.has_code {
                        let text = std::mem::take(&mut self.text);
                        if let Some(note) = text.strip_prefix(b"-- ") {
                            let note = utf8(note, self.line)?;
                            sink(Piece::Note(note)).map_err(ScanError::Sink)?;
                        }
                        return Ok(());
                    }
                }
            }
            State::BlockComment { depth, last } => {
                match (*last, byte) {
                    (b'*', b'/') => {
                        *depth -= 1;
                        *last = 0;
                    }
                    (b'/', b'*') => {
                        *depth += 1;
                        *last = 0;
                    }
                    _ => *last = byte,
                }
                if *depth == 0 {
                    self.state = State::Code;
                    self.last = b' ';
                    if !self.has_code {
                        self.text.clear();
                        return Ok(());
                    }
                }
            }
            State::Meta => {
                if byte == b'\n' {
                    let text = std::mem::take(&mut self.text);
                    let line = self.line;
                    sink(Piece::Meta { text: utf8(&text, line)?.trim_end(), line }).map_err(ScanError::Sink)?;
                    self.begin_statement();
                    return Ok(());
                }
            }
            State::CopyLine => {
                if byte == b'\n' {
                    self.state = State::Copy(CopyState::default());
                }
                return Ok(());
            }
            // Handled by `feed`.
            State::Copy(_) => return Ok(()),
        }
        self.push(byte)
    }

    fn take_code<E>(
        &mut self,
        byte: u8,
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), ScanError<E>> {
        let last = std::mem::replace(&mut self.last, byte);
        let continues_word = byte != b'$' || word::is_part(last);
        if word::is_part(byte) && continues_word {
            self.words.push(byte);
        } else {
            let is_escape_string = byte == b'\'' && self.words.is_escape_prefix();
            self.words.end_word(self.parentheses);
            match byte {
                b'\'' => {
                    self.opened_line = self.line;
                    self.state = State::Text { escapes: is_escape_string, escaped: false };
                }
                b'"' => {
                    self.opened_line = self.line;
                    self.state = State::Name;
                }
                b'$' => self.state = State::DollarTag { tag: Vec::new() },
                b'-' if last == b'-' => {
                    self.state = State::LineComment;
                    if !self.has_code {
                        self.text.clear();
                        self.text.extend_from_slice(b"--");
                        return Ok(());
                    }
                }
                b'*' if last == b'/' => {
                    self.opened_line = self.line;
                    self.state = State::BlockComment { depth: 1, last: 0 };
                    if !self.has_code {
                        self.text.clear();
                        return Ok(());
                    }
                }
                b'(' => self.parentheses += 1,
                b')' => self.parentheses = self.parentheses.saturating_sub(1),
                b';' if self.parentheses == 0 && !self.words.is_in_body() => {
                    if self.has_code {
                        return self.end_statement(sink);
                    }
                    self.begin_statement();
                    self.at_line_start = false;
                    return Ok(());
                }
                b'\\' if !self.has_code && self.at_line_start => self.state = State::Meta,
                _ => {}
            }
        }
        if !self.has_code {
            if byte.is_ascii_whitespace() {
                return Ok(());
            }
            // A lone `-` or `/` is code only when no comment follows; it is kept, and taken back by the comment.
            if !matches!(byte, b'-' | b'/') && self.state != State::Meta {
                self.has_code = true;
                self.statement_line = self.line;
            }
        }
        self.push(byte)
    }

    fn end_statement<E>(&mut self, sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), ScanError<E>> {
        let text = std::mem::take(&mut self.text);
        let line = self.statement_line;
        let copies = self.words.copies_from_stdin();
        sink(Piece::Statement { text: utf8(&text, line)?.trim_end(), line, copies }).map_err(ScanError::Sink)?;
        self.begin_statement();
        self.at_line_start = false;
        if copies {
            self.opened_line = line;
            self.state = State::CopyLine;
        }
        Ok(())
    }
}

fn utf8<E>(bytes: &[u8], line: u64) -> Result<&str, ScanError<E>> {
    std::str::from_utf8(bytes).map_err(|_| ScanError::NotUtf8 { line })
}

/// One statement of a whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub text: String,
    /// The line of its first character, from 1.
    pub line: u64,
    /// `COPY ... FROM stdin`, whose data was left out.
    pub copies: bool,
}

/// Cuts a whole text. Commands of psql are an error: only psql knows them.
pub fn split(sql: &str) -> Result<Vec<Statement>, ScanError<String>> {
    let mut statements = Vec::new();
    let mut scanner = StatementScanner::default();
    let mut sink = |piece: Piece<'_>| {
        match piece {
            Piece::Statement { text, line, copies } => {
                statements.push(Statement { text: text.to_owned(), line, copies });
            }
            Piece::Meta { text, line } => return Err(format!("line {line}: \"{text}\" is a command of psql, no SQL")),
            Piece::CopyData { .. } | Piece::CopyEnd | Piece::Note(_) => {}
        }
        Ok(())
    };
    scanner.feed(sql.as_bytes(), &mut sink)?;
    scanner.finish(&mut sink)?;
    Ok(statements)
}

#[cfg(test)]
mod tests;
