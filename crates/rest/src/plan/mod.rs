//! Decides what is done with a request (PostgREST `Plan`). Pure: nothing here knows SQL or a connection.

mod action_plan;
mod aggregate;
mod call;
mod call_plan;
mod embed;
mod footprint;
mod hint;
mod members;
mod mutate;
mod mutate_plan;
mod negotiate;
mod read_plan;
mod read_tree;
mod resolve;
mod select;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use action_plan::{ActionPlan, CrudKind, CrudPlan, InfoPlan, InspectPlan};
pub use call_plan::{ArgumentValue, CallArguments, CallParams, CallPlan};
pub use footprint::Footprint;
pub use mutate_plan::{ConflictResolution, MutatePlan};
pub use read_plan::{
    Embed, JoinCondition, LogicNode, Member, MemberKind, OrderBy, OrderTarget, ReadPlan, ReadPlanTree, SelectField,
    Spread, SpreadField, TypedField,
};

use crate::api_request::ApiRequest;
use crate::api_request::types::{Action, InvokeMethod, Mutation, OpExpr, Operation, QuantOperator};
use crate::config::Config;
use crate::error::Error;
use crate::identifier::QualifiedIdentifier;
use crate::media_type::MediaType;
use crate::schema_cache::{Routine, SchemaCache, Table, Volatility};

/// Plans a request.
///
/// # Errors
/// Group 1 for what cannot be done as asked, group 2 for what the schema cache does not have.
pub fn action_plan(request: &ApiRequest, config: &Config, cache: &SchemaCache) -> Result<ActionPlan, Error> {
    match &request.action {
        Action::RelationRead { target, headers_only } => read(target, *headers_only, request, config, cache),
        Action::RelationMutate { target, mutation } => mutate(target, *mutation, request, config, cache),
        Action::Routine { target, method } => call(target, *method, request, config, cache),
        Action::SchemaRead { schema, headers_only } => inspect(schema, *headers_only, request),
        Action::RelationInfo(target) => {
            find_table(target, cache)?;
            Ok(ActionPlan::Info(InfoPlan::Relation(target.clone())))
        }
        // What could not be called is not described either.
        Action::RoutineInfo(target) => {
            let plan = call(target, InvokeMethod::Read { headers_only: true }, request, config, cache)?;
            Ok(match plan.crud().and_then(CrudPlan::routine) {
                Some(routine) => ActionPlan::Info(InfoPlan::Routine(routine.clone())),
                None => plan,
            })
        }
        Action::SchemaInfo => Ok(ActionPlan::Info(InfoPlan::Schema)),
    }
}

fn find_table<'a>(target: &QualifiedIdentifier, cache: &'a SchemaCache) -> Result<&'a Table, Error> {
    cache.tables.get(target).ok_or_else(|| Error::TableNotFound {
        schema: (*target.schema).to_owned(),
        name: (*target.name).to_owned(),
        hint: hint::for_table(cache, &target.schema, &target.name),
    })
}

fn find_routine(
    target: &QualifiedIdentifier,
    method: InvokeMethod,
    request: &ApiRequest,
    cache: &SchemaCache,
) -> Result<Arc<Routine>, Error> {
    call::find_routine(target, &call::argument_names(request, method), method, &request.content_type, cache)
}

/// Nothing but `*`, for which relations and functions can have media handlers of their own.
fn selects_all(tree: &ReadPlanTree) -> bool {
    tree.children.is_empty() && matches!(tree.plan.select.as_slice(), [only] if only.field.name == "*")
}

fn read(
    target: &QualifiedIdentifier,
    headers_only: bool,
    request: &ApiRequest,
    config: &Config,
    cache: &SchemaCache,
) -> Result<ActionPlan, Error> {
    let table = find_table(target, cache)?;
    let mut read = read_tree::read_plan(target, config, cache, request)?;
    let (handler, media_type) = negotiate::negotiate(config, request, target, cache, selects_all(&read))?;
    members::choose(&mut read, &handler, &media_type, cache);
    request.preferences.check()?;
    let by_key = by_key(table, &read);
    Ok(ActionPlan::Crud(Box::new(CrudPlan {
        kind: CrudKind::Read { headers_only },
        read,
        handler,
        media_type,
        read_only: true,
        by_key,
        target: target.clone(),
    })))
}

