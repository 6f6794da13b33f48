//! One-time tokens: a code for people and a token for links, both from one secret; only a hash is stored.
//!
//! The token is a MAC of address and code under a key of the project, so that a code that somebody types leads to the token
//! that a link has. Who reads the database finds SHA-256 of the token and can go neither way: without the key the code
//! cannot be tried out.

use base::{digest, random};
use ring::hmac;

use crate::cx::Cx;
use crate::pkce;

/// What a token is for (`auth.one_time_token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Confirmation,
    Reauthentication,
    Recovery,
    /// Sent to the new address.
    EmailChangeNew,
    /// Sent to the present address.
    EmailChangeCurrent,
    PhoneChange,
}

impl Purpose {
    const ALL: [Self; 6] = [
        Self::Confirmation,
        Self::Reauthentication,
        Self::Recovery,
        Self::EmailChangeNew,
        Self::EmailChangeCurrent,
        Self::PhoneChange,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Confirmation => "confirmation_token",
            Self::Reauthentication => "reauthentication_token",
            Self::Recovery => "recovery_token",
            Self::EmailChangeNew => "email_change_token_new",
            Self::EmailChangeCurrent => "email_change_token_current",
            Self::PhoneChange => "phone_change_token",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

/// A fresh code with its token.
pub(crate) struct OneTimeToken {
    /// Digits, for people.
    pub(crate) code: String,
    /// For links; begins with `pkce_` when the client of the flow has a verifier.
    pub(crate) token: String,
    /// What is stored.
    pub(crate) stored: String,
}

impl OneTimeToken {
    /// A token for what is sent to `address`, with a code of `length` digits.
    pub(crate) fn generate(cx: &Cx, address: &str, length: u32, pkce: bool) -> Self {
        let code = digits(length);
        let plain = token_of(cx, address, &code);
        let token = if pkce { format!("{}{plain}", pkce::PREFIX) } else { plain };
        Self { stored: stored(&token), code, token }
    }
}

/// What is stored of a token.
pub(crate) fn stored(token: &str) -> String {
    digest::sha256_hex(token.as_bytes())
}

/// The token that belongs to a code.
fn token_of(cx: &Cx, address: &str, code: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &cx.project.signing.derive("one-time tokens"));
    let tag = hmac::sign(&key, format!("{address}\0{code}").as_bytes());
    // As long as GoTrue's (SHA-224 in hex), which applications may check.
    random::to_hex(tag.as_ref().get(..28).unwrap_or_default())
}

/// How a code's token may be stored: of a flow without a verifier, or of one with.
pub(crate) fn stored_of_code(cx: &Cx, address: &str, code: &str) -> [String; 2] {
    let plain = token_of(cx, address, code);
    [stored(&plain), stored(&format!("{}{plain}", pkce::PREFIX))]
}

/// `length` random digits, each as likely as the others.
pub(crate) fn digits(length: u32) -> String {
    let mut out = String::new();
    while out.len() < length as usize {
        // 250 = 25 * 10: larger bytes are thrown away.
        let fresh = random::bytes::<16>();
        let wanted = length as usize - out.len();
        out.extend(fresh.iter().filter(|b| **b < 250).take(wanted).map(|b| char::from(b'0' + b % 10)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_length_and_all_digits() {
        let all: String = (0..200).map(|_| digits(6)).collect();
        assert_eq!(all.len(), 1200);
        assert!(('0'..='9').all(|digit| all.contains(digit)));
        assert_eq!(digits(10).len(), 10);
    }

    #[test]
    fn purposes_have_their_names() {
        for purpose in Purpose::ALL {
            assert_eq!(Purpose::from_name(purpose.name()), Some(purpose));
        }
    }
}
