//! Patterns of the redirect list: `*` is anything but `.` and `/`, `**` anything, `?` one character but those, `[a-z]` and
//! `[!a-z]` one of a class, `{a,b}` one of some texts, `\` takes the next character as it is.

/// Deepest nesting of alternatives.
const DEEPEST: usize = 4;

/// Work that the patterns of one request may make together: no URL is worth more, and owners write the patterns.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(100_000)
    }

    /// Whether so much is left; it is spent either way.
    fn spend(&mut self, work: usize) -> bool {
        let left = self.0.checked_sub(work);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}

fn is_separator(character: char) -> bool {
    character == '.' || character == '/'
}

/// Whether an entry of the list fits a URL, of which `authority` ends where its path begins. The host is compared with
/// what the entry says of hosts, so that no wildcard there reaches over the path. An entry that cannot be read fits
/// nothing, and neither does one for which nothing of the budget is left.
pub(super) fn matches(entry: &str, url: &str, authority: usize, budget: &mut Budget) -> bool {
    if !budget.spend(entry.len()) {
        return false;
    }
    let entry: Vec<char> = entry.chars().collect();
    let whole = |text: &str| text.chars().collect::<Vec<char>>();
    let Some(end) = authority_end(&entry) else {
        return budget.spend(url.len()) && fits(&entry, &whole(url), DEEPEST, budget);
    };
    let (host, path) = entry.split_at(end);
    let path: &[char] = match path {
        [] if host.ends_with(&['*', '*']) => &['*', '*'],
        // `https://a.b` and `https://a.b/` are one place.
        [] => &['/'],
        path => path,
    };
    let (authority, rest) = url.split_at_checked(authority).unwrap_or((url, ""));
    let rest = if rest.is_empty() { "/" } else { rest };
    budget.spend(url.len())
        && fits(host, &whole(authority), DEEPEST, budget)
        && fits(path, &whole(rest), DEEPEST, budget)
}

/// Where the authority of an entry like `scheme://authority/path` ends; none if it has no such shape.
fn authority_end(entry: &[char]) -> Option<usize> {
    let start = entry.windows(3).position(|window| window == [':', '/', '/'])? + 3;
    let (mut nested, mut i) = (0_usize, 0);
    while let Some(c) = entry.get(i) {
        match c {
            '\\' => i += 1,
            '[' | '{' => nested += 1,
            ']' | '}' => nested = nested.saturating_sub(1),
            '/' if nested == 0 && i >= start => return Some(i),
            _ => {}
        }
        // `://` inside of alternatives is no scheme of the whole entry.
        if i + 1 == start && nested > 0 {
            return None;
        }
        i += 1;
    }
    Some(entry.len())
}

fn fits(mut pattern: &[char], mut text: &[char], depth: usize, budget: &mut Budget) -> bool {
    loop {
        if !budget.spend(1) {
            return false;
        }
        let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
        let (set, behind) = match first {
            '*' => {
                let any = rest.first() == Some(&'*');
                let rest = if any { &rest[1..] } else { rest };
                for taken in 0..=text.len() {
                    if fits(rest, &text[taken..], depth, budget) {
                        return true;
                    }
                    if budget.0 == 0 || !any && text.get(taken).is_none_or(|c| is_separator(*c)) {
                        return false;
                    }
                }
                return false;
            }
            '{' => {
                return match alternatives(rest) {
                    Some((choices, behind)) if depth > 0 => choices.into_iter().any(|choice| {
                        let whole: Vec<char> = choice.iter().chain(behind).copied().collect();
                        budget.spend(rest.len()) && fits(&whole, text, depth - 1, budget)
                    }),
                    _ => false,
                };
            }
            '[' => match class(rest) {
                Some(class) if budget.spend(rest.len() - class.behind.len()) => {
                    (Set::Class(class.ranges, class.negated), class.behind)
                }
                _ => return false,
            },
            '?' => (Set::NoSeparator, rest),
            '\\' => match rest.split_first() {
                Some((literal, rest)) => (Set::Literal(*literal), rest),
                None => return false,
            },
            literal => (Set::Literal(*literal), rest),
        };
        match text.split_first() {
            Some((c, after)) if set.has(*c) => (pattern, text) = (behind, after),
            _ => return false,
        }
    }
}

/// What one character may be.
enum Set {
    Literal(char),
    NoSeparator,
    /// Ranges, and whether all but them are meant.
    Class(Vec<(char, char)>, bool),
}

