//! Names of things in the database (PostgREST `SchemaCache.Identifiers`).

use std::fmt;
use std::sync::Arc;

/// A schema and a name in it, both unquoted. The schema may be empty for what needs none (`record`, CTEs).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedIdentifier {
    pub schema: Arc<str>,
    pub name: Arc<str>,
}

impl QualifiedIdentifier {
    pub fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for QualifiedIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema.is_empty() { f.write_str(&self.name) } else { write!(f, "{}.{}", self.schema, self.name) }
    }
}
