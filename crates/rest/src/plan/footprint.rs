//! What of the database a plan depends on, for plans that depend on little: whether a change of the schema concerns
//! them can be told without planning anew.

use super::{ActionPlan, CrudKind};
use crate::schema_cache::{MediaHandler, SchemaCache};

/// One relation, and perhaps the functions. Everything else that plans are made of (types, casts, schemas) counts for
/// every plan where changes are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// `pg_class.oid`; 0 for none.
    pub relation: u32,
    pub functions: bool,
}

impl Footprint {
    /// None for a plan that a change anywhere may concern: one with embeddings, which any new key can make ambiguous;
    /// one with a media handler of the database's own; a write to a view, whose keys are those of the tables beneath.
    pub fn of(plan: &ActionPlan, cache: &SchemaCache) -> Option<Self> {
        let plan = plan.crud()?;
        if !plan.read.children.is_empty() || matches!(plan.handler, MediaHandler::Custom { .. }) {
            return None;
        }
        match &plan.kind {
            CrudKind::Read { .. } => Some(Self { relation: cache.tables.get(&plan.target)?.oid, functions: false }),
            // Defaults name functions.
            CrudKind::Mutate { .. } => {
                let table = cache.tables.get(&plan.target).filter(|table| !table.is_view)?;
                Some(Self { relation: table.oid, functions: true })
            }
            CrudKind::Call { routine, .. } => {
                let relation = match routine.table_relation() {
                    Some(returned) => cache.tables.get(&returned)?.oid,
                    None => 0,
                };
                Some(Self { relation, functions: true })
            }
        }
    }
}
