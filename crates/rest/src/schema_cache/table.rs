//! Tables and views, and their columns.

use std::sync::Arc;

/// What the API needs to know about a table or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    pub schema: Arc<str>,
    pub name: Arc<str>,
    pub description: Option<Box<str>>,
    /// Views and materialized views.
    pub is_view: bool,
    /// Other tables inherit from it, whose rows are seen as its own but do not share its keys.
    pub has_heirs: bool,
    /// What the relation itself can do, whatever the role may.
    pub insertable: bool,
    pub updatable: bool,
    pub deletable: bool,
    /// For a view: the columns that show the primary keys of the tables beneath.
    pub pk_columns: Box<[Arc<str>]>,
    /// In the order of the table.
    pub columns: Box<[Column]>,
}

impl Table {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| &*column.name == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Arc<str>,
    pub description: Option<Box<str>>,
    pub nullable: bool,
    /// The type without modifiers; of a domain over a built-in type its base type.
    pub data_type: Arc<str>,
    /// The type as declared, with modifiers, domains by their own name.
    pub nominal_type: Arc<str>,
    pub max_length: Option<i32>,
    /// The default as an SQL expression.
    pub default: Option<Arc<str>>,
    /// The values of an enum type.
    pub enum_values: Arc<[Box<str>]>,
}
