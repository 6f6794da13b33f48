//! Finds the relationships that embeddings use, and joins along them.

use std::sync::Arc;

use super::hint;
use super::read_plan::{JoinCondition, LogicNode, OrderTarget, ReadPlan, ReadPlanTree, Spread};
use crate::api_request::ApiRequest;
use crate::api_request::types::{Action, IsValue, OpExpr, Operation};
use crate::error::{AmbiguousRel, AmbiguousRelBetween, Error, NoRelBetween, Subject};
use crate::identifier::QualifiedIdentifier;
use crate::query::SOURCE_CTE;
use crate::schema_cache::{Cardinality, ColumnPair, Junction, Relationship, SchemaCache};

/// What a child has to know of its parent's query.
struct Parent {
    from: QualifiedIdentifier,
    alias: Option<String>,
}

/// Gives every embedding its relationship, its names and its join conditions.
pub(super) fn add_relationships(
    root: &mut ReadPlanTree,
    schema: &Arc<str>,
    request: &ApiRequest,
    cache: &SchemaCache,
) -> Result<(), Error> {
    // The rows of a write or a call come from a CTE, which goes by the table's name.
    if matches!(request.action, Action::RelationMutate { .. } | Action::Routine { .. } | Action::RoutineInfo(_)) {
        root.plan.from_alias = Some((*root.plan.from.name).to_owned());
        root.plan.from = QualifiedIdentifier::new("", SOURCE_CTE);
    }
    descend(root, schema, cache)
}

fn descend(tree: &mut ReadPlanTree, schema: &Arc<str>, cache: &SchemaCache) -> Result<(), Error> {
    let parent = Parent { from: tree.plan.from.clone(), alias: tree.plan.from_alias.clone() };
    for child in &mut tree.children {
        relate(&mut child.plan, &parent, schema, cache)?;
        descend(child, schema, cache)?;
    }
    Ok(())
}

fn relate(plan: &mut ReadPlan, parent: &Parent, schema: &Arc<str>, cache: &SchemaCache) -> Result<(), Error> {
    // Only the root's alias is the name of a relation.
    let origin: Arc<str> = match &parent.alias {
        Some(alias) if plan.depth == 1 => alias.as_str().into(),
        _ => parent.from.name.clone(),
    };
    let relationship = find(schema, cache, &origin, &plan.name, plan.hint.as_deref())?.clone();
    plan.join_alias = format!("{}_{}_{}", relationship.table().name, plan.output_name(), plan.depth);
    if plan.spread.is_some() && !relationship.is_to_one() {
        plan.spread = Some(Spread::ToMany { order_select: Vec::new(), order: Vec::new() });
    }
    plan.from = relationship.foreign_table().clone();
    match &relationship {
        // The junction's join is not aliased.
        Relationship::ForeignKey { cardinality: Cardinality::ManyToMany(_), .. } => {
            plan.join_conditions = join_conditions(None, parent.alias.as_deref(), &relationship);
        }
        Relationship::Computed { table, .. } => {
            plan.parent_row = Some(match &parent.alias {
                Some(alias) => QualifiedIdentifier::new("", alias),
                None => QualifiedIdentifier { schema: "".into(), name: table.name.clone() },
            });
            plan.from_alias = Some(format!("{}_{}", plan.from.name, plan.depth));
        }
        Relationship::ForeignKey { .. } => {
            let alias = format!("{}_{}", plan.from.name, plan.depth);
            plan.join_conditions = join_conditions(Some(&alias), parent.alias.as_deref(), &relationship);
            plan.from_alias = Some(alias);
        }
    }
    plan.relationship = Some(relationship);
    Ok(())
}

