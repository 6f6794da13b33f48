//! The prepared statements of one connection: named at second use, a bounded number, least recently used closed first.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use foldhash::fast::RandomState;
use lru::LruCache;

/// Plans depend on role and search path, so a statement is prepared once for each scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StatementKey {
    /// Role and search path the statement is parsed under.
    pub(super) scope: Arc<str>,
    pub(super) sql: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Used once, unnamed.
    Seen,
    /// A Parse with the name is under way.
    Parsing,
    Prepared,
}

struct Entry {
    number: u32,
    state: State,
}

/// How a statement is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Send {
    Unnamed,
    /// Parse under this name, then bind it.
    Prepare(u32),
    Bind(u32),
}

pub(super) struct Statements {
    /// Statements are long texts, and hashed with each use.
    entries: LruCache<StatementKey, Entry, RandomState>,
    next: u32,
    /// Names to close with the next unit.
    closing: Vec<u32>,
    /// False behind a transaction pooler, which cannot keep statements.
    named: bool,
}

impl Statements {
    pub(super) fn new(capacity: usize) -> Self {
        let named = capacity > 0;
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self { entries: LruCache::with_hasher(capacity, RandomState::default()), next: 0, closing: Vec::new(), named }
    }

    /// How to send a statement in a unit that already has these Parse messages.
    pub(super) fn send(&mut self, key: &StatementKey, parses: &VecDeque<Option<StatementKey>>) -> Send {
        if !self.named {
            return Send::Unnamed;
        }
        if let Some(entry) = self.entries.get_mut(key) {
            return match entry.state {
                State::Prepared => Send::Bind(entry.number),
                State::Seen => {
                    entry.state = State::Parsing;
                    Send::Prepare(entry.number)
                }
                // When the Parse fails, the server skips the rest of its unit anyway.
                State::Parsing if parses.iter().flatten().any(|parsed| parsed == key) => Send::Bind(entry.number),
                // In another unit it may not be there.
                State::Parsing => Send::Unnamed,
            };
        }
        self.next += 1;
        let entry = Entry { number: self.next, state: State::Seen };
        if let Some((_, old)) = self.entries.push(key.clone(), entry)
            && old.state != State::Seen
        {
            self.closing.push(old.number);
        }
        Send::Unnamed
    }

    /// Names to close before anything else of a unit, where no error can have made the server skip the message.
    pub(super) fn take_closing(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.closing)
    }

    /// The server answered the Parse of `key` (`done`), or skipped or refused it.
    pub(super) fn parsed(&mut self, key: &StatementKey, done: bool) {
        if let Some(entry) = self.entries.peek_mut(key) {
            entry.state = if done { State::Prepared } else { State::Seen };
        }
    }

    /// The server no longer has any statement.
    pub(super) fn forget_all(&mut self) {
        // Some may still be there; closing one that is not is no error.
        self.closing.extend(self.entries.iter().filter(|(_, e)| e.state != State::Seen).map(|(_, e)| e.number));
        self.entries.clear();
    }

    /// The server no longer has the statement, or its plan became unusable.
    pub(super) fn forget(&mut self, key: &StatementKey) {
        if let Some(entry) = self.entries.pop(key)
            && entry.state != State::Seen
        {
            self.closing.push(entry.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sql: &str) -> StatementKey {
        StatementKey { scope: "anon".into(), sql: sql.into() }
    }

    /// In a unit without Parse messages.
    fn send(statements: &mut Statements, sql: &str) -> Send {
        statements.send(&key(sql), &VecDeque::new())
    }

    #[test]
    fn a_statement_is_named_at_second_use_and_closed_when_evicted() {
        let mut statements = Statements::new(1);
        assert_eq!(send(&mut statements, "a"), Send::Unnamed);
        assert_eq!(send(&mut statements, "a"), Send::Prepare(1));
        assert_eq!(send(&mut statements, "a"), Send::Unnamed, "while its Parse is under way");
        let own = VecDeque::from([None, Some(key("a"))]);
        assert_eq!(statements.send(&key("a"), &own), Send::Bind(1), "in the unit of its Parse");
        statements.parsed(&key("a"), true);
        assert_eq!(send(&mut statements, "a"), Send::Bind(1));
        assert_eq!(statements.take_closing(), Vec::<u32>::new());
        assert_eq!(send(&mut statements, "b"), Send::Unnamed);
        assert_eq!(statements.take_closing(), vec![1]);
    }

    #[test]
    fn a_failed_parse_is_tried_again() {
        let mut statements = Statements::new(8);
        send(&mut statements, "a");
        assert_eq!(send(&mut statements, "a"), Send::Prepare(1));
        statements.parsed(&key("a"), false);
        assert_eq!(send(&mut statements, "a"), Send::Prepare(1));
        statements.parsed(&key("a"), true);
        statements.forget(&key("a"));
        assert_eq!(statements.take_closing(), vec![1]);
        assert_eq!(send(&mut statements, "a"), Send::Unnamed);
        assert_eq!(send(&mut statements, "a"), Send::Prepare(2));
        statements.forget_all();
        assert_eq!(statements.take_closing(), vec![2]);
        assert_eq!(send(&mut statements, "a"), Send::Unnamed);
    }
}
