//! The plan of a function call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::schema_cache::{Routine, RoutineParam};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallPlan {
    pub routine: Arc<Routine>,
    pub params: CallParams,
    pub arguments: CallArguments,
    /// Columns needed of the result; empty or `*` is all.
    pub returning: BTreeSet<Arc<str>>,
    /// Columns the result is filtered by.
    pub filter_fields: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallParams {
    /// By name: `f(a := 1, b := 2)`; only those that were given.
    Named(Vec<RoutineParam>),
    /// The single unnamed parameter, which takes the whole body.
    Positional(RoutineParam),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallArguments {
    /// From the query string or a form.
    Direct(BTreeMap<String, ArgumentValue>),
    /// The body.
    Body(Option<Bytes>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgumentValue {
    Fixed(String),
    /// The values of a variadic parameter, which may be given many times.
    Variadic(Vec<String>),
}

impl CallArguments {
    /// Arguments from pairs; of a repeated one the last counts, unless it is variadic.
    pub(super) fn from_pairs<'a>(routine: &Routine, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut arguments: BTreeMap<String, ArgumentValue> = BTreeMap::new();
        for (name, value) in pairs {
            let variadic = routine.has_variadic && routine.params.iter().any(|p| p.variadic && &*p.name == name);
            match arguments.get_mut(name) {
                Some(ArgumentValue::Variadic(values)) => values.push(value.to_owned()),
                _ if variadic => {
                    arguments.insert(name.to_owned(), ArgumentValue::Variadic(vec![value.to_owned()]));
                }
                _ => {
                    arguments.insert(name.to_owned(), ArgumentValue::Fixed(value.to_owned()));
                }
            }
        }
        Self::Direct(arguments)
    }
}
