//! What the words of a statement tell about where it ends.

/// Words that decide are the first ones; no statement needs more of them.
const FIRST_WORDS: usize = 4;
/// Longer words decide nothing.
const LONGEST_WORD: usize = 16;

/// Whether a byte can be part of an identifier.
pub(super) fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// The words of a statement so far.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// The word that is being read, in lower case.
    word: Vec<u8>,
    first: Vec<Vec<u8>>,
    /// Depth of `BEGIN`, `CASE` and `END` in a function written with `BEGIN ATOMIC`.
    body: u32,
    after_from: bool,
    from_stdin: bool,
}

impl Words {
    pub(super) fn push(&mut self, byte: u8) {
        if self.word.len() <= LONGEST_WORD {
            self.word.push(byte.to_ascii_lowercase());
        }
    }

    /// Whether a quote right here begins a text in which backslashes escape.
    pub(super) fn is_escape_prefix(&self) -> bool {
        self.word == b"e"
    }

    /// A quoted name stands for a word that is no keyword.
    pub(super) fn quoted_name(&mut self) {
        self.after_from = false;
        if self.first.len() < FIRST_WORDS {
            self.first.push(Vec::new());
        }
    }

    pub(super) fn end_word(&mut self, parentheses: u32) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        if parentheses == 0 {
            match word.as_slice() {
                b"begin" if self.makes_function() => self.body += 1,
                b"case" if self.body > 0 => self.body += 1,
                b"end" => self.body = self.body.saturating_sub(1),
                b"stdin" if self.after_from => self.from_stdin = true,
                _ => {}
            }
            self.after_from = word == b"from";
        }
        if self.first.len() < FIRST_WORDS {
            self.first.push(word);
        }
    }

    /// Whether a semicolon here is one of a function's body.
    pub(super) fn is_in_body(&self) -> bool {
        self.body > 0
    }

    pub(super) fn copies_from_stdin(&self) -> bool {
        self.from_stdin && self.first.first().is_some_and(|word| word == b"copy")
    }

    fn makes_function(&self) -> bool {
        let word = |at: usize| self.first.get(at).map(Vec::as_slice).unwrap_or_default();
        let is_routine = |word: &[u8]| word == b"function" || word == b"procedure";
        word(0) == b"create"
            && (is_routine(word(1)) || (word(1) == b"or" && word(2) == b"replace" && is_routine(word(3))))
    }
}
