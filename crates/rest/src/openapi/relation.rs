//! Tables and views: their definitions, parameters and operations.

use std::borrow::Cow;

use super::model::{Entries, Kind, Location, Operation, PLAIN, Parameter, ParameterRef, PathItem, Response, Schema};
use super::operation::{operation, response};
use super::types;
use crate::identifier::QualifiedIdentifier;
use crate::schema_cache::{Cardinality, Column, ColumnPair, Relationship, SchemaCache, Table};

/// The rows of a relation.
pub(super) fn definition<'a>(table: &'a Table, cache: &SchemaCache) -> (&'a str, Schema<'a>) {
    let foreign_keys = foreign_keys(table, cache);
    let properties = table.columns.iter().map(|column| (&*column.name, property(table, column, &foreign_keys)));
    let schema = Schema {
        description: table.description.as_deref().map(Cow::Borrowed),
        required: table.columns.iter().filter(|column| !column.nullable).map(|column| &*column.name).collect(),
        properties: Entries(properties.collect()),
        kind: Some(Kind::Object),
        ..Schema::default()
    };
    (&table.name, schema)
}

fn property<'a>(table: &Table, column: &'a Column, foreign_keys: &[ForeignKey<'_>]) -> Schema<'a> {
    let is_key = table.pk_columns.contains(&column.name);
    let foreign_key = foreign_keys.iter().find(|key| *key.column == *column.name);
    Schema {
        default: column.default.as_deref().and_then(|expression| types::default(&column.data_type, expression)),
        description: note(column, is_key, foreign_key),
        values: &column.enum_values,
        max_length: column.max_length,
        ..types::schema(&column.data_type)
    }
}

/// A foreign key of one column.
struct ForeignKey<'a> {
    column: &'a str,
    foreign_table: &'a str,
    foreign_column: &'a str,
}

/// Those that lead to relations of the same schema, to tables first.
fn foreign_keys<'a>(table: &Table, cache: &'a SchemaCache) -> Vec<ForeignKey<'a>> {
    let name = QualifiedIdentifier { schema: table.schema.clone(), name: table.name.clone() };
    let relationships = cache.relationships.get(&(name, table.schema.clone()));
    let mut found: Vec<(bool, ForeignKey<'a>)> = relationships
        .into_iter()
        .flatten()
        .filter_map(|relationship| {
            let Relationship::ForeignKey { cardinality, foreign_table, foreign_table_is_view, .. } = relationship
            else {
                return None;
            };
            let (column, foreign_column) = only_column(cardinality)?;
            let key = ForeignKey { column, foreign_table: &foreign_table.name, foreign_column };
            Some((*foreign_table_is_view, key))
        })
        .collect();
    found.sort_by_key(|(is_view, _)| *is_view);
    found.into_iter().map(|(_, key)| key).collect()
}

/// The one column of a foreign key on the side that refers to the other.
fn only_column(cardinality: &Cardinality) -> Option<(&str, &str)> {
    let columns: &[ColumnPair] = match cardinality {
        Cardinality::ManyToOne { columns, .. } | Cardinality::OneToOne { columns, is_parent: false, .. } => columns,
        Cardinality::OneToOne { .. } | Cardinality::OneToMany { .. } | Cardinality::ManyToMany(_) => return None,
    };
    let [(column, foreign_column)] = columns else { return None };
    Some((column, foreign_column))
}

/// The column's comment, and which keys it belongs to in a form that programs read.
fn note<'a>(column: &'a Column, is_key: bool, foreign_key: Option<&ForeignKey<'_>>) -> Option<Cow<'a, str>> {
    let comment = column.description.as_deref();
    if !is_key && foreign_key.is_none() {
        return comment.map(Cow::Borrowed);
    }
    let mut text = comment.map_or_else(String::new, |comment| format!("{comment}\n\n"));
    text.push_str("Note:");
    if is_key {
        text.push_str("\nThis is a Primary Key.<pk/>");
    }
    if let Some(ForeignKey { foreign_table: to, foreign_column: at, .. }) = foreign_key {
        text.push_str(&format!("\nThis is a Foreign Key to `{to}.{at}`.<fk table='{to}' column='{at}'/>"));
    }
    Some(Cow::Owned(text))
}

