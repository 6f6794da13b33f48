//! Functions that can be called under `/rpc`.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::identifier::QualifiedIdentifier;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routine {
    /// The function's OID, which tells overloads apart.
    pub oid: u32,
    pub schema: Arc<str>,
    pub name: Arc<str>,
    pub description: Option<Box<str>>,
    /// Input parameters only.
    pub params: Box<[RoutineParam]>,
    pub return_type: ReturnType,
    pub volatility: Volatility,
    pub has_variadic: bool,
    /// From `SET default_transaction_isolation` of the function.
    pub isolation_level: Option<IsolationLevel>,
    /// Those of the function's own settings that are hoisted to the transaction (`db-hoisted-tx-settings`).
    pub settings: Box<[(Arc<str>, Box<str>)]>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutineParam {
    /// Empty for an unnamed one.
    pub name: Arc<str>,
    pub data_type: Arc<str>,
    /// As `data_type`, but of no limited length.
    pub max_length_type: Arc<str>,
    /// Has no default.
    pub required: bool,
    pub variadic: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReturnType {
    Single(PgType),
    SetOf(PgType),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PgType {
    Scalar(QualifiedIdentifier),
    /// A row type, `record`, or output parameters; `is_alias` when declared through a domain.
    Composite {
        name: QualifiedIdentifier,
        is_alias: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    Volatile,
    Stable,
    Immutable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IsolationLevel {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl IsolationLevel {
    /// Reads PostgreSQL's spelling, in whatever case; `read uncommitted` is `read committed` there.
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "repeatable read" => Self::RepeatableRead,
            "serializable" => Self::Serializable,
            _ => Self::ReadCommitted,
        }
    }

    /// As PostgreSQL writes it in `BEGIN ISOLATION LEVEL`.
    pub fn sql(self) -> &'static str {
        match self {
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        }
    }
}

impl Routine {
    pub fn qualified_identifier(&self) -> QualifiedIdentifier {
        QualifiedIdentifier { schema: self.schema.clone(), name: self.name.clone() }
    }

    /// Neither SETOF nor TABLE.
    pub fn returns_single(&self) -> bool {
        matches!(self.return_type, ReturnType::Single(_))
    }

    pub fn returns_scalar(&self) -> bool {
        matches!(self.return_type, ReturnType::Single(PgType::Scalar(_)))
    }

    pub fn returns_set_of_scalar(&self) -> bool {
        matches!(self.return_type, ReturnType::SetOf(PgType::Scalar(_)))
    }

    pub fn returns_single_composite(&self) -> bool {
        matches!(self.return_type, ReturnType::Single(PgType::Composite { .. }))
    }

    pub fn returns_void(&self) -> bool {
        matches!(&self.return_type, ReturnType::Single(PgType::Scalar(qi)) if &*qi.schema == "pg_catalog" && &*qi.name == "void")
    }

    /// The name of the relation whose rows are returned.
    pub fn table_name(&self) -> Option<&Arc<str>> {
        match &self.return_type {
            ReturnType::Single(PgType::Composite { name, .. }) | ReturnType::SetOf(PgType::Composite { name, .. }) => {
                Some(&name.name)
            }
            _ => None,
        }
    }

    /// The relation whose rows are returned, as plans look it up.
    pub fn table_relation(&self) -> Option<QualifiedIdentifier> {
        let name = self.table_name()?.clone();
        Some(QualifiedIdentifier { schema: self.schema.clone(), name })
    }

    /// Order of overloads: those with fewer parameters first.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.params
            .len()
            .cmp(&other.params.len())
            .then_with(|| self.description.cmp(&other.description))
            .then_with(|| self.params.cmp(&other.params))
            .then_with(|| self.return_type.cmp(&other.return_type))
    }
}
