//! Functions: their operations, with arguments in the query string or in the body.

use std::borrow::Cow;

use super::model::{Entries, Items, Kind, Location, Operation, PLAIN, Parameter, ParameterRef, PathItem, Schema};
use super::operation::{Mime, operation, response};
use super::types;
use crate::schema_cache::{Routine, RoutineParam, Volatility};

/// A function to describe.
pub(super) struct Described<'a> {
    pub(super) routine: &'a Routine,
    /// The parameters' types by the names to show; None shows those of the schema cache.
    pub(super) param_types: Option<&'a [Box<str>]>,
}

impl<'a> Described<'a> {
    fn params(&self) -> impl Iterator<Item = (&'a RoutineParam, &'a str)> {
        let shown = self.param_types.unwrap_or_default();
        let own = |param: &'a RoutineParam| -> &'a str { &param.data_type };
        self.routine
            .params
            .iter()
            .enumerate()
            .map(move |(i, param)| (param, shown.get(i).map_or_else(|| own(param), |shown| &**shown)))
    }
}

pub(super) fn path<'a>(described: &Described<'a>) -> (Cow<'a, str>, PathItem<'a>) {
    let routine = described.routine;
    let with = |parameters| Operation {
        produces: &[Mime::Json, Mime::ObjectNullsStripped, Mime::Object],
        parameters,
        responses: Entries(vec![response("200", "OK")]),
        ..operation(Cow::Owned(format!("(rpc) {}", routine.name)), routine.description.as_deref())
    };
    let in_query = described
        .params()
        .map(|(param, data_type)| ParameterRef::Inline(Box::new(query_parameter(param, data_type))))
        .collect();
    let get = (routine.volatility != Volatility::Volatile).then(|| with(in_query));
    let in_body = vec![ParameterRef::Inline(Box::new(body_parameter(described))), ParameterRef::to("preferParams")];
    let item = PathItem { get, post: Some(with(in_body)), ..PathItem::default() };
    (Cow::Owned(format!("/rpc/{}", routine.name)), item)
}

fn query_parameter<'a>(param: &'a RoutineParam, data_type: &'a str) -> Parameter<'a> {
    let kind = types::kind(data_type);
    let common = Parameter { name: &param.name, required: param.required, kind: None, ..PLAIN };
    if param.variadic {
        let element = types::element(data_type);
        return Parameter {
            kind: Some(kind.unwrap_or(Kind::String)),
            items: Some(Items { format: Some(types::format(element)), kind: types::kind(element) }),
            // The parameter may be given several times.
            collection_format: Some("multi"),
            ..common
        };
    }
    // A query string has no JSON; arrays are in PostgreSQL's own form there.
    let kind = kind.filter(|kind| *kind != Kind::Array).unwrap_or(Kind::String);
    Parameter { format: Some(types::format(data_type)), kind: Some(kind), ..common }
}

fn body_parameter<'a>(described: &Described<'a>) -> Parameter<'a> {
    let routine = described.routine;
    let schema = Schema {
        description: routine.description.as_deref().map(Cow::Borrowed),
        required: routine.params.iter().filter(|param| param.required).map(|param| &*param.name).collect(),
        properties: Entries(
            described.params().map(|(param, data_type)| (&*param.name, types::schema(data_type))).collect(),
        ),
        kind: Some(Kind::Object),
        ..Schema::default()
    };
    Parameter { name: "args", required: true, location: Location::Body, kind: None, schema: Some(schema), ..PLAIN }
}
