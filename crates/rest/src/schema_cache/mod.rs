//! What the engine knows of a project's database: relations, relationships, routines, representations and media
//! handlers (PostgREST `SchemaCache`). Loaded from the catalog by [`queries`] and [`SchemaCache::load`]; immutable.

#[cfg(test)]
pub(crate) mod fixture;
mod json;
mod load;
mod media_handler;
mod readers;
mod relations;
mod relationship;
mod routine;
mod table;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::identifier::QualifiedIdentifier;

pub use load::{CatalogQuery, LoadError, queries, timezones_from, timezones_query};
use media_handler::BUILTIN_MEDIA_HANDLERS;
pub use media_handler::{HandlerTarget, MediaHandler, MediaHandlers, ResolvedHandler, builtin_media_handlers};
pub use readers::SettingReaders;
pub use relationship::{Cardinality, ColumnPair, ColumnPairs, Junction, Relationship};
pub use routine::{IsolationLevel, PgType, ReturnType, Routine, RoutineParam, Volatility};
pub use table::{Column, Table};

/// Names of `pg_timezone_names`.
pub type Timezones = HashSet<Box<str>>;

#[derive(Debug, Default)]
pub struct SchemaCache {
    /// Relations of the exposed schemas.
    pub tables: HashMap<QualifiedIdentifier, Table>,
    /// By the relation they start from and the schema of the one they lead to.
    pub relationships: HashMap<(QualifiedIdentifier, Arc<str>), Vec<Relationship>>,
    /// Overloads, those with fewer parameters first.
    pub routines: HashMap<QualifiedIdentifier, Vec<Arc<Routine>>>,
    /// Function that turns (source type, target type) into one another; one of them is a domain, the other `json` or
    /// `text`. The function is quoted and qualified as needed.
    pub representations: HashMap<(Arc<str>, Arc<str>), Arc<str>>,
    pub media_handlers: MediaHandlers,
    pub readers: SettingReaders,
    /// Read on first need, because PostgreSQL walks a directory for them: see [`timezones_query`].
    pub timezones: OnceLock<Timezones>,
    /// The schema version this was read at; the loader's caller sets it, and what follows.
    pub version: i64,
    /// The rows that make up the version: a PostgreSQL array of their ids.
    pub version_rows: Box<str>,
    /// A moment before the catalog was read.
    pub read_after: Option<Instant>,
}

impl SchemaCache {
    pub fn representation(&self, source: &str, target: &str) -> Option<&Arc<str>> {
        if self.representations.is_empty() {
            return None;
        }
        self.representations.get(&(Arc::from(source), Arc::from(target)))
    }

    /// Whether the database has media handlers, besides the built-in ones.
    pub fn has_custom_media_handlers(&self) -> bool {
        self.media_handlers.len() > BUILTIN_MEDIA_HANDLERS
    }

    /// Counts for the log: relations, relationships, routines, representations, media handlers.
    pub fn summary(&self) -> String {
        format!(
            "{} relations, {} relationships, {} functions, {} domain representations, {} media type handlers",
            self.tables.len(),
            self.relationships.values().map(Vec::len).sum::<usize>(),
            self.routines.values().map(Vec::len).sum::<usize>(),
            self.representations.len(),
            self.media_handlers.len(),
        )
    }
}
