//! What is selected: stars written out where needed, names given, embeddings added.

use super::read_plan::{Embed, ReadPlan, ReadPlanTree, SelectField, Spread, SpreadField, TypedField};
use super::resolve::Resolver;
use crate::api_request::types::{AggregateFunction, JsonOperand, JsonOperation};
use crate::identifier::QualifiedIdentifier;
use crate::query::SOURCE_CTE;
use crate::schema_cache::{Relationship, SchemaCache};

/// Writes `*` out as columns where some have a representation, where something is aggregated here or above, and in
/// to-many spreads.
pub(super) fn expand_stars(
    tree: &mut ReadPlanTree,
    target: &QualifiedIdentifier,
    cache: &SchemaCache,
    aggregated_above: bool,
) {
    let plan = &mut tree.plan;
    let aggregated = aggregated_above
        || plan.select.iter().any(|field| field.aggregate.is_some())
        || matches!(plan.spread, Some(Spread::ToMany { .. }));
    // The rows of a write or a call have the type of the target.
    let table = match &plan.from_alias {
        Some(alias) if plan.from.schema.is_empty() && &*plan.from.name == SOURCE_CTE => {
            &QualifiedIdentifier { schema: target.schema.clone(), name: alias.as_str().into() }
        }
        _ => &plan.from,
    };
    let resolver = Resolver::new(cache, table);
    expand(plan, &resolver, aggregated);
    for child in &mut tree.children {
        expand_stars(child, target, cache, aggregated);
    }
}

fn expand(plan: &mut ReadPlan, resolver: &Resolver<'_>, aggregated: bool) {
    let is_spread = plan.spread.is_some();
    let counts_rows = |field: &SelectField| is_spread && field.aggregate == Some(AggregateFunction::Count);
    let has_star = plan.select.iter().any(|f| f.field.name == "*" && (f.aggregate.is_none() || counts_rows(f)));
    if !has_star || !(aggregated || resolver.columns().iter().any(|column| resolver.has_output_format(column))) {
        return;
    }
    let mut expanded = Vec::with_capacity(plan.select.len() + resolver.columns().len());
    for mut selected in std::mem::take(&mut plan.select) {
        if selected.field.is_star() && selected.aggregate.is_none() {
            expanded.extend(
                resolver
                    .columns()
                    .iter()
                    .map(|column| SelectField { field: resolver.output_column(column), ..selected.clone() }),
            );
        } else {
            // Counted after the join, where a bare count(*) would count other rows.
            selected.field.full_row |= selected.field.is_star() && counts_rows(&selected);
            expanded.push(selected);
        }
    }
    plan.select = expanded;
}

/// Gives names to what would otherwise have none, or PostgreSQL's own: JSON paths, representations, and aggregates in
/// spreads, which the parent has to name.
pub(super) fn add_aliases(tree: &mut ReadPlanTree) {
    let is_spread = tree.plan.spread.is_some();
    for selected in &mut tree.plan.select {
        if selected.alias.is_some() {
            continue;
        }
        if let Some(aggregate) = selected.aggregate {
            if is_spread {
                selected.alias = Some(aggregate_name(aggregate).to_owned());
            }
        } else if !selected.field.path.is_empty() {
            selected.alias = last_key(&selected.field);
        } else if selected.field.transform.is_some() {
            selected.alias = Some(selected.field.name.clone());
        }
    }
    tree.children.iter_mut().for_each(add_aliases);
}

fn aggregate_name(aggregate: AggregateFunction) -> &'static str {
    match aggregate {
        AggregateFunction::Sum => "sum",
        AggregateFunction::Avg => "avg",
        AggregateFunction::Max => "max",
        AggregateFunction::Min => "min",
        AggregateFunction::Count => "count",
    }
}

/// The last key of a path, so that `data->1->name->>2` is called `name` and `data->3` is called `data`.
fn last_key(field: &TypedField) -> Option<String> {
    let keys = field.path.iter().rev().filter_map(|operation| match operation {
        JsonOperation::Arrow(JsonOperand::Key(key)) | JsonOperation::DoubleArrow(JsonOperand::Key(key)) => Some(key),
        _ => None,
    });
    Some(keys.into_iter().next().unwrap_or(&field.name).clone())
}

/// Adds to every node what it selects of its embeddings.
pub(super) fn add_embeds(tree: &mut ReadPlanTree) {
    tree.children.iter_mut().for_each(add_embeds);
    tree.plan.embeds = tree.children.iter().map(embed).collect();
}

fn embed(child: &ReadPlanTree) -> Embed {
    let plan = &child.plan;
    let join_alias = plan.join_alias.clone();
    if plan.spread.is_some() {
        return Embed::Spread { fields: spread_fields(plan), join_alias };
    }
    Embed::Json {
        name: plan.output_name().to_owned(),
        join_alias,
        to_one: plan.relationship.as_ref().is_some_and(Relationship::is_to_one),
        is_empty: selects_nothing(child),
    }
}

fn selects_nothing(tree: &ReadPlanTree) -> bool {
    tree.plan.select.is_empty() && tree.children.iter().all(selects_nothing)
}

fn spread_fields(plan: &ReadPlan) -> Vec<SpreadField> {
    let mut fields: Vec<SpreadField> = plan
        .select
        .iter()
        .map(|selected| SpreadField::plain(selected.alias.as_deref().unwrap_or(&selected.field.name)))
        .collect();
    for embed in &plan.embeds {
        match embed {
            Embed::Json { name, .. } => fields.push(SpreadField::plain(name)),
            Embed::Spread { fields: inner, .. } => fields.extend(inner.iter().cloned()),
        }
    }
    fields
}
