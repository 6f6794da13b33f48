//! Plans of writes.

use std::sync::Arc;

use bytes::Bytes;

use super::read_plan::{LogicNode, TypedField};
use crate::identifier::QualifiedIdentifier;

/// What happens to rows that conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictResolution {
    MergeDuplicates,
    IgnoreDuplicates,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MutatePlan {
    Insert {
        into: QualifiedIdentifier,
        columns: Vec<TypedField>,
        body: Bytes,
        /// With the columns of the unique key.
        on_conflict: Option<(ConflictResolution, Vec<Arc<str>>)>,
        /// For PUT: the primary key the URL names, which the payload must have too.
        conditions: Vec<LogicNode>,
        returning: Vec<Arc<str>>,
        pk_columns: Box<[Arc<str>]>,
        apply_defaults: bool,
    },
    Update {
        target: QualifiedIdentifier,
        columns: Vec<TypedField>,
        body: Bytes,
        filters: Vec<LogicNode>,
        returning: Vec<Arc<str>>,
        apply_defaults: bool,
    },
    Delete {
        from: QualifiedIdentifier,
        filters: Vec<LogicNode>,
        returning: Vec<Arc<str>>,
    },
}
