//! PostgreSQL roles a request can act as.

use std::fmt;
use std::sync::Arc;

/// The name of a PostgreSQL role, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoleName(pub Arc<str>);

impl RoleName {
    pub const ANON: &'static str = "anon";
    pub const AUTHENTICATED: &'static str = "authenticated";
    pub const SERVICE_ROLE: &'static str = "service_role";

    /// Roles a project token may choose without being listed in its settings.
    pub const STANDARD: [&'static str; 3] = [Self::ANON, Self::AUTHENTICATED, Self::SERVICE_ROLE];

    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
