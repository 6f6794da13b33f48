//! A small schema cache by hand: clients have projects, projects have tasks; three functions.

use std::sync::Arc;

use super::{
    Cardinality, Column, PgType, Relationship, ReturnType, Routine, RoutineParam, SchemaCache, Table, Volatility,
    builtin_media_handlers,
};
use crate::identifier::QualifiedIdentifier;

pub(crate) fn qi(name: &str) -> QualifiedIdentifier {
    QualifiedIdentifier::new("public", name)
}

fn table(name: &str, pk: &[&str], columns: &[(&str, &str, Option<&str>)]) -> (QualifiedIdentifier, Table) {
    let table = Table {
        oid: 0,
        schema: "public".into(),
        name: name.into(),
        description: None,
        is_view: false,
        has_heirs: false,
        insertable: true,
        updatable: true,
        deletable: true,
        pk_columns: pk.iter().map(|&c| Arc::from(c)).collect(),
        columns: columns
            .iter()
            .map(|(name, data_type, default)| Column {
                name: (*name).into(),
                description: None,
                nullable: true,
                data_type: (*data_type).into(),
                nominal_type: (*data_type).into(),
                max_length: None,
                default: default.map(Into::into),
                enum_values: Arc::default(),
            })
            .collect(),
    };
    (qi(name), table)
}

fn routine(name: &str, params: &[(&str, &str, bool)], return_type: ReturnType) -> Arc<Routine> {
    Arc::new(Routine {
        oid: 0,
        schema: "public".into(),
        name: name.into(),
        description: None,
        params: params
            .iter()
            .map(|(name, data_type, required)| RoutineParam {
                name: (*name).into(),
                data_type: (*data_type).into(),
                max_length_type: (*data_type).into(),
                required: *required,
                variadic: false,
            })
            .collect(),
        return_type,
        volatility: Volatility::Stable,
        has_variadic: false,
        isolation_level: None,
        settings: Box::new([("statement_timeout".into(), "1s".into())]),
    })
}

pub(crate) fn cache() -> SchemaCache {
    let foreign_key = |from: &str, to: &str| {
        let column: Arc<str> = format!("{}_id", to.trim_end_matches('s')).into();
        let constraint: Arc<str> = format!("{from}_{column}_fkey").into();
        let pairs = |a: &Arc<str>, b: &str| Box::from([(a.clone(), Arc::from(b))]);
        let relationship = |table, foreign_table, cardinality| Relationship::ForeignKey {
            table: qi(table),
            foreign_table: qi(foreign_table),
            is_self: false,
            cardinality,
            table_is_view: false,
            foreign_table_is_view: false,
        };
        let many_to_one = Cardinality::ManyToOne { constraint: constraint.clone(), columns: pairs(&column, "id") };
        let one_to_many =
            Cardinality::OneToMany { constraint, columns: Box::from([(Arc::from("id"), column.clone())]) };
        [relationship(from, to, many_to_one), relationship(to, from, one_to_many)]
    };
    let mut cache = SchemaCache {
        tables: [
            table("clients", &["id"], &[("id", "integer", None), ("name", "text", None)]),
            table(
                "projects",
                &["id"],
                &[
                    ("id", "integer", Some("nextval('projects_id_seq'::regclass)")),
                    ("name", "text", None),
                    ("client_id", "integer", None),
                    ("data", "jsonb", None),
                ],
            ),
            table(
                "tasks",
                &["id"],
                &[("id", "integer", None), ("name", "text", None), ("project_id", "integer", None)],
            ),
        ]
        .into(),
        media_handlers: builtin_media_handlers(),
        ..SchemaCache::default()
    };
    for relationship in foreign_key("projects", "clients").into_iter().chain(foreign_key("tasks", "projects")) {
        let key = (relationship.table().clone(), Arc::from("public"));
        cache.relationships.entry(key).or_default().push(relationship);
    }
    let integer = PgType::Scalar(QualifiedIdentifier::new("pg_catalog", "int4"));
    let rows = PgType::Composite { name: qi("projects"), is_alias: false };
    for routine in [
        routine("add_them", &[("a", "integer", true), ("b", "integer", false)], ReturnType::Single(integer)),
        routine("search_projects", &[("term", "text", true)], ReturnType::SetOf(rows.clone())),
        routine("import", &[("", "json", true)], ReturnType::SetOf(rows)),
    ] {
        cache.routines.entry(routine.qualified_identifier()).or_default().push(routine);
    }
    cache
}