/// The parameters that operations of all relations refer to.
pub(super) fn shared_parameters<'a>() -> Vec<(Cow<'a, str>, Parameter<'a>)> {
    const RETURN: [&str; 3] = ["return=representation", "return=minimal", "return=none"];
    const POST: [&str; 5] =
        [RETURN[0], RETURN[1], RETURN[2], "resolution=ignore-duplicates", "resolution=merge-duplicates"];
    let prefer = |values| Parameter {
        name: "Prefer",
        description: Some("Preference"),
        values,
        location: Location::Header,
        ..PLAIN
    };
    let query = |name, description| Parameter { name, description: Some(description), ..PLAIN };
    let header =
        |name| Parameter { name, description: Some("Limiting and Pagination"), location: Location::Header, ..PLAIN };
    let parameters = [
        ("preferParams", prefer(&[])),
        ("preferReturn", prefer(&RETURN)),
        ("preferCount", prefer(&["count=none"])),
        ("preferPost", prefer(&POST)),
        ("select", query("select", "Filtering Columns")),
        ("on_conflict", query("on_conflict", "On Conflict")),
        ("order", query("order", "Ordering")),
        ("range", header("Range")),
        ("rangeUnit", Parameter { default: Some("items"), ..header("Range-Unit") }),
        ("offset", query("offset", "Limiting and Pagination")),
        ("limit", query("limit", "Limiting and Pagination")),
    ];
    parameters.into_iter().map(|(name, parameter)| (Cow::Borrowed(name), parameter)).collect()
}

/// The relation's own parameters: its rows as a body, and a filter for each column.
pub(super) fn parameters(table: &Table) -> impl Iterator<Item = (Cow<'_, str>, Parameter<'_>)> {
    let body = Parameter {
        name: &table.name,
        description: Some(&*table.name),
        location: Location::Body,
        kind: None,
        schema: Some(Schema::of_relation(&table.name)),
        ..PLAIN
    };
    let filters = table.columns.iter().map(|column| {
        let filter = Parameter { name: &column.name, description: column.description.as_deref(), ..PLAIN };
        (Cow::Owned(filter_name(table, column)), filter)
    });
    std::iter::once((Cow::Owned(body_name(table)), body)).chain(filters)
}

fn body_name(table: &Table) -> String {
    format!("body.{}", table.name)
}

fn filter_name(table: &Table, column: &Column) -> String {
    format!("rowFilter.{}.{}", table.name, column.name)
}

/// What can be done with the relation. Either all writes are listed or none.
pub(super) fn path(table: &Table) -> (Cow<'_, str>, PathItem<'_>) {
    let filters = || table.columns.iter().map(|column| ParameterRef::to(&filter_name(table, column)));
    let shared = |names: &'static [&'static str]| names.iter().map(|name| ParameterRef::to(name));
    let body = || ParameterRef::to(&body_name(table));
    let with = |parameters: Vec<ParameterRef<'static>>, responses| Operation {
        parameters,
        responses: Entries(responses),
        ..operation(Cow::Borrowed(&*table.name), table.description.as_deref())
    };
    let rows = Schema {
        items: Some(Box::new(Schema::of_relation(&table.name))),
        kind: Some(Kind::Array),
        ..Schema::default()
    };
    let page = shared(&["select", "order", "range", "rangeUnit", "offset", "limit", "preferCount"]);
    let get = with(
        filters().chain(page).collect(),
        vec![("200", Response { description: "OK", schema: Some(rows) }), response("206", "Partial Content")],
    );
    let mut item = PathItem { get: Some(get), ..PathItem::default() };
    if table.insertable || table.updatable || table.deletable {
        let no_content = || vec![response("204", "No Content")];
        let post = std::iter::once(body()).chain(shared(&["select", "preferPost"]));
        item.post = Some(with(post.collect(), vec![response("201", "Created")]));
        item.delete = Some(with(filters().chain(shared(&["preferReturn"])).collect(), no_content()));
        let patch = filters().chain([body()]).chain(shared(&["preferReturn"]));
        item.patch = Some(with(patch.collect(), no_content()));
    }
    (Cow::Owned(format!("/{}", table.name)), item)
}
