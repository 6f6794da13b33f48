//! Passwords that everybody tries first: the twenty thousand most frequent ones of published leaks, from six characters on
//! (the list that Django ships, by Royce Williams after Have I Been Pwned). Looked up here: nothing about a password leaves
//! the server.

/// One password a line in lower case, in the order of its bytes.
const LIST: &str = include_str!("leaked.txt");

/// Whether a password is on the list, however its letters are written.
pub(super) fn is_leaked(password: &str) -> bool {
    let wanted = password.to_lowercase();
    let (mut low, mut high) = (0, LIST.len());
    while low < high {
        let middle =
            LIST.get(low..low + (high - low) / 2).map_or(low, |head| low + head.rfind('\n').map_or(0, |at| at + 1));
        let line = LIST.get(middle..).and_then(|rest| rest.split('\n').next()).unwrap_or_default();
        match line.cmp(wanted.as_str()) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = middle + line.len() + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_found_and_nothing_else() {
        let lines: Vec<&str> = LIST.lines().collect();
        assert!(lines.len() > 15_000 && lines.is_sorted());
        for line in &lines {
            assert!(is_leaked(line), "{line}");
        }
        assert!(is_leaked("PassWord") && is_leaked("qwerty123"));
        for other in [
            "",
            "a",
            "zzzzzzzzzzzzz",
            "correct horse battery",
            "password\n123456",
            "\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}",
        ] {
            assert!(!is_leaked(other), "{other}");
        }
    }
}
