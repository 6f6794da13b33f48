//! The OpenAPI 3.1 document of the platform API, made from the table of routes.

use serde_json::{Map, Value, json};

use crate::router::{Access, Route};

/// A field of a body or a parameter of a query.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// A type of JSON Schema.
    pub(crate) ty: &'static str,
    pub(crate) required: bool,
    pub(crate) description: &'static str,
}

pub(crate) const fn field(name: &'static str, ty: &'static str, description: &'static str) -> Field {
    Field { name, ty, required: false, description }
}

pub(crate) const fn required(name: &'static str, ty: &'static str, description: &'static str) -> Field {
    Field { name, ty, required: true, description }
}

pub(crate) fn document(routes: &[Route], server: &str) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "LaunchDB platform API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": server }],
        "paths": paths,
        "components": {
            "securitySchemes": { "owner": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let in_path = path_parameters(route.path)
        .into_iter()
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = route.query.iter().map(|field| {
        json!({
            "name": field.name,
            "in": "query",
            "required": field.required,
            "description": field.description,
            "schema": { "type": field.ty },
        })
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let mut answer = json!({ "description": route.summary });
    if !route.schema.is_empty() {
        answer["content"] = json!({ "application/json": { "schema": reference(route.schema) } });
    }
    let mut operation = json!({
        "operationId": route.operation_id,
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            route.status.to_string(): answer,
            "default": {
                "description": "An error.",
                "content": { "application/json": { "schema": reference("Error") } },
            },
        },
        "security": if route.access == Access::Owner { json!([{ "owner": [] }]) } else { json!([]) },
    });
    if !route.body.is_empty() {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": body(route.body) } } });
    }
    operation
}

pub(crate) fn path_parameters(path: &str) -> Vec<&str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect()
}

fn body(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| (field.name.to_owned(), json!({ "type": field.ty, "description": field.description })))
        .collect();
    let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// An object whose properties are `name: type`; a type that begins with `#` is a schema of ours, one that ends with
/// `[]` an array, one that ends with `?` may be null.
fn object(properties: &[(&str, &str)]) -> Value {
    let properties: Map<String, Value> =
        properties.iter().map(|(name, ty)| ((*name).to_owned(), property(ty))).collect();
    json!({ "type": "object", "properties": properties })
}

fn property(ty: &str) -> Value {
    if let Some(item) = ty.strip_suffix("[]") {
        return json!({ "type": "array", "items": property(item) });
    }
    if let Some(name) = ty.strip_prefix('#') {
        return reference(name);
    }
    match ty.strip_suffix('?') {
        Some(ty) => json!({ "type": [ty, "null"] }),
        None => json!({ "type": ty }),
    }
}

fn schemas() -> Value {
    let project = [
        ("id", "string"),
        ("name", "string"),
        ("status", "string"),
        ("failure", "string"),
        ("api_url", "string"),
        ("created_at", "string"),
        ("updated_at", "string"),
        ("deleted_at", "string"),
        ("purge_after", "string"),
    ];
    let key = [
        ("id", "integer"),
        ("name", "string"),
        ("kind", "string"),
        ("role", "string"),
        ("prefix", "string"),
        ("created_at", "string"),
        ("last_used_at", "string?"),
        ("revoked_at", "string?"),
    ];
    let s3_key = [("id", "integer"), ("name", "string"), ("access_key_id", "string"), ("created_at", "string")];
    let new_s3_key: Vec<_> = s3_key
        .into_iter()
        .chain([("secret_access_key", "string"), ("endpoint", "string"), ("region", "string")])
        .collect();
    let new_key: Vec<_> = key.into_iter().chain([("key", "string")]).collect();
    json!({
        "Any": {},
        "Error": object(&[("error", "#ErrorBody")]),
        "ErrorBody": {
            "type": "object",
            "required": ["code", "message", "details"],
            "properties": { "code": property("string"), "message": property("string"), "details": {} },
        },
        "Health": object(&[("status", "string"), ("parts", "object"), ("failing", "string[]")]),
        "Owner": object(&[
            ("id", "string"), ("email", "string"), ("is_admin", "boolean"), ("created_at", "string"),
            ("last_sign_in_at", "string?"),
        ]),
        "NewOwner": object(&[("owner", "#Owner"), ("password", "string?")]),
        "Session": object(&[
            ("token", "string"), ("token_type", "string"), ("expires_at", "string"), ("owner", "#Owner"),
        ]),
        "Project": object(&project),
        "Projects": object(&[("projects", "#Project[]"), ("next_offset", "integer?")]),
        "Connection": object(&[
            ("project_id", "string"), ("db_uri", "string"), ("db_uri_pooler", "string?"), ("anon_key", "string?"),
            ("service_role_key", "string?"), ("publishable_key", "string?"), ("secret_key", "string?"),
            ("api_url", "string"), ("postgrest_url", "string"), ("auth_url", "string"), ("storage_url", "string"),
            ("notes", "object"),
        ]),
        "Key": object(&key),
        "NewKey": object(&new_key),
        "Keys": object(&[("keys", "#Key[]"), ("legacy_keys_enabled", "boolean")]),
        "S3Key": object(&s3_key),
        "NewS3Key": object(&new_s3_key),
        "S3Keys": object(&[("keys", "#S3Key[]"), ("endpoint", "string"), ("region", "string")]),
        "LegacyKeys": object(&[("anon_key", "string"), ("service_role_key", "string")]),
        "SigningKey": object(&[
            ("id", "string"), ("algorithm", "string"), ("status", "string"), ("created_at", "integer"),
            ("public_jwk", "object"),
        ]),
        "SigningKeys": object(&[("keys", "#SigningKey[]")]),
        "Settings": object(&[
            ("auth", "object"), ("data_api", "object"), ("storage", "object"), ("limits", "object"),
            ("general", "object"),
        ]),
        "SqlStatement": object(&[
            ("command", "string"), ("row_count", "integer?"), ("truncated", "boolean"), ("columns", "#SqlColumn[]"),
            ("rows", "object[]"),
        ]),
        "SqlColumn": object(&[("name", "string"), ("type", "string?"), ("type_oid", "integer")]),
        "SqlResult": object(&[
            ("command", "string"), ("row_count", "integer?"), ("truncated", "boolean"), ("columns", "#SqlColumn[]"),
            ("rows", "object[]"), ("results", "#SqlStatement[]"), ("notices", "object[]"), ("duration_ms", "integer"),
        ]),
        "AuditEntry": object(&[
            ("id", "integer"), ("at", "string"), ("action", "string"), ("owner_id", "string?"),
            ("project_id", "string?"), ("detail", "object"), ("client_ip", "string?"), ("request_id", "string?"),
        ]),
        "AuditEntries": object(&[("entries", "#AuditEntry[]"), ("next_before", "integer?")]),
        "Domain": object(&[
            ("domain", "string"), ("status", "string"), ("created_at", "string"), ("approved_at", "string?"),
        ]),
        "Domains": object(&[("domains", "#Domain[]")]),
        "WaitingDomain": object(&[
            ("domain", "string"), ("project_id", "string"), ("owner_email", "string?"), ("created_at", "string"),
        ]),
        "WaitingDomains": object(&[("domains", "#WaitingDomain[]")]),
        "Extension": object(&[
            ("name", "string"), ("install", "string"), ("version", "string?"), ("installed_version", "string?"),
            ("schema", "string?"), ("comment", "string?"),
        ]),
        "Extensions": object(&[("extensions", "#Extension[]")]),
        "SlowQuery": object(&[
            ("id", "integer"), ("at", "string"), ("duration_ms", "integer"), ("statement", "string"), ("role", "string"),
            ("method", "string"), ("path", "string"), ("request_id", "string"), ("rows", "integer?"),
            ("error_code", "string?"),
        ]),
        "SlowQueries": object(&[("threshold_ms", "integer?"), ("slow_queries", "#SlowQuery[]")]),
        "Usage": object(&[("database", "object")]),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::router::routes;

    /// Every `$ref` in a document.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_is_complete() {
        let routes = routes();
        let document = document(&routes, "http://localhost:8000");
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let ids: HashSet<_> = routes.iter().map(|route| route.operation_id).collect();
        assert_eq!(ids.len(), routes.len(), "operation ids are unique");
        let operations: usize =
            document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
        assert_eq!(operations, routes.len());
    }
}