fn join_conditions(alias: Option<&str>, parent_alias: Option<&str>, relationship: &Relationship) -> Vec<JoinCondition> {
    let Relationship::ForeignKey { table, foreign_table, cardinality, .. } = relationship else { return Vec::new() };
    let named = |alias: Option<&str>, schema: &Arc<str>, name: &Arc<str>| match alias {
        Some(alias) => QualifiedIdentifier::new("", alias),
        None => QualifiedIdentifier { schema: schema.clone(), name: name.clone() },
    };
    // `column = foreign column`, the foreign side first.
    let condition = |left: QualifiedIdentifier, right: QualifiedIdentifier, pair: &ColumnPair| JoinCondition {
        left: (left, pair.1.clone()),
        right: (right, pair.0.clone()),
    };
    match cardinality {
        Cardinality::ManyToMany(Junction { table: junction, source_columns, target_columns, .. }) => {
            let target = target_columns
                .iter()
                .map(|pair| condition(junction.clone(), named(None, &foreign_table.schema, &foreign_table.name), pair));
            let source = source_columns
                .iter()
                .map(|pair| condition(junction.clone(), named(parent_alias, &table.schema, &table.name), pair));
            target.chain(source).collect()
        }
        Cardinality::OneToMany { columns, .. }
        | Cardinality::ManyToOne { columns, .. }
        | Cardinality::OneToOne { columns, .. } => columns
            .iter()
            .map(|pair| {
                condition(
                    named(alias, &foreign_table.schema, &foreign_table.name),
                    named(parent_alias, &table.schema, &table.name),
                    pair,
                )
            })
            .collect(),
    }
}

/// The one relationship from `origin` that `target` and `hint` name.
fn find<'a>(
    schema: &Arc<str>,
    cache: &'a SchemaCache,
    origin: &Arc<str>,
    target: &str,
    embed_hint: Option<&str>,
) -> Result<&'a Relationship, Error> {
    let key = (QualifiedIdentifier { schema: schema.clone(), name: origin.clone() }, schema.clone());
    let all = cache.relationships.get(&key).map(Vec::as_slice).unwrap_or_default();
    let fitting: Vec<&Relationship> = all.iter().filter(|r| fits(r, target, embed_hint)).collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => Err(Error::NoRelBetween(Box::new(NoRelBetween {
            parent: (**origin).to_owned(),
            child: target.to_owned(),
            embed_hint: embed_hint.map(str::to_owned),
            schema: (**schema).to_owned(),
            hint: hint::for_relationship(cache, schema, origin, target),
        }))),
        many => Err(Error::AmbiguousRelBetween(Box::new(AmbiguousRelBetween {
            parent: (**origin).to_owned(),
            child: target.to_owned(),
            candidates: many.iter().filter_map(|r| candidate(r)).collect(),
        }))),
    }
}

/// Whether `target!hint` names this relationship.
fn fits(relationship: &Relationship, target: &str, embed_hint: Option<&str>) -> bool {
    let (foreign_table, is_self, cardinality, foreign_is_view) = match relationship {
        Relationship::Computed { function, .. } => return *function.name == *target,
        Relationship::ForeignKey { foreign_table, is_self, cardinality, foreign_table_is_view, .. } => {
            (foreign_table, *is_self, cardinality, *foreign_table_is_view)
        }
    };
    let is_target = *foreign_table.name == *target;
    // The only column on this side, or on the other.
    let single = |side: fn(&ColumnPair) -> &Arc<str>, name: &str| match cardinality.foreign_key() {
        Some((_, [pair])) => **side(pair) == *name,
        _ => false,
    };
    let is_constraint = |name: &str| cardinality.foreign_key().is_some_and(|(constraint, _)| constraint == name);
    let is_one_to_many = matches!(cardinality, Cardinality::OneToMany { .. });
    match embed_hint {
        // One foreign key makes two relationships: the table's name is for the many, the column's for the one.
        None if is_self => {
            is_target && is_one_to_many
                || single(|pair| &pair.0, target) && matches!(cardinality, Cardinality::ManyToOne { .. })
        }
        Some(name) if is_self => is_target && is_one_to_many && single(|pair| &pair.1, name),
        None => is_target || !foreign_is_view && (is_constraint(target) || single(|pair| &pair.0, target)),
        Some(name) => {
            let is_junction = matches!(cardinality, Cardinality::ManyToMany(junction) if *junction.table.name == *name);
            is_target
                && (is_constraint(name) || single(|pair| &pair.0, name) || single(|pair| &pair.1, name) || is_junction)
        }
    }
}

