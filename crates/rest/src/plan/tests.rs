//! What is refused, and with which words.

use std::sync::Arc;

use bytes::Bytes;

use super::{ActionPlan, action_plan};
use crate::api_request::ApiRequest;
use crate::config::Config;
use crate::error::{Error, UnnamedParameter};
use crate::limit;
use crate::schema_cache::SchemaCache;
use crate::schema_cache::fixture::cache;
use crate::schema_cache::{Cardinality, Relationship};

fn plan_with(cache: &SchemaCache, request: &str, prefer: &str, body: &'static str) -> Result<ActionPlan, Error> {
    let (method, uri) = request.split_once(' ').unwrap();
    let (parts, ()) =
        http::Request::builder().method(method).uri(uri).header("prefer", prefer).body(()).unwrap().into_parts();
    let config = Config::default();
    let request = ApiRequest::parse(&config, &parts, &Bytes::from_static(body.as_bytes()))?;
    action_plan(&request, &config, cache)
}

fn refused(request: &str) -> Error {
    plan_with(&cache(), request, "", "").unwrap_err()
}

#[test]
fn what_is_not_there_is_named_with_what_is_like_it() {
    let hint = |error: &Error| match error {
        Error::TableNotFound { hint, .. } => hint.first().cloned(),
        Error::NoRelBetween(error) => error.hint.first().cloned(),
        Error::NoRpc(error) => error.hint.first().cloned(),
        other => panic!("{other:?}"),
    };
    let hint_of = |request| hint(&refused(request)).map(|hint| hint.text).unwrap_or_default();
    assert_eq!(hint_of("GET /project"), "Perhaps you meant the table 'public.projects'");
    assert_eq!(hint_of("GET /zebra"), "");
    assert_eq!(hint_of("GET /clients?select=project(*)"), "Perhaps you meant 'projects' instead of 'project'.");
    assert_eq!(hint_of("GET /clients?select=projects!nothing(*)"), "");
    assert_eq!(hint_of("GET /rpc/add_then?a=1"), "Perhaps you meant to call the function public.add_them");
    assert_eq!(hint_of("GET /rpc/add_them?a=1&c=2"), "Perhaps you meant to call the function public.add_them(a, b)");
}

#[test]
fn a_function_is_found_by_its_parameters() {
    let cache = cache();
    let found = |request, body| plan_with(&cache, request, "", body).is_ok();
    assert!(found("GET /rpc/add_them?a=1", ""));
    assert!(found("GET /rpc/add_them?a=1&b=1", ""));
    assert!(found("POST /rpc/add_them", r#"{"a":1}"#));
    assert!(!found("POST /rpc/add_them", r#"{"b":1}"#));
    // The whole body goes to a single unnamed parameter, but not from a query string.
    assert!(found("POST /rpc/import", r#"{"whatever":1}"#));
    assert!(!found("GET /rpc/import?whatever=1", ""));
    let Error::NoRpc(error) = plan_with(&cache, "POST /rpc/nothing", "", r#"{"b":1,"a":2}"#).unwrap_err() else {
        panic!("found");
    };
    assert_eq!((error.arguments, error.unnamed), (vec!["a".into(), "b".into()], Some(UnnamedParameter::Json)));
}

#[test]
fn two_ways_to_embed_ask_for_a_choice() {
    let mut cache = cache();
    for ways in cache.relationships.values_mut() {
        let more: Vec<Relationship> = ways
            .iter()
            .filter_map(|way| match way {
                Relationship::ForeignKey {
                    table,
                    foreign_table,
                    cardinality: Cardinality::ManyToOne { columns, .. },
                    ..
                } => Some(Relationship::ForeignKey {
                    table: table.clone(),
                    foreign_table: foreign_table.clone(),
                    is_self: false,
                    cardinality: Cardinality::ManyToOne { constraint: Arc::from("other"), columns: columns.clone() },
                    table_is_view: false,
                    foreign_table_is_view: false,
                }),
                _ => None,
            })
            .collect();
        ways.extend(more);
    }
    let Error::AmbiguousRelBetween(error) = plan_with(&cache, "GET /projects?select=clients(*)", "", "").unwrap_err()
    else {
        panic!("found");
    };
    let suggestions: Vec<&str> = error.candidates.iter().map(|c| c.suggestion.as_str()).collect();
    assert_eq!(suggestions, ["clients!projects_client_id_fkey", "clients!other"]);
    assert_eq!(
        error.candidates[1].relationship, "other using projects(client_id) and clients(id)",
        "the constraint and the columns of both sides"
    );
    assert!(plan_with(&cache, "GET /projects?select=clients!other(*)", "", "").is_ok());
}

#[test]
fn parameters_need_an_embedding_to_go_to() {
    assert_eq!(refused("GET /clients?projects.id=eq.1"), Error::NotEmbedded("projects".into()));
    assert_eq!(refused("GET /projects?order=clients(name)"), Error::NotEmbedded("clients".into()));
    assert_eq!(
        refused("GET /clients?select=projects(*)&order=projects(name)"),
        Error::RelatedOrderNotToOne { origin: "clients".into(), target: "projects".into() }
    );
}

#[test]
fn writes_are_checked_before_they_run() {
    let write = |request, body| plan_with(&cache(), request, "", body).unwrap_err();
    assert_eq!(
        write("POST /projects", r#"{"nope":1}"#),
        Error::ColumnNotFound { relation: "projects".into(), column: "nope".into() }
    );
    assert_eq!(write("PUT /projects?name=eq.x", r#"{"id":1}"#), Error::InvalidFilters);
    assert_eq!(write("PUT /projects?id=gt.1", r#"{"id":1}"#), Error::InvalidFilters);
    let strict = plan_with(&cache(), "GET /rpc/add_them?a=1", "handling=strict, max-affected=1", "");
    assert_eq!(strict.unwrap_err(), Error::MaxAffectedRpcViolation);
}

#[test]
fn aggregates_are_off_unless_switched_on() {
    assert_eq!(refused("GET /projects?select=id.sum()"), Error::AggregatesNotAllowed);
    assert_eq!(refused("GET /projects?select=...clients(id.count())"), Error::AggregatesNotAllowed);
}

#[test]
fn endless_embedding_is_refused() {
    let deep = |levels: usize| {
        let mut select = String::from("*");
        for level in 0..levels {
            select = format!("{}({select})", if level % 2 == levels % 2 { "projects" } else { "clients" });
        }
        format!("GET /projects?select={select}")
    };
    assert!(plan_with(&cache(), &deep(8), "", "").is_ok());
    assert_eq!(refused(&deep(17)), Error::Limit(limit::EMBED_DEPTH));
    let wide = vec!["clients(id)"; 200].join(",");
    assert_eq!(refused(&format!("GET /projects?select={wide}")), Error::Limit(limit::EMBEDDINGS));
    // A star is as many columns as it stands for.
    let stars = |count: usize| format!("GET /projects?select={}", vec!["*"; count].join(","));
    assert!(plan_with(&cache(), &stars(416), "", "").is_ok());
    assert_eq!(refused(&stars(417)), Error::Limit(limit::SELECT_COLUMNS));
}
