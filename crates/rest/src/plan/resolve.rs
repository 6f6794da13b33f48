//! From names to typed fields: what type a column has, and which function a representation needs.

use std::sync::Arc;

use super::read_plan::{LogicNode, TypedField};
use crate::api_request::types::{Field, Filter, LogicTree, OpExpr, Operation};
use crate::error::Error;
use crate::identifier::QualifiedIdentifier;
use crate::schema_cache::{Column, SchemaCache, Table};

/// The type of responses that representations are looked up for.
const OUTPUT_TYPE: &str = "json";

/// Resolves names in the schema cache, relative to one table.
#[derive(Clone, Copy)]
pub(super) struct Resolver<'a> {
    pub(super) cache: &'a SchemaCache,
    table: Option<&'a Table>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(cache: &'a SchemaCache, table: &QualifiedIdentifier) -> Self {
        Self { cache, table: cache.tables.get(table) }
    }

    /// The table's columns; none when it is not known.
    pub(super) fn columns(&self) -> &'a [Column] {
        self.table.map(|table| &*table.columns).unwrap_or_default()
    }

    fn typed(&self, field: &Field) -> TypedField {
        let mut typed = match self.table.and_then(|table| table.column(&field.name)) {
            Some(column) => column_field(column),
            None => TypedField::unknown(field.name.clone(), Vec::new()),
        };
        typed.path = field.path.clone();
        // Paths into JSON stay as they are, so that indexes on them apply; everything else becomes JSON first.
        typed.to_json = !field.path.is_empty() && !matches!(&*typed.nominal_type, "json" | "jsonb");
        typed
    }

    /// A field of `select=`.
    pub(super) fn output(&self, field: &Field) -> TypedField {
        self.output_format(self.typed(field))
    }

    /// A column as it stands in a response.
    pub(super) fn output_column(&self, column: &Column) -> TypedField {
        self.output_format(column_field(column))
    }

    pub(super) fn has_output_format(&self, column: &Column) -> bool {
        self.cache.representation(&column.nominal_type, OUTPUT_TYPE).is_some()
    }

    fn output_format(&self, mut field: TypedField) -> TypedField {
        field.transform = self.cache.representation(&field.nominal_type, OUTPUT_TYPE).cloned();
        field
    }

    /// A field of `order=`.
    pub(super) fn order(&self, field: &Field) -> TypedField {
        self.typed(field)
    }

    /// A field that is compared with a text of the query string.
    fn filter_field(&self, field: &Field, op: &OpExpr) -> TypedField {
        let mut typed = self.typed(field);
        if let OpExpr::Op { operation: Operation::Fts { language, .. }, .. } = op
            // What is not a column may well be a function that gives a vector.
            && !matches!(&*typed.base_type, "" | "tsvector")
        {
            typed.to_tsvector = Some(language.clone());
        }
        typed.transform = self.cache.representation("text", &typed.nominal_type).cloned();
        if typed.transform.is_some() {
            typed.nominal_type = Arc::from("text");
        }
        typed
    }

    pub(super) fn filter(&self, filter: &Filter) -> LogicNode {
        LogicNode::Filter { field: self.filter_field(&filter.field, &filter.op), op: filter.op.clone() }
    }

    pub(super) fn logic(&self, tree: &LogicTree) -> LogicNode {
        match tree {
            LogicTree::Expr { negated, operator, children } => LogicNode::Expr {
                negated: *negated,
                operator: *operator,
                children: children.iter().map(|child| self.logic(child)).collect(),
            },
            LogicTree::Filter(filter) => self.filter(filter),
        }
    }

    /// A column of a payload, which must exist.
    pub(super) fn payload_column(&self, table: &Table, name: &str) -> Result<TypedField, Error> {
        let column = table
            .column(name)
            .ok_or_else(|| Error::ColumnNotFound { relation: (*table.name).to_owned(), column: name.to_owned() })?;
        let mut field = column_field(column);
        field.transform = self.cache.representation("json", &field.nominal_type).cloned();
        if field.transform.is_some() {
            field.nominal_type = Arc::from("json");
        }
        Ok(field)
    }
}

fn column_field(column: &Column) -> TypedField {
    TypedField {
        name: (*column.name).to_owned(),
        nominal_type: column.nominal_type.clone(),
        base_type: column.data_type.clone(),
        default: column.default.clone(),
        ..TypedField::default()
    }
}
