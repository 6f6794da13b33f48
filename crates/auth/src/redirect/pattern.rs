//! Patterns of the redirect list: `*` is anything but `.` and `/`, `**` anything, `?` one character but those, `[a-z]` and
//! `[!a-z]` one of a class, `{a,b}` one of some texts, `\` takes the next character as it is.

/// Deepest nesting of alternatives.
const DEEPEST: usize = 4;
/// Steps after which a pattern is given up: no URL is worth more.
const MOST_STEPS: usize = 200_000;

fn is_separator(character: char) -> bool {
    character == '.' || character == '/'
}

/// Whether the whole of `text` fits the pattern. One that cannot be read fits nothing.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    fits(&pattern, &text, DEEPEST, &mut MOST_STEPS.clone())
}

fn fits(pattern: &[char], text: &[char], depth: usize, steps: &mut usize) -> bool {
    let Some(left) = steps.checked_sub(1) else { return false };
    *steps = left;
    let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
    match first {
        '*' => {
            let any = rest.first() == Some(&'*');
            let rest = if any { &rest[1..] } else { rest };
            for taken in 0..=text.len() {
                if fits(rest, &text[taken..], depth, steps) {
                    return true;
                }
                if !any && text.get(taken).is_none_or(|c| is_separator(*c)) {
                    return false;
                }
            }
            false
        }
        '?' => text.split_first().is_some_and(|(c, text)| !is_separator(*c) && fits(rest, text, depth, steps)),
        '[' => match (class(rest), text.split_first()) {
            (Some((set, negated, rest)), Some((c, text))) => {
                set.iter().any(|(low, high)| (low..=high).contains(&c)) != negated && fits(rest, text, depth, steps)
            }
            _ => false,
        },
        '{' => match alternatives(rest) {
            Some((choices, rest)) if depth > 0 => choices.into_iter().any(|choice| {
                let whole: Vec<char> = choice.iter().chain(rest).copied().collect();
                fits(&whole, text, depth - 1, steps)
            }),
            _ => false,
        },
        '\\' => match (rest.split_first(), text.split_first()) {
            (Some((literal, rest)), Some((c, text))) => literal == c && fits(rest, text, depth, steps),
            _ => false,
        },
        literal => text.split_first().is_some_and(|(c, text)| c == literal && fits(rest, text, depth, steps)),
    }
}

type Class<'a> = (Vec<(char, char)>, bool, &'a [char]);

/// What stands behind `[`: ranges, whether they are negated, and the rest.
fn class(pattern: &[char]) -> Option<Class<'_>> {
    let end = pattern.iter().skip(1).position(|c| *c == ']')? + 1;
    let (inner, rest) = (pattern.get(..end)?, pattern.get(end + 1..)?);
    let negated = inner.first() == Some(&'!');
    let inner = if negated { &inner[1..] } else { inner };
    let mut set = Vec::new();
    let mut i = 0;
    while let Some(low) = inner.get(i) {
        match (inner.get(i + 1), inner.get(i + 2)) {
            (Some('-'), Some(high)) => {
                set.push((*low, *high));
                i += 3;
            }
            _ => {
                set.push((*low, *low));
                i += 1;
            }
        }
    }
    Some((set, negated, rest))
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

    #[test]
    fn patterns_fit_as_they_should() {
        let check = |pattern: &str, text: &str, fit: bool| {
            assert_eq!(matches(pattern, text), fit, "{pattern} {text}");
        };
        check("https://a.b/*", "https://a.b/c", true);
        check("https://a.b/*", "https://a.b/c/d", false);
        check("https://a.b/*", "https://a.b/c.d", false);
        check("https://a.b/**", "https://a.b/c/d.e?f", true);
        check("https://a.b/**", "https://a.b", false);
        check("https://*.b.c", "https://a.b.c", true);
        check("https://*.b.c", "https://a.x.b.c", false);
        check("a?c", "abc", true);
        check("a?c", "a/c", false);
        check("v[0-9]", "v7", true);
        check("v[!0-9]", "v7", false);
        check("{http,https}://x", "https://x", true);
        check("{http,https}://x", "ftp://x", false);
        check(r"a\*b", "a*b", true);
        check(r"a\*b", "axb", false);
        check("[", "[", false);
        check("{a", "{a", false);
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let pattern = "**a".repeat(60);
        assert!(!matches(&pattern, &"a".repeat(59)));
        assert!(!matches(&format!("{}c", "**a**b".repeat(40)), &"ab".repeat(2000)));
    }
}
