//! Just enough of Rust's lexical grammar to tell code, comments and strings apart.

/// A Rust file taken apart. Line numbers are those of the file.
#[derive(Debug, Default)]
pub(super) struct RustSource {
    /// The lines with comments and the contents of strings left out.
    pub(super) code: Vec<String>,
    /// Strings and the lines they start on.
    pub(super) strings: Vec<(usize, String)>,
    /// The first line of the test module at the end of the file, or one past the last line.
    pub(super) tests_from: usize,
}

impl RustSource {
    pub(super) fn parse(text: &str) -> Self {
        let mut scanner = Scanner { rest: text.chars().collect(), at: 0, out: Self::default(), line: String::new() };
        scanner.run();
        let mut source = scanner.out;
        source.tests_from = source.find_tests();
        source
    }

    /// The lines of code that are not tests, with their numbers from 1.
    pub(super) fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(i, line)| (i + 1, line.as_str())).take_while(|(n, _)| *n < self.tests_from)
    }

    /// The strings that are not in tests.
    pub(super) fn product_strings(&self) -> impl Iterator<Item = (usize, &str)> {
        self.strings.iter().map(|(line, text)| (*line, text.as_str())).filter(|(line, _)| *line < self.tests_from)
    }

    fn find_tests(&self) -> usize {
        let opens_module = |line: &str| line.trim_start().starts_with("mod ") && line.trim_end().ends_with('{');
        let marked = |i: &usize| {
            self.code[*i].trim() == "#[cfg(test)]" && self.code.get(i + 1).is_some_and(|next| opens_module(next))
        };
        (0..self.code.len()).find(marked).unwrap_or(self.code.len()) + 1
    }
}

struct Scanner {
    rest: Vec<char>,
    at: usize,
    out: RustSource,
    line: String,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> char {
        self.rest.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// Moves on by one character that is no code.
    fn skip(&mut self) -> char {
        let c = self.peek(0);
        self.at += 1;
        if c == '\n' {
            self.out.code.push(std::mem::take(&mut self.line));
        }
        c
    }

    fn run(&mut self) {
        while self.at < self.rest.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '/') => {
                    while self.at < self.rest.len() && self.peek(0) != '\n' {
                        self.skip();
                    }
                }
                ('/', '*') => self.block_comment(),
                ('"', _) => self.string(),
                ('r', '"' | '#') if !self.in_word() && self.raw_string_hashes().is_some() => self.raw_string(),
                ('\'', _) => self.character_or_lifetime(),
                ('\n', _) => {
                    self.skip();
                }
                (c, _) => {
                    self.line.push(c);
                    self.at += 1;
                }
            }
        }
        if !self.line.is_empty() {
            self.out.code.push(std::mem::take(&mut self.line));
        }
    }

    /// Whether the character before is part of a name, so that an `r` here is too. `br` and `cr` begin raw strings.
    fn in_word(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).map(|i| self.rest[i]).unwrap_or(' ');
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        is_word(before(1)) && (is_word(before(2)) || !matches!(before(1), 'b' | 'c'))
    }

    fn raw_string_hashes(&self) -> Option<usize> {
        let hashes = (1..).take_while(|i| self.peek(*i) == '#').count();
        (self.peek(hashes + 1) == '"').then_some(hashes)
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.rest.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.skip();
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let start = self.out.code.len() + 1;
        let mut text = String::new();
        self.skip();
        while self.at < self.rest.len() {
            match self.skip() {
                '"' => break,
                '\\' => match self.skip() {
                    // A line break after a backslash swallows the blanks that follow.
                    '\n' => {
                        while self.peek(0).is_whitespace() && self.at < self.rest.len() {
                            self.skip();
                        }
                    }
                    'n' | 't' => text.push(' '),
                    c => text.push(c),
                },
                c => text.push(c),
            }
        }
        self.line.push_str("\"\"");
        self.out.strings.push((start, text));
    }

    fn raw_string(&mut self) {
        let start = self.out.code.len() + 1;
        let hashes = self.raw_string_hashes().unwrap_or(0);
        self.at += hashes + 2;
        let mut text = String::new();
        while self.at < self.rest.len() {
            if self.peek(0) == '"' && (1..=hashes).all(|i| self.peek(i) == '#') {
                self.at += hashes + 1;
                break;
            }
            text.push(self.skip());
        }
        self.line.push_str("\"\"");
        self.out.strings.push((start, text));
    }

    fn character_or_lifetime(&mut self) {
        // 'x' and '\n' are characters; 'static is a lifetime.
        if self.peek(1) == '\\' {
            self.at += 3;
            while self.at < self.rest.len() && self.skip() != '\'' {}
        } else if self.peek(2) == '\'' {
            self.at += 3;
        } else {
            self.at += 1;
        }
        self.line.push('\'');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_strings_and_comments_are_told_apart() {
        let source = RustSource::parse(
            "let a = \"select 1\"; // todo!()\n/* dbg!( /* x */ y */ let r = r#\"a \"b\" c\"#;\nlet c = '\"'; let d: &'static str = \"x\\\n   y\";\nfor_r(\"z\");\n",
        );
        assert_eq!(source.code[0].trim_end(), "let a = \"\";");
        assert_eq!(source.code[1].trim(), "let r = \"\";");
        assert!(source.code[2].ends_with("str = "), "{:?}", source.code);
        assert_eq!(source.code[3].trim(), "\"\";");
        let strings: Vec<(usize, &str)> = source.product_strings().collect();
        assert_eq!(strings, [(1, "select 1"), (2, "a \"b\" c"), (3, "xy"), (5, "z")]);
    }

    #[test]
    fn the_test_module_is_not_the_product() {
        let source = RustSource::parse("fn a() {}\n#[cfg(test)]\nmod tests {\n    dbg!();\n}\n");
        assert_eq!(source.product_code().count(), 1);
        let source = RustSource::parse("#[cfg(test)]\nmod tests;\nfn a() {}\n");
        assert_eq!(source.product_code().count(), 3);
    }
}
