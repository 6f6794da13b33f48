//! Relationships between relations, the ground of resource embedding.

use std::sync::Arc;

use crate::identifier::QualifiedIdentifier;

/// A way from one relation to another. The order of variants and fields is the order in which an ambiguous embedding
/// lists its candidates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relationship {
    ForeignKey {
        table: QualifiedIdentifier,
        foreign_table: QualifiedIdentifier,
        is_self: bool,
        cardinality: Cardinality,
        table_is_view: bool,
        foreign_table_is_view: bool,
    },
    /// A function that takes a row of `table` and returns rows of `foreign_table`.
    Computed {
        function: QualifiedIdentifier,
        table: QualifiedIdentifier,
        foreign_table: QualifiedIdentifier,
        to_one: bool,
        is_self: bool,
    },
}

/// A column of the table and one of the foreign table.
pub type ColumnPair = (Arc<str>, Arc<str>);

pub type ColumnPairs = Box<[ColumnPair]>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cardinality {
    OneToMany {
        constraint: Arc<str>,
        columns: ColumnPairs,
    },
    ManyToOne {
        constraint: Arc<str>,
        columns: ColumnPairs,
    },
    /// A many-to-one whose columns are unique; `is_parent` on the side that is referenced.
    OneToOne {
        constraint: Arc<str>,
        columns: ColumnPairs,
        is_parent: bool,
    },
    ManyToMany(Junction),
}

/// The table between the two sides of a many-to-many relationship.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Junction {
    pub table: QualifiedIdentifier,
    pub source_constraint: Arc<str>,
    pub target_constraint: Arc<str>,
    /// (column of the source, column of the junction)
    pub source_columns: ColumnPairs,
    /// (column of the target, column of the junction)
    pub target_columns: ColumnPairs,
}

impl Relationship {
    pub fn table(&self) -> &QualifiedIdentifier {
        match self {
            Self::ForeignKey { table, .. } | Self::Computed { table, .. } => table,
        }
    }

    pub fn foreign_table(&self) -> &QualifiedIdentifier {
        match self {
            Self::ForeignKey { foreign_table, .. } | Self::Computed { foreign_table, .. } => foreign_table,
        }
    }

    /// Whether an embedding is an object, not an array.
    pub fn is_to_one(&self) -> bool {
        match self {
            Self::ForeignKey { cardinality, .. } => {
                matches!(cardinality, Cardinality::ManyToOne { .. } | Cardinality::OneToOne { .. })
            }
            Self::Computed { to_one, .. } => *to_one,
        }
    }
}

impl Cardinality {
    /// The foreign key and its column pairs; a many-to-many has none.
    pub fn foreign_key(&self) -> Option<(&str, &[ColumnPair])> {
        match self {
            Self::OneToMany { constraint, columns }
            | Self::ManyToOne { constraint, columns }
            | Self::OneToOne { constraint, columns, .. } => Some((constraint, columns)),
            Self::ManyToMany(_) => None,
        }
    }

    /// The same foreign key seen from the other side.
    pub(super) fn inverse(&self) -> Option<Self> {
        let swap = |columns: &ColumnPairs| columns.iter().map(|(a, b)| (b.clone(), a.clone())).collect();
        match self {
            Self::ManyToOne { constraint, columns } => {
                Some(Self::OneToMany { constraint: constraint.clone(), columns: swap(columns) })
            }
            Self::OneToOne { constraint, columns, is_parent } => {
                Some(Self::OneToOne { constraint: constraint.clone(), columns: swap(columns), is_parent: !is_parent })
            }
            Self::OneToMany { .. } | Self::ManyToMany(_) => None,
        }
    }
}
