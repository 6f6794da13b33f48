//! Which values are too weak to be a secret: short, monotonous, or known from documentation and examples.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Texts that are whole secrets in widespread examples and defaults, in lower case.
const KNOWN_DEFAULTS: &[&str] = &[
    "postgres",
    "postgresql",
    "password",
    "passw0rd",
    "secret",
    "admin",
    "root",
    "supabase",
    "supabase_admin",
    "launchdb",
    "test",
    "default",
    "letmein",
    "qwerty",
    "123456",
    "12345678",
    "123456789",
    "1234567890",
    "reallyreallyreallyreallyverysafe",
];

/// Texts that show a value was never replaced, in lower case.
const PLACEHOLDER_PARTS: &[&str] = &[
    "changeme",
    "change-me",
    "change_me",
    "change-this",
    "change_this",
    "changethis",
    "replaceme",
    "replace-me",
    "replace_me",
    "placeholder",
    "your-",
    "your_",
    "yourpassword",
    "yoursecret",
    "example",
    "super-secret",
    "supersecret",
    "generate-",
    "generate_",
    "at-least-32",
    "at_least_32",
    "32-char",
    "insecure",
    "xxxxxxxx",
    "<",
    "${",
    "$(",
];

/// Whether the value is a known default or was plainly never replaced. The reason is for people.
pub fn placeholder_reason(value: &str) -> Option<&'static str> {
    let lower = value.trim().to_lowercase();
    if KNOWN_DEFAULTS.contains(&lower.as_str()) {
        return Some("is a default that everybody knows");
    }
    let found = |text: &str| PLACEHOLDER_PARTS.iter().any(|part| text.contains(part));
    if found(&lower) {
        return Some("still is the placeholder of an example");
    }
    // A placeholder that somebody put through base64.
    let decoded = BASE64_STANDARD.decode(value.trim()).ok().and_then(|raw| String::from_utf8(raw).ok());
    match decoded {
        Some(text) if text.len() >= 8 && found(&text.to_lowercase()) => {
            Some("is the placeholder of an example in base64")
        }
        _ => None,
    }
}

/// Why a value is no secret of at least `min_chars` characters.
pub fn weakness(value: &str, min_chars: usize) -> Option<String> {
    if let Some(reason) = placeholder_reason(value) {
        return Some(reason.to_owned());
    }
    let chars = value.chars().count();
    if chars < min_chars {
        return Some(format!("has {chars} characters, and needs {min_chars} or more"));
    }
    let mut distinct: Vec<char> = value.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    (distinct.len() < 8).then(|| format!("is made of only {} different characters", distinct.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_examples_print_is_refused() {
        for value in [
            "your-super-secret-and-long-postgres-password",
            "super-secret-jwt-token-with-at-least-32-characters-long",
            "changeme_changeme_changeme_changeme",
            "<base64 of 32 bytes>",
            "$(openssl rand -base64 32)",
            "Postgres",
            "eW91ci0zMi1ieXRlLWtleS1nb2VzLWhlcmUtb2shISE=",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "short",
        ] {
            assert!(weakness(value, 32).is_some(), "{value}");
        }
    }

    #[test]
    fn generated_values_are_accepted() {
        for _ in 0..200 {
            assert_eq!(weakness(&base::random::password(), 32), None);
            assert_eq!(weakness(&BASE64_STANDARD.encode(base::random::bytes::<32>()), 32), None);
            assert_eq!(weakness(&base::random::hex::<32>(), 32), None);
        }
    }
}
