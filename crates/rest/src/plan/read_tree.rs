//! Builds the tree of a read: its nodes from `select=`, then filters, orders and ranges on them.

use super::read_plan::{OrderBy, OrderTarget, ReadPlan, ReadPlanTree, SelectField, Spread};
use super::resolve::Resolver;
use super::{aggregate, embed, select};
use crate::api_request::ApiRequest;
use crate::api_request::types::{Action, EmbedPath, JoinType, OrderTerm, SelectItem, SelectTree};
use crate::config::Config;
use crate::error::Error;
use crate::identifier::QualifiedIdentifier;
use crate::limit;
use crate::range_query::{Bounds, RowRange};
use crate::schema_cache::SchemaCache;

/// Plans what is read from `target`.
pub(super) fn read_plan(
    target: &QualifiedIdentifier,
    config: &Config,
    cache: &SchemaCache,
    request: &ApiRequest,
) -> Result<ReadPlanTree, Error> {
    let is_mutation = matches!(request.action, Action::RelationMutate { .. });
    let mut tree = from_select(target, cache, request)?;
    add_filters(&mut tree, cache, request, is_mutation)?;
    for (path, terms) in request.query_params.order.iter().rev() {
        update(&mut tree, path, &mut |node| node.order = order(cache, &node.from, terms))?;
    }
    if !is_mutation {
        tree.plan.range = request.top_level_range;
        for (path, bounds) in &request.query_params.ranges {
            let range = rows(*bounds)?;
            update(&mut tree, path, &mut |node| node.range = range)?;
        }
    }
    add_logic(&mut tree, cache, request, is_mutation)?;
    restore_order(&mut tree);
    embed::add_relationships(&mut tree, &target.schema, request, cache)?;
    check_width(&tree, cache)?;
    select::expand_stars(&mut tree, target, cache, false);
    select::add_aliases(&mut tree);
    embed::add_related_orders(&mut tree)?;
    embed::add_null_filters(&mut tree);
    select::add_embeds(&mut tree);
    aggregate::check_allowed(&tree, config.db_aggregates_enabled)?;
    aggregate::hoist_from_spreads(&mut tree);
    aggregate::order_to_many_spreads(&mut tree)?;
    if !is_mutation {
        restrict(&mut tree, config.db_max_rows);
    }
    Ok(tree)
}

fn node(from: QualifiedIdentifier, name: &str, depth: usize) -> ReadPlanTree {
    ReadPlanTree {
        plan: ReadPlan {
            select: Vec::new(),
            from,
            from_alias: None,
            filters: Vec::new(),
            order: Vec::new(),
            range: RowRange::ALL,
            name: name.to_owned(),
            alias: None,
            hint: None,
            join_type: None,
            relationship: None,
            parent_row: None,
            join_conditions: Vec::new(),
            join_alias: String::new(),
            spread: None,
            embeds: Vec::new(),
            members: None,
            depth,
        },
        children: Vec::new(),
    }
}

fn from_select(target: &QualifiedIdentifier, cache: &SchemaCache, request: &ApiRequest) -> Result<ReadPlanTree, Error> {
    let mut root = node(target.clone(), &target.name, 0);
    let mut embeddings = 0;
    add_items(&mut root, &request.query_params.select, cache, &mut embeddings)?;
    Ok(root)
}

fn add_items(
    parent: &mut ReadPlanTree,
    items: &[SelectTree],
    cache: &SchemaCache,
    embeddings: &mut usize,
) -> Result<(), Error> {
    let resolver = Resolver::new(cache, &parent.plan.from);
    for item in items {
        let mut child = |relation: &str, hint: &Option<String>, join_type: Option<JoinType>| {
            let depth = parent.plan.depth + 1;
            *embeddings += 1;
            limit::EMBED_DEPTH.check(depth)?;
            limit::EMBEDDINGS.check(*embeddings)?;
            let mut child = node(QualifiedIdentifier::new(&parent.plan.from.schema, relation), relation, depth);
            child.plan.hint = hint.clone();
            child.plan.join_type = join_type;
            Ok::<_, Error>(child)
        };
        match &item.item {
            SelectItem::Field { field, aggregate, aggregate_cast, cast, alias } => {
                parent.plan.select.push(SelectField {
                    field: resolver.output(field),
                    aggregate: *aggregate,
                    aggregate_cast: aggregate_cast.clone(),
                    cast: cast.clone(),
                    alias: alias.clone(),
                });
            }
            SelectItem::Relation { relation, alias, hint, join_type } => {
                let mut child = child(relation, hint, *join_type)?;
                child.plan.alias = alias.clone();
                add_items(&mut child, &item.children, cache, embeddings)?;
                parent.children.push(child);
            }
            SelectItem::Spread { relation, hint, join_type } => {
                let mut child = child(relation, hint, *join_type)?;
                child.plan.spread = Some(Spread::ToOne);
                add_items(&mut child, &item.children, cache, embeddings)?;
                parent.children.push(child);
            }
        }
    }
    Ok(())
}