fn candidate(relationship: &Relationship) -> Option<AmbiguousRel> {
    let Relationship::ForeignKey { table, foreign_table, cardinality, .. } = relationship else { return None };
    let list = |columns: &mut dyn Iterator<Item = &Arc<str>>| {
        let columns: Vec<&str> = columns.map(|column| &**column).collect();
        format!("({})", columns.join(", "))
    };
    let kind = match cardinality {
        Cardinality::OneToMany { .. } => "one-to-many",
        Cardinality::ManyToOne { .. } => "many-to-one",
        Cardinality::OneToOne { .. } => "one-to-one",
        Cardinality::ManyToMany(_) => "many-to-many",
    };
    let mut about = vec![Subject::Relation(table.clone()), Subject::Relation(foreign_table.clone())];
    if let Cardinality::ManyToMany(junction) = cardinality {
        about.push(Subject::Relation(junction.table.clone()));
    }
    let (relationship, selector) = match cardinality {
        Cardinality::ManyToMany(junction) => (
            format!(
                "{} using {}{} and {}{}",
                junction.table.name,
                junction.source_constraint,
                list(&mut junction.source_columns.iter().map(|pair| &pair.1)),
                junction.target_constraint,
                list(&mut junction.target_columns.iter().map(|pair| &pair.1)),
            ),
            &junction.table.name,
        ),
        Cardinality::OneToMany { constraint, columns }
        | Cardinality::ManyToOne { constraint, columns }
        | Cardinality::OneToOne { constraint, columns, .. } => (
            format!(
                "{constraint} using {}{} and {}{}",
                table.name,
                list(&mut columns.iter().map(|pair| &pair.0)),
                foreign_table.name,
                list(&mut columns.iter().map(|pair| &pair.1)),
            ),
            constraint,
        ),
    };
    Some(AmbiguousRel {
        cardinality: kind,
        embedding: format!("{} with {}", table.name, foreign_table.name),
        relationship,
        suggestion: format!("{}!{selector}", foreign_table.name),
        about,
    })
}

/// `order=relation(field)`: the relation must be embedded and to-one; its subquery's name takes its place.
pub(super) fn add_related_orders(tree: &mut ReadPlanTree) -> Result<(), Error> {
    let ReadPlanTree { plan, children } = tree;
    for term in &mut plan.order {
        let OrderTarget::Related { relation, .. } = &mut term.target else { continue };
        let child = children
            .iter()
            .find(|child| child.plan.output_name() == relation)
            .ok_or_else(|| Error::NotEmbedded(relation.clone()))?;
        if !child.plan.relationship.as_ref().is_some_and(Relationship::is_to_one) {
            return Err(Error::RelatedOrderNotToOne {
                origin: (*plan.from.name).to_owned(),
                target: child.plan.output_name().to_owned(),
            });
        }
        relation.clone_from(&child.plan.join_alias);
    }
    children.iter_mut().try_for_each(add_related_orders)
}

/// `relation=is.null` on an embedding asks whether it found nothing. Any other filter of that name is on a column.
pub(super) fn add_null_filters(tree: &mut ReadPlanTree) {
    let ReadPlanTree { plan, children } = tree;
    if !children.is_empty() {
        for node in &mut plan.filters {
            null_filters(node, children);
        }
    }
    children.iter_mut().for_each(add_null_filters);
}

fn null_filters(node: &mut LogicNode, embedded: &[ReadPlanTree]) {
    match node {
        LogicNode::Expr { children, .. } => children.iter_mut().for_each(|child| null_filters(child, embedded)),
        LogicNode::Filter { field, op: OpExpr::Op { negated, operation: Operation::Is(IsValue::Null) } }
            if field.path.is_empty() =>
        {
            if let Some(child) = embedded.iter().find(|child| child.plan.output_name() == field.name) {
                *node = LogicNode::NullEmbed { negated: *negated, join_alias: child.plan.join_alias.clone() };
            }
        }
        LogicNode::Filter { .. } | LogicNode::NullEmbed { .. } => {}
    }
}