/// Whether a read names one row by its primary key, and neither what is embedded nor a function that returns a set can
/// multiply it.
fn by_key(table: &Table, read: &ReadPlanTree) -> bool {
    let is_named = |column: &Arc<str>| {
        read.plan.filters.iter().any(|node| match node {
            LogicNode::Filter { field, op: OpExpr::Op { negated: false, operation } } => {
                let equals =
                    matches!(operation, Operation::Quantified { operator: QuantOperator::Eq, quantifier: None, .. });
                field.name == **column && field.path.is_empty() && equals
            }
            _ => false,
        })
    };
    let is_column = |field: &TypedField| field.name == "*" || table.column(&field.name).is_some();
    let orders_by_column = |term: &OrderBy| match &term.target {
        OrderTarget::Field(field) => is_column(field),
        OrderTarget::Related { .. } => false,
    };
    let keeps_rows = |embed: &Embed| matches!(embed, Embed::Json { to_one: false, .. });
    let is_table = !table.is_view && !table.has_heirs && !table.pk_columns.is_empty();
    is_table
        && table.pk_columns.iter().all(is_named)
        && !read.plan.aggregates()
        && read.plan.select.iter().all(|selected| is_column(&selected.field))
        && read.plan.order.iter().all(orders_by_column)
        && read.plan.embeds.iter().all(keeps_rows)
}

fn mutate(
    target: &QualifiedIdentifier,
    mutation: Mutation,
    request: &ApiRequest,
    config: &Config,
    cache: &SchemaCache,
) -> Result<ActionPlan, Error> {
    let table = find_table(target, cache)?;
    let mut read = read_tree::read_plan(target, config, cache, request)?;
    let plan = mutate::mutate_plan(mutation, target, table, request, cache, &read)?;
    request.preferences.check()?;
    let (handler, media_type) = negotiate::negotiate(config, request, target, cache, selects_all(&read))?;
    members::choose(&mut read, &handler, &media_type, cache);
    Ok(ActionPlan::Crud(Box::new(CrudPlan {
        kind: CrudKind::Mutate { mutation, plan },
        read,
        handler,
        media_type,
        read_only: false,
        by_key: false,
        target: target.clone(),
    })))
}

fn call(
    target: &QualifiedIdentifier,
    method: InvokeMethod,
    request: &ApiRequest,
    config: &Config,
    cache: &SchemaCache,
) -> Result<ActionPlan, Error> {
    let routine = find_routine(target, method, request, cache)?;
    // A function that returns rows of a relation can embed what the relation can.
    let relation = QualifiedIdentifier {
        schema: routine.schema.clone(),
        name: routine.table_name().unwrap_or(&routine.name).clone(),
    };
    let mut read = read_tree::read_plan(&relation, config, cache, request)?;
    let plan = call::call_plan(&routine, request, method, &call::argument_names(request, method), &read);
    let (handler, media_type) = negotiate::negotiate(config, request, &relation, cache, selects_all(&read))?;
    members::choose(&mut read, &handler, &media_type, cache);
    let preferences = &request.preferences;
    preferences.check()?;
    if preferences.max_affected.is_some() && preferences.is_strict() && routine.returns_single() {
        return Err(Error::MaxAffectedRpcViolation);
    }
    let read_only = match method {
        InvokeMethod::Read { .. } => true,
        InvokeMethod::Write => routine.volatility != Volatility::Volatile,
    };
    Ok(ActionPlan::Crud(Box::new(CrudPlan {
        kind: CrudKind::Call { method, routine, plan },
        read,
        handler,
        media_type,
        read_only,
        by_key: false,
        target: target.clone(),
    })))
}

fn inspect(schema: &str, headers_only: bool, request: &ApiRequest) -> Result<ActionPlan, Error> {
    let available = [MediaType::OpenApi, MediaType::ApplicationJson, MediaType::Any];
    if !request.accept.iter().any(|accepted| available.contains(accepted)) {
        return Err(Error::MediaType(request.accept.iter().map(|m| m.mime().into_owned()).collect()));
    }
    Ok(ActionPlan::Inspect(InspectPlan { media_type: MediaType::OpenApi, headers_only, schema: schema.to_owned() }))
}
