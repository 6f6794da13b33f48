//! Identifiers that must not be swapped for one another.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::random;

/// The id of a project (`proj_` and 3 to 40 of `[a-z0-9]`); also the name of its database and of its owner role.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectRef(Arc<str>);

/// Why a text is no project id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a project id is \"proj_\" followed by 3 to 40 lower-case letters or digits")]
pub struct InvalidProjectRef;

impl ProjectRef {
    /// Checks `text` against `^proj_[a-z0-9]{3,40}$`.
    pub fn parse(text: &str) -> Result<Self, InvalidProjectRef> {
        let rest = text.strip_prefix("proj_").ok_or(InvalidProjectRef)?;
        let valid =
            (3..=40).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if valid { Ok(Self(text.into())) } else { Err(InvalidProjectRef) }
    }

    /// A fresh id: `proj_` and 16 lower-case hex characters.
    pub fn generate() -> Self {
        Self(format!("proj_{}", random::hex::<8>()).into())
    }

    /// Reads the DNS label form, in which `_` is written `-` (`proj-abc123`).
    pub fn from_dns_label(label: &str) -> Result<Self, InvalidProjectRef> {
        let rest = label.strip_prefix("proj-").ok_or(InvalidProjectRef)?;
        Self::parse(&format!("proj_{rest}"))
    }

    /// The DNS label form of the id.
    pub fn dns_label(&self) -> String {
        self.0.replace('_', "-")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The project's database; the same text as the id.
    pub fn database(&self) -> &str {
        &self.0
    }

    /// The login role of the project's owner; the same text as the id.
    pub fn owner_role(&self) -> &str {
        &self.0
    }

    /// The role as which the services connect (`<id>_authenticator`).
    pub fn authenticator_role(&self) -> String {
        format!("{}_authenticator", self.0)
    }
}

/// Lets a table keyed by ids be read with a plain text, without making an id of it first.
impl Borrow<str> for ProjectRef {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ProjectRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ProjectRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The id of an owner of the platform: a UUID in its text form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnerId(pub String);

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_ids_are_checked() {
        let check = |text: &str, valid: bool| assert_eq!(ProjectRef::parse(text).is_ok(), valid, "{text:?}");
        check("proj_abc123", true);
        check("proj_abc", true);
        check("proj_ab", false);
        check(&format!("proj_{}", "a".repeat(40)), true);
        check(&format!("proj_{}", "a".repeat(41)), false);
        check("proj_ABC", false);
        check("proj_a_b", false);
        check("proj_a-b", false);
        check("proj_abc\n", false);
        check("abc", false);
        check("", false);
    }

    #[test]
    fn dns_label_round_trips() {
        let id = ProjectRef::generate();
        assert_eq!(ProjectRef::from_dns_label(&id.dns_label()), Ok(id));
    }
}
