//! Which passwords a project takes.

use base::AuthSettings;

use crate::error::Error;
use crate::password::LONGEST;

/// Refuses a password that is too short, too long, or lacks characters that the project asks for.
pub(crate) fn check(settings: &AuthSettings, password: &str) -> Result<(), Error> {
    if password.len() > LONGEST {
        return Err(Error::invalid(format!("Password cannot be longer than {LONGEST} characters")));
    }
    let (mut messages, mut reasons) = (Vec::new(), Vec::new());
    if password.chars().count() < settings.password_min_length as usize {
        reasons.push("length");
        messages.push(format!("Password should be at least {} characters.", settings.password_min_length));
    }
    let sets = settings.required_character_sets();
    if sets.iter().any(|set| !password.contains(|character| set.contains(character))) {
        reasons.push("characters");
        messages.push(format!("Password should contain at least one character of each: {}.", sets.join(", ")));
    }
    if reasons.is_empty() { Ok(()) } else { Err(Error::weak_password(messages.join(" "), reasons)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let settings = AuthSettings {
            password_min_length: 8,
            password_required_characters: "abcdefghijklmnopqrstuvwxyz:0123456789".to_owned(),
            ..AuthSettings::default()
        };
        let check = |password: &str, reasons: &[&str]| {
            let view = check(&settings, password).err().and_then(|error| error.weak_password_view());
            let found = view.map_or(Vec::new(), |view| {
                view["reasons"].as_array().unwrap().iter().map(|r| r.as_str().unwrap().to_owned()).collect()
            });
            assert_eq!(found, reasons, "{password}");
        };
        check("abcdefg1", &[]);
        check("abcd1", &["length"]);
        check("abcdefgh", &["characters"]);
        check("ABC", &["length", "characters"]);
        assert_eq!(super::check(&settings, &"a1".repeat(37)).unwrap_err().code().name(), "validation_failed");
    }
}