impl Set {
    fn has(&self, c: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == c,
            Self::NoSeparator => !is_separator(c),
            Self::Class(ranges, negated) => ranges.iter().any(|(low, high)| (low..=high).contains(&&c)) != *negated,
        }
    }
}

struct Class<'a> {
    ranges: Vec<(char, char)>,
    negated: bool,
    behind: &'a [char],
}

/// What stands behind `[`.
fn class(pattern: &[char]) -> Option<Class<'_>> {
    let end = pattern.iter().skip(1).position(|c| *c == ']')? + 1;
    let (inner, behind) = (pattern.get(..end)?, pattern.get(end + 1..)?);
    let negated = inner.first() == Some(&'!');
    let inner = if negated { &inner[1..] } else { inner };
    let mut ranges = Vec::new();
    let mut i = 0;
    while let Some(low) = inner.get(i) {
        match (inner.get(i + 1), inner.get(i + 2)) {
            (Some('-'), Some(high)) => {
                ranges.push((*low, *high));
                i += 3;
            }
            _ => {
                ranges.push((*low, *low));
                i += 1;
            }
        }
    }
    Some(Class { ranges, negated, behind })
}

/// What stands behind `{`: the texts, and the rest.
fn alternatives(pattern: &[char]) -> Option<(Vec<&[char]>, &[char])> {
    let (mut choices, mut start, mut depth) = (Vec::new(), 0, 0);
    for (i, c) in pattern.iter().enumerate() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                choices.push(&pattern[start..i]);
                return Some((choices, &pattern[i + 1..]));
            }
            ',' if depth == 0 => {
                choices.push(&pattern[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authority of `text` ends at its third slash, if it has one.
    fn fit(entry: &str, text: &str) -> bool {
        let authority = text.match_indices('/').nth(2).map_or(text.len(), |(at, _)| at);
        matches(entry, text, authority, &mut Budget::new())
    }

    #[test]
    fn patterns_fit_as_they_should() {
        let check = |entry: &str, text: &str, expected: bool| assert_eq!(fit(entry, text), expected, "{entry} {text}");
        check("https://a.b/*", "https://a.b/c", true);
        check("https://a.b/*", "https://a.b/c/d", false);
        check("https://a.b/*", "https://a.b/c.d", false);
        check("https://a.b/**", "https://a.b/c/d.e?f", true);
        check("https://a.b/**", "https://a.bc/d", false);
        check("https://a.b", "https://a.b/", true);
        check("https://a.b/", "https://a.b/", true);
        check("https://a.b/", "https://a.b/c", false);
        check("https://*.b.c", "https://a.b.c/", true);
        check("https://*.b.c", "https://a.x.b.c/", false);
        check("https://**.b.c/x", "https://a.x.b.c/x", true);
        check("https://**.b.c/x", "https://evil.d/.b.c/x", false);
        check("https://**", "https://a.b/c/d", true);
        check("**", "https://a.b/c/d", true);
        check("http://localhost:[0-9]*/**", "http://localhost:3000/x", true);
        check("{https://a.b,http://localhost:3000}/**", "http://localhost:3000/x", true);
        check("{https://a.b,http://localhost:3000}/**", "http://localhost:3001/x", false);
        check("https://{a,b/c}.d/e", "https://a.d/e", true);
        check("a?c", "abc", true);
        check("a?c", "a/c", false);
        check("v[0-9]", "v7", true);
        check("v[!0-9]", "v7", false);
        check("{http,https}://x", "https://x/", true);
        check("{http,https}://x", "ftp://x/", false);
        check(r"a\*b", "a*b", true);
        check(r"a\*b", "axb", false);
        check("[", "[", false);
        check("{a", "{a", false);
    }

    #[test]
    fn hostile_patterns_end_together() {
        let mut budget = Budget::new();
        let classes = format!("a://{}[{}]", "**a".repeat(30), "b".repeat(1_900));
        for entry in ["**a".repeat(60), format!("{}c", "**a**b".repeat(40)), classes, "{a,b}".repeat(400)] {
            for text in ["a".repeat(59), "ab".repeat(2000), format!("a://{}", "a".repeat(4_000))] {
                assert!(!matches(&entry, &text, text.len(), &mut budget), "{entry}");
            }
        }
        assert_eq!(budget.0, 0);
        assert!(!matches("a", "a", 1, &mut budget), "nothing is left");
    }
}
