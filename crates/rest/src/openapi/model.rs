//! The parts of a Swagger 2.0 document that are used here. What is empty is left out.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::operation::Mime;

/// An object whose members are in the order of the list. No name comes twice.
pub(super) struct Entries<K, V>(pub(super) Vec<(K, V)>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Entries<K, V> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Entries<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    pub(super) swagger: &'static str,
    pub(super) info: Info<'a>,
    pub(super) host: &'a str,
    pub(super) base_path: &'a str,
    pub(super) schemes: [&'static str; 1],
    pub(super) consumes: [Mime; 4],
    pub(super) produces: [Mime; 4],
    pub(super) paths: Entries<Cow<'a, str>, PathItem<'a>>,
    #[serde(skip_serializing_if = "Entries::is_empty")]
    pub(super) definitions: Entries<&'a str, Schema<'a>>,
    pub(super) parameters: Entries<Cow<'a, str>, Parameter<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) security_definitions: Option<Entries<&'static str, SecurityScheme>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) security: Option<[Entries<&'static str, [(); 0]>; 1]>,
    pub(super) external_docs: ExternalDocs,
}

#[derive(Serialize)]
pub(super) struct Info<'a> {
    pub(super) description: &'a str,
    pub(super) title: &'a str,
    pub(super) version: &'static str,
}

#[derive(Serialize)]
pub(super) struct ExternalDocs {
    pub(super) description: &'static str,
    pub(super) url: &'static str,
}

#[derive(Serialize)]
pub(super) struct SecurityScheme {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    #[serde(rename = "in")]
    pub(super) location: &'static str,
    pub(super) description: &'static str,
}

#[derive(Default, Serialize)]
pub(super) struct PathItem<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) get: Option<Operation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) post: Option<Operation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delete: Option<Operation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patch: Option<Operation<'a>>,
}

#[derive(Serialize)]
pub(super) struct Operation<'a> {
    pub(super) tags: [Cow<'a, str>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Mime]>::is_empty")]
    pub(super) produces: &'static [Mime],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) parameters: Vec<ParameterRef<'a>>,
    pub(super) responses: Entries<&'static str, Response<'a>>,
}

#[derive(Serialize)]
pub(super) struct Response<'a> {
    pub(super) description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<Schema<'a>>,
}

/// A parameter, or where it is described.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ParameterRef<'a> {
    Reference {
        #[serde(rename = "$ref")]
        reference: String,
    },
    Inline(Box<Parameter<'a>>),
}

impl ParameterRef<'_> {
    /// The parameter of the document with this name.
    pub(super) fn to(name: &str) -> Self {
        Self::Reference { reference: format!("#/parameters/{name}") }
    }
}

#[derive(Serialize)]
pub(super) struct Parameter<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<&'a str>,
    pub(super) required: bool,
    #[serde(skip_serializing_if = "<[&str]>::is_empty", rename = "enum")]
    pub(super) values: &'static [&'static str],
    #[serde(rename = "in")]
    pub(super) location: Location,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    pub(super) kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) items: Option<Items<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "collectionFormat")]
    pub(super) collection_format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<Schema<'a>>,
}

/// An optional text in the query string, without name and description yet.
pub(super) const PLAIN: Parameter<'static> = Parameter {
    name: "",
    description: None,
    required: false,
    values: &[],
    location: Location::Query,
    format: None,
    kind: Some(Kind::String),
    items: None,
    collection_format: None,
    default: None,
    schema: None,
};

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Location {
    Body,
    Header,
    Query,
}

/// The types of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    String,
    Boolean,
    Integer,
    Number,
    Array,
    Object,
}

#[derive(Serialize)]
pub(super) struct Items<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    pub(super) kind: Option<Kind>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Schema<'a> {
    #[serde(skip_serializing_if = "Option::is_none", rename = "$ref")]
    pub(super) reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "<[Box<str>]>::is_empty", rename = "enum")]
    pub(super) values: &'a [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) items: Option<Box<Schema<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_length: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) required: Vec<&'a str>,
    #[serde(skip_serializing_if = "Entries::is_empty")]
    pub(super) properties: Entries<&'a str, Schema<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    pub(super) kind: Option<Kind>,
}

impl Schema<'_> {
    /// The relation's definition in the document.
    pub(super) fn of_relation(name: &str) -> Self {
        Self { reference: Some(format!("#/definitions/{name}")), ..Self::default() }
    }
}
