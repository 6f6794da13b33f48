//! E-mail addresses and phone numbers: what counts as one, and the form in which they are stored and compared.

use crate::error::Error;

const LONGEST_EMAIL: usize = 254;

/// An address in its stored form, in lower case. Nothing in it can end a header line of a mail.
pub(crate) fn email(text: Option<&str>) -> Result<String, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Err(Error::invalid("An email address is required"));
    };
    if text.len() > LONGEST_EMAIL {
        return Err(Error::invalid("An email address is too long"));
    }
    if !is_email(text) {
        return Err(Error::invalid("Unable to validate email address: invalid format"));
    }
    Ok(text.to_ascii_lowercase())
}

fn is_email(text: &str) -> bool {
    const SPECIAL: &str = "!#$%&'*+/=?^_`{|}~-";
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || SPECIAL.contains(c));
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    (1..=64).contains(&local.len())
        && local.split('.').all(atom)
        && domain.contains('.')
        && domain.split('.').all(label)
}

/// The form in which an address that somebody signs in with is looked for; it need not be a good one.
pub(crate) fn email_key(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// A number in its stored form: digits only, country code first (E.164 without the plus sign).
pub(crate) fn phone(text: Option<&str>) -> Result<String, Error> {
    let digits = phone_key(text.unwrap_or_default());
    let fits =
        (2..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if fits { Ok(digits) } else { Err(Error::invalid("Invalid phone number format (E.164 required)")) }
}

/// The form in which a number is looked for.
pub(crate) fn phone_key(text: &str) -> String {
    text.trim().trim_start_matches('+').chars().filter(|c| *c != ' ').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_lowered() {
        for (given, stored) in [("Ann@Example.org", "ann@example.org"), ("a.b+c@x-y.co", "a.b+c@x-y.co")] {
            assert_eq!(email(Some(given)).unwrap(), stored);
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for bad in [
            "",
            "a",
            "a@",
            "@b.c",
            "a@b",
            "a b@c.de",
            "a@b..c",
            ".a@b.cd",
            "a@-b.cd",
            "a@b.cd\r\nBcc: x@y.zz",
            "a\0@b.cd",
            "a@b.cd ",
            "<a@b.cd>",
            "a@b.cd,c@d.ef",
            "a@b@c.de",
            &long,
        ] {
            assert!(email(Some(bad)).is_err(), "{bad:?}");
        }
        assert!(email(None).is_err());
    }

    #[test]
    fn numbers_lose_their_plus_sign_and_blanks() {
        assert_eq!(phone(Some("+49 151 123")).unwrap(), "49151123");
        for bad in ["", "+", "0151", "12a", "1234567890123456", "1"] {
            assert!(phone(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
