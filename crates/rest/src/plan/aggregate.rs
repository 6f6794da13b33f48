//! Aggregate functions, and ordering within to-many spreads.

use super::read_plan::{Embed, OrderBy, OrderTarget, ReadPlanTree, SelectField, Spread, TypedField};
use crate::api_request::types::AggregateFunction;
use crate::error::Error;

pub(super) fn check_allowed(tree: &ReadPlanTree, allowed: bool) -> Result<(), Error> {
    if !allowed && tree.plan.select.iter().any(|field| field.aggregate.is_some()) {
        return Err(Error::AggregatesNotAllowed);
    }
    tree.children.iter().try_for_each(|child| check_allowed(child, allowed))
}

/// An aggregate that moves to the parent.
struct Hoisted {
    join_alias: String,
    name: String,
    aggregate: AggregateFunction,
    cast: Option<String>,
    alias: Option<String>,
}

/// Moves aggregates out of to-one spreads, up to the next level that makes rows of its own: the sum of a spread's
/// column is meant over the parent's rows, in the spread's own subquery there is only one.
pub(super) fn hoist_from_spreads(tree: &mut ReadPlanTree) {
    hoist(tree);
}

fn hoist(tree: &mut ReadPlanTree) -> Vec<Hoisted> {
    let from_children: Vec<Hoisted> = tree.children.iter_mut().flat_map(hoist).collect();
    let plan = &mut tree.plan;
    if plan.spread != Some(Spread::ToOne) {
        for embed in &mut plan.embeds {
            let Embed::Spread { fields, join_alias } = embed else { continue };
            for field in fields {
                if let Some(found) = from_children.iter().find(|h| h.join_alias == *join_alias && h.name == field.name)
                {
                    field.aggregate = Some(found.aggregate);
                    field.aggregate_cast.clone_from(&found.cast);
                    field.alias.clone_from(&found.alias);
                }
            }
        }
        return Vec::new();
    }
    let mut hoisted = Vec::new();
    for selected in &mut plan.select {
        if let Some(aggregate) = selected.aggregate.take() {
            hoisted.push(Hoisted {
                join_alias: plan.join_alias.clone(),
                name: selected.alias.clone().unwrap_or_else(|| selected.field.name.clone()),
                aggregate,
                cast: selected.aggregate_cast.take(),
                alias: selected.alias.clone(),
            });
        }
    }
    hoisted.extend(from_children.into_iter().map(|h| Hoisted { join_alias: plan.join_alias.clone(), ..h }));
    hoisted
}

/// A to-many spread is ordered inside its aggregation, for which the subquery has to select what it is ordered by.
pub(super) fn order_to_many_spreads(tree: &mut ReadPlanTree) -> Result<(), Error> {
    let plan = &mut tree.plan;
    let aggregates = plan.aggregates();
    if let Some(Spread::ToMany { order_select, order }) = &mut plan.spread {
        if aggregates {
            return Err(Error::NotImplemented(
                "Aggregates are not implemented for one-to-many or many-to-many spreads.".to_owned(),
            ));
        }
        for (i, term) in std::mem::take(&mut plan.order).into_iter().enumerate() {
            let (relation, field) = match term.target {
                OrderTarget::Field(field) => (None, field),
                OrderTarget::Related { relation, field } => {
                    (Some(relation), TypedField::unknown(field.name, field.path))
                }
            };
            // The number keeps it apart from columns and from one another.
            let alias = format!("{}_{}_{}", plan.join_alias, field.name, i + 1);
            order.push(OrderBy {
                target: OrderTarget::Field(TypedField::unknown(alias.clone(), Vec::new())),
                direction: term.direction,
                nulls: term.nulls,
            });
            order_select.push((relation, SelectField { alias: Some(alias), ..SelectField::plain(field) }));
        }
    }
    tree.children.iter_mut().try_for_each(order_to_many_spreads)
}
