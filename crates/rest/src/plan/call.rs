//! Finds the function that a call means, and plans the call.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::call_plan::{CallArguments, CallParams, CallPlan};
use super::read_plan::{LogicNode, ReadPlanTree};
use super::{hint, mutate};
use crate::api_request::ApiRequest;
use crate::api_request::types::{InvokeMethod, Payload};
use crate::error::{Error, NoRpc, Subject, Suggestion, UnnamedParameter};
use crate::identifier::QualifiedIdentifier;
use crate::media_type::MediaType;
use crate::schema_cache::{Routine, SchemaCache};

/// The names of the arguments.
pub(super) fn argument_names(request: &ApiRequest, method: InvokeMethod) -> BTreeSet<&str> {
    match method {
        InvokeMethod::Read { .. } => request.query_params.params.iter().map(|(name, _)| name.as_str()).collect(),
        InvokeMethod::Write => request.columns.iter().map(String::as_str).collect(),
    }
}

/// The function of that name whose parameters fit the arguments. When none does, a POST can go to one with a single
/// unnamed parameter of a type that takes the body.
pub(super) fn find_routine(
    target: &QualifiedIdentifier,
    arguments: &BTreeSet<&str>,
    method: InvokeMethod,
    content_type: &MediaType,
    cache: &SchemaCache,
) -> Result<Arc<Routine>, Error> {
    let is_post = method == InvokeMethod::Write;
    let unnamed = if is_post { unnamed_parameter(content_type) } else { None };
    let overloads = cache.routines.get(target).map(Vec::as_slice).unwrap_or_default();
    let named: Vec<&Arc<Routine>> = overloads.iter().filter(|r| takes(r, arguments, unnamed)).collect();
    let found = if named.is_empty() {
        overloads.iter().filter(|r| unnamed.is_some_and(|unnamed| takes_body(r, unnamed))).collect()
    } else {
        named
    };
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let arguments: Vec<String> = arguments.iter().map(|&name| name.to_owned()).collect();
            let only_unnamed = !matches!(unnamed, None | Some(UnnamedParameter::Json));
            let hint = if only_unnamed {
                Vec::new()
            } else {
                hint::for_routine(cache, &target.schema, &target.name, &arguments, overloads)
            };
            Err(Error::NoRpc(Box::new(NoRpc {
                schema: (*target.schema).to_owned(),
                name: (*target.name).to_owned(),
                arguments,
                unnamed,
                hint,
            })))
        }
        many => Err(Error::AmbiguousRpc(many.iter().map(|routine| signature(routine)).collect())),
    }
}

fn signature(routine: &Routine) -> Suggestion {
    let params: Vec<String> =
        routine.params.iter().map(|param| format!("{} => {}", param.name, param.data_type)).collect();
    Suggestion {
        about: Subject::Routines(vec![routine.oid]),
        text: format!("{}.{}({})", routine.schema, routine.name, params.join(", ")),
    }
}

fn unnamed_parameter(content_type: &MediaType) -> Option<UnnamedParameter> {
    match content_type {
        MediaType::ApplicationJson => Some(UnnamedParameter::Json),
        MediaType::TextPlain => Some(UnnamedParameter::Text),
        MediaType::TextXml => Some(UnnamedParameter::Xml),
        MediaType::OctetStream => Some(UnnamedParameter::Bytea),
        _ => None,
    }
}

/// Whether there is an argument for each parameter without default, and a parameter for each argument.
fn takes(routine: &Routine, arguments: &BTreeSet<&str>, unnamed: Option<UnnamedParameter>) -> bool {
    if routine.params.is_empty() {
        // A body that is no JSON is an argument without a name.
        return arguments.is_empty() && matches!(unnamed, None | Some(UnnamedParameter::Json));
    }
    let mut required = routine.params.iter().filter(|param| param.required);
    required.all(|param| arguments.contains(&*param.name))
        && arguments.iter().all(|name| routine.params.iter().any(|param| *param.name == **name))
}

fn takes_body(routine: &Routine, unnamed: UnnamedParameter) -> bool {
    let [param] = &*routine.params else { return false };
    param.name.is_empty()
        && match unnamed {
            UnnamedParameter::Json => matches!(&*param.data_type, "json" | "jsonb"),
            UnnamedParameter::Text => &*param.data_type == "text",
            UnnamedParameter::Xml => &*param.data_type == "xml",
            UnnamedParameter::Bytea => &*param.data_type == "bytea",
        }
}

pub(super) fn call_plan(
    routine: &Arc<Routine>,
    request: &ApiRequest,
    method: InvokeMethod,
    arguments: &BTreeSet<&str>,
    read: &ReadPlanTree,
) -> CallPlan {
    let params = match &*routine.params {
        [param] if param.name.is_empty() => CallParams::Positional(param.clone()),
        params => CallParams::Named(params.iter().filter(|param| arguments.contains(&*param.name)).cloned().collect()),
    };
    let arguments = match (method, &request.payload) {
        (InvokeMethod::Read { .. }, _) => {
            let pairs = request.query_params.params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            CallArguments::from_pairs(routine, pairs)
        }
        (InvokeMethod::Write, Some(Payload::UrlEncoded { pairs, .. })) => {
            let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            CallArguments::from_pairs(routine, pairs)
        }
        (InvokeMethod::Write, Some(Payload::Json { raw, .. } | Payload::RawJson { raw } | Payload::Raw { raw })) => {
            CallArguments::Body(Some(raw.clone()))
        }
        (InvokeMethod::Write, None) => CallArguments::Body(None),
    };
    let mut filter_fields = BTreeSet::new();
    collect_filter_fields(&read.plan.filters, &mut filter_fields);
    CallPlan {
        routine: routine.clone(),
        params,
        arguments,
        returning: mutate::needed_columns(read, &[]),
        filter_fields,
    }
}

fn collect_filter_fields(nodes: &[LogicNode], fields: &mut BTreeSet<String>) {
    for node in nodes {
        match node {
            LogicNode::Expr { children, .. } => collect_filter_fields(children, fields),
            LogicNode::Filter { field, .. } => {
                fields.insert(field.name.clone());
            }
            LogicNode::NullEmbed { .. } => {}
        }
    }
}
