//! Texts that a client chooses: values and names full of what has a meaning in SQL, each with a mark by which it is
//! found again.

use seeded::Random;

/// What every value begins with. No SQL of ours, and nothing in the schema, contains it.
pub(crate) const VALUE_MARK: &str = "zqv";
/// What every name that the schema does not have begins with.
pub(crate) const NAME_MARK: &str = "zqn";

const HOSTILE: [&str; 24] = [
    "",
    "'",
    "''; drop table clients; --",
    "\"",
    "\"; select 1; --",
    "\\",
    "\\'",
    "\\\"",
    "\0",
    "\0'",
    "$1",
    "$$",
    "$a$ select $a$",
    "--",
    "/* ",
    "*/",
    ";",
    "%",
    "*",
    "é\u{301}",
    "\u{2019}\u{ff07}",
    "😀",
    "\u{feff}\u{85}\u{2028}",
    "\r\n\t",
];

/// Without what ends a value in lists and logic trees.
const PLAIN_ENDS: [&str; 6] = ["", " ", "=", "{", "}", "["];

/// The next marked text: `zqv17z` and something hostile.
pub(crate) struct Texts {
    random: Random,
    count: usize,
    /// The marks that were given out in values.
    pub(crate) values: Vec<String>,
}

impl Texts {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), count: 0, values: Vec::new() }
    }

    fn marked(&mut self, mark: &str) -> String {
        self.count += 1;
        format!("{mark}{}z", self.count)
    }

    /// Any text, to stand alone or in quotes.
    pub(crate) fn value(&mut self) -> String {
        let mark = self.marked(VALUE_MARK);
        let mut text = mark.clone();
        self.values.push(mark);
        for _ in 0..self.random.below(4) {
            text.push_str(self.random.pick(&HOSTILE));
        }
        text
    }

    /// A text that needs no quotes in lists and logic trees.
    pub(crate) fn plain_value(&mut self) -> String {
        let mut text = self.value().replace([',', ')', '(', '"'], "");
        text.push_str(self.random.pick(&PLAIN_ENDS));
        text
    }

    /// A name that the schema does not have, to stand in quotes.
    pub(crate) fn name(&mut self) -> String {
        let mut text = self.marked(NAME_MARK);
        for _ in 0..self.random.below(3) {
            text.push_str(self.random.pick(&HOSTILE));
        }
        text
    }

    /// A name that needs no quotes.
    pub(crate) fn plain_name(&mut self) -> String {
        let mut text = self.marked(NAME_MARK);
        text.push_str(self.random.pick(&["", "_a", "$", "$$", "é", " b", "-c"]));
        text
    }
}

/// `"..."` with `\` before `"` and `\`, as the query string has it.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
