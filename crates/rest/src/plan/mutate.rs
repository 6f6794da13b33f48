//! Plans writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::mutate_plan::{ConflictResolution, MutatePlan};
use super::read_plan::{LogicNode, ReadPlanTree, TypedField};
use super::resolve::Resolver;
use crate::api_request::ApiRequest;
use crate::api_request::preferences::{PreferMissing, PreferRepresentation, PreferResolution};
use crate::api_request::types::{Filter, Mutation, OpExpr, Operation, Payload, QuantOperator};
use crate::error::Error;
use crate::identifier::QualifiedIdentifier;
use crate::schema_cache::{Cardinality, Relationship, SchemaCache, Table};

pub(super) fn mutate_plan(
    mutation: Mutation,
    target: &QualifiedIdentifier,
    table: &Table,
    request: &ApiRequest,
    cache: &SchemaCache,
    read: &ReadPlanTree,
) -> Result<MutatePlan, Error> {
    let preferences = &request.preferences;
    let resolver = Resolver::new(cache, target);
    let columns = || -> Result<Vec<TypedField>, Error> {
        request.columns.iter().map(|name| resolver.payload_column(table, name)).collect()
    };
    let returning = match preferences.representation {
        None | Some(PreferRepresentation::Minimal) => Vec::new(),
        Some(PreferRepresentation::Full | PreferRepresentation::HeadersOnly) => {
            needed_columns(read, &table.pk_columns).into_iter().collect()
        }
    };
    let apply_defaults = preferences.missing == Some(PreferMissing::Default);
    Ok(match mutation {
        Mutation::Create => {
            let key = || match &request.query_params.on_conflict {
                Some(columns) => columns.iter().map(|c| Arc::from(c.as_str())).collect(),
                None => table.pk_columns.to_vec(),
            };
            let on_conflict = preferences.resolution.map(|resolution| match resolution {
                PreferResolution::MergeDuplicates => (ConflictResolution::MergeDuplicates, key()),
                PreferResolution::IgnoreDuplicates => (ConflictResolution::IgnoreDuplicates, key()),
            });
            MutatePlan::Insert {
                into: target.clone(),
                columns: columns()?,
                body: body(request),
                on_conflict,
                conditions: Vec::new(),
                returning,
                pk_columns: table.pk_columns.clone(),
                apply_defaults,
            }
        }
        Mutation::SingleUpsert => {
            if !names_primary_key(request, table) {
                return Err(Error::InvalidFilters);
            }
            MutatePlan::Insert {
                into: target.clone(),
                columns: columns()?,
                body: body(request),
                on_conflict: Some((ConflictResolution::MergeDuplicates, table.pk_columns.to_vec())),
                conditions: filters(request, &resolver),
                returning,
                pk_columns: Box::default(),
                apply_defaults: false,
            }
        }
        Mutation::Update => MutatePlan::Update {
            target: target.clone(),
            columns: columns()?,
            body: body(request),
            filters: filters(request, &resolver),
            returning,
            apply_defaults,
        },
        Mutation::Delete => {
            MutatePlan::Delete { from: target.clone(), filters: filters(request, &resolver), returning }
        }
    })
}

fn body(request: &ApiRequest) -> Bytes {
    match &request.payload {
        Some(Payload::Json { raw, .. } | Payload::RawJson { raw } | Payload::Raw { raw }) => raw.clone(),
        Some(Payload::UrlEncoded { .. }) | None => Bytes::new(),
    }
}

/// Filters of the top level: the rows that are written.
fn filters(request: &ApiRequest, resolver: &Resolver<'_>) -> Vec<LogicNode> {
    let root_filters = top_level_filters(request).map(|filter| resolver.filter(filter));
    let root_logic = request.query_params.logic.iter().filter(|(path, _)| path.is_empty());
    root_filters.chain(root_logic.map(|(_, logic)| resolver.logic(logic))).collect()
}

fn top_level_filters(request: &ApiRequest) -> impl Iterator<Item = &Filter> {
    request.query_params.filters.iter().filter(|(path, _)| path.is_empty()).map(|(_, filter)| filter)
}

/// Whether the filters are `eq` on each column of the primary key, and nothing else.
fn names_primary_key(request: &ApiRequest, table: &Table) -> bool {
    let plain_eq = |filter: &Filter| {
        matches!(
            filter.op,
            OpExpr::Op {
                negated: false,
                operation: Operation::Quantified { operator: QuantOperator::Eq, quantifier: None, .. }
            }
        )
    };
    let named = &request.query_params.filter_names;
    let key: BTreeSet<&str> = table.pk_columns.iter().map(|c| &**c).collect();
    request.query_params.logic.is_empty()
        && !key.is_empty()
        && named.iter().map(String::as_str).eq(key)
        && top_level_filters(request).all(plain_eq)
}

/// The columns that have to come back from a write or a call: those selected, those embeddings join on, and those of
/// the primary key for `Location`. Each once, because a column that came twice would be ambiguous.
pub(super) fn needed_columns(read: &ReadPlanTree, pk_columns: &[Arc<str>]) -> BTreeSet<Arc<str>> {
    let selected = read.plan.select.iter().map(|f| Arc::<str>::from(f.field.name.as_str()));
    let mut needed: BTreeSet<Arc<str>> = selected.collect();
    let star = || BTreeSet::from([Arc::<str>::from("*")]);
    if needed.contains("*") {
        return star();
    }
    for child in &read.children {
        match &child.plan.relationship {
            // Nobody knows what a function looks at.
            Some(Relationship::Computed { .. }) => return star(),
            Some(Relationship::ForeignKey { cardinality, .. }) => {
                let columns = match cardinality {
                    Cardinality::OneToMany { columns, .. }
                    | Cardinality::ManyToOne { columns, .. }
                    | Cardinality::OneToOne { columns, .. } => columns,
                    Cardinality::ManyToMany(junction) => &junction.source_columns,
                };
                needed.extend(columns.iter().map(|pair| pair.0.clone()));
            }
            None => {}
        }
    }
    needed.extend(pk_columns.iter().cloned());
    needed
}