/// Refuses what would be more columns than PostgreSQL gives.
fn check_width(tree: &ReadPlanTree, cache: &SchemaCache) -> Result<(), Error> {
    let columns = Resolver::new(cache, &tree.plan.from).columns().len();
    let width =
        |field: &SelectField| if field.field.is_star() && field.aggregate.is_none() { columns.max(1) } else { 1 };
    limit::SELECT_COLUMNS.check(tree.plan.select.iter().map(width).sum::<usize>() + tree.children.len())?;
    tree.children.iter().try_for_each(|child| check_width(child, cache))
}

/// Filters of a write at the top level choose the rows to write, not those to show.
fn add_filters(
    tree: &mut ReadPlanTree,
    cache: &SchemaCache,
    request: &ApiRequest,
    is_mutation: bool,
) -> Result<(), Error> {
    for (path, filter) in request.query_params.filters.iter().rev() {
        if !(is_mutation && path.is_empty()) {
            update(tree, path, &mut |node| {
                let resolved = Resolver::new(cache, &node.from).filter(filter);
                node.filters.push(resolved);
            })?;
        }
    }
    Ok(())
}

fn add_logic(
    tree: &mut ReadPlanTree,
    cache: &SchemaCache,
    request: &ApiRequest,
    is_mutation: bool,
) -> Result<(), Error> {
    for (path, logic) in request.query_params.logic.iter().rev() {
        if !(is_mutation && path.is_empty()) {
            update(tree, path, &mut |node| {
                let resolved = Resolver::new(cache, &node.from).logic(logic);
                node.filters.push(resolved);
            })?;
        }
    }
    Ok(())
}

/// Parameters are applied from the last to the first; conditions stand in the order they were written in.
fn restore_order(tree: &mut ReadPlanTree) {
    tree.plan.filters.reverse();
    tree.children.iter_mut().for_each(restore_order);
}

/// The rows of an embedded resource. Bounds below zero are told as PostgreSQL tells them.
fn rows(bounds: Bounds) -> Result<RowRange, Error> {
    let refused = |code: &str, message: &str| Err(Error::Db(Box::new(pg::DbError::new(code, message))));
    if bounds.is_limit_zero() {
        return Ok(Bounds::LIMIT_ZERO.to_rows());
    }
    if bounds.lower < 0 {
        return refused("2201X", "OFFSET must not be negative");
    }
    // Empty is a limit of nothing, below that is a limit below zero.
    if bounds.upper < bounds.lower.saturating_sub(1) {
        return refused("2201W", "LIMIT must not be negative");
    }
    Ok(bounds.to_rows())
}

fn order(cache: &SchemaCache, table: &QualifiedIdentifier, terms: &[OrderTerm]) -> Vec<OrderBy> {
    let resolver = Resolver::new(cache, table);
    terms
        .iter()
        .map(|term| OrderBy {
            target: match &term.relation {
                Some(relation) => OrderTarget::Related { relation: relation.clone(), field: term.field.clone() },
                None => OrderTarget::Field(resolver.order(&term.field)),
            },
            direction: term.direction,
            nulls: term.nulls,
        })
        .collect()
}

/// Changes the node at `path`. Embeddings go by their alias and by their own name. Those on the path come to stand
/// first among their siblings, in the answer too, as they do in PostgREST.
fn update(tree: &mut ReadPlanTree, path: &EmbedPath, change: &mut dyn FnMut(&mut ReadPlan)) -> Result<(), Error> {
    let mut node = tree;
    for name in path {
        let named = |child: &ReadPlanTree| child.plan.name == *name || child.plan.alias.as_ref() == Some(name);
        let place = node.children.iter().position(named).ok_or_else(|| Error::NotEmbedded(name.clone()))?;
        node.children[..=place].rotate_right(1);
        node = &mut node.children[0];
    }
    change(&mut node.plan);
    Ok(())
}

/// Holds every level to `db-max-rows`.
fn restrict(tree: &mut ReadPlanTree, max_rows: Option<u64>) {
    tree.plan.range = tree.plan.range.restricted(max_rows);
    for child in &mut tree.children {
        restrict(child, max_rows);
    }
}
