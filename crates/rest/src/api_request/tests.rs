use expect_test::{Expect, expect};
use http::Request;

use super::*;
use crate::config::OpenApiMode;
use crate::error;

fn config() -> Config {
    Config { db_schemas: vec!["test".into(), "v1".into()], ..Config::default() }
}

fn request(
    config: &Config,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<ApiRequest, Error> {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    ApiRequest::parse(config, &parts, &Bytes::from(body.to_owned()))
}

fn error_body(result: Result<ApiRequest, Error>) -> String {
    let error = result.expect_err("an error");
    let (status, _, body) = error::render(&error, false);
    format!("{} {}", status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn paths_and_methods_become_actions() {
    let check = |method: &str, uri: &str, expected: Expect| {
        let body = if method == "GET" { "" } else { "{}" };
        expected.assert_eq(&match request(&config(), method, uri, &[], body) {
            Ok(request) => format!("{:?}", request.action),
            Err(error) => error.to_string(),
        });
    };
    check(
        "GET",
        "/items",
        expect![[
            r#"RelationRead { target: QualifiedIdentifier { schema: "test", name: "items" }, headers_only: false }"#
        ]],
    );
    check(
        "HEAD",
        "/items?select=id",
        expect![[
            r#"RelationRead { target: QualifiedIdentifier { schema: "test", name: "items" }, headers_only: true }"#
        ]],
    );
    check(
        "POST",
        "/Escap3e%3B",
        expect![[
            r#"RelationMutate { target: QualifiedIdentifier { schema: "test", name: "Escap3e;" }, mutation: Create }"#
        ]],
    );
    check(
        "PUT",
        "/items",
        expect![[
            r#"RelationMutate { target: QualifiedIdentifier { schema: "test", name: "items" }, mutation: SingleUpsert }"#
        ]],
    );
    check(
        "DELETE",
        "/items",
        expect![[
            r#"RelationMutate { target: QualifiedIdentifier { schema: "test", name: "items" }, mutation: Delete }"#
        ]],
    );
    check("OPTIONS", "/items", expect![[r#"RelationInfo(QualifiedIdentifier { schema: "test", name: "items" })"#]]);
    check(
        "GET",
        "/rpc/f",
        expect![[
            r#"Routine { target: QualifiedIdentifier { schema: "test", name: "f" }, method: Read { headers_only: false } }"#
        ]],
    );
    check(
        "POST",
        "/rpc/f",
        expect![[r#"Routine { target: QualifiedIdentifier { schema: "test", name: "f" }, method: Write }"#]],
    );
    check("PATCH", "/rpc/f", expect!["PGRST101: Cannot use the PATCH method on RPC"]);
    check("GET", "/", expect![[r#"SchemaRead { schema: "test", headers_only: false }"#]]);
    check("POST", "/", expect!["PGRST117: Unsupported HTTP method: POST"]);
    check("TRACE", "/items", expect!["PGRST117: Unsupported HTTP method: TRACE"]);
    check("GET", "/items?select=%ff", expect![[r#"PGRST100: "failed to parse query string" (line 1, column 1)"#]]);
    check("GET", "/items?name=eq.%ff", expect![[r#"PGRST100: "failed to parse query string" (line 1, column 1)"#]]);
    check("GET", "/first/second", expect!["PGRST125: Invalid path specified in request URL"]);
    check("GET", "/items/", expect!["PGRST125: Invalid path specified in request URL"]);
    check("GET", "/rpc/f/g", expect!["PGRST125: Invalid path specified in request URL"]);
}

#[test]
fn the_root_may_be_a_function_or_nothing() {
    let root = Config { db_root_spec: Some(QualifiedIdentifier::new("", "root")), ..config() };
    assert!(matches!(request(&root, "GET", "/", &[], "").unwrap().action, Action::Routine { .. }));
    let disabled = Config { openapi_mode: OpenApiMode::Disabled, ..root };
    assert_eq!(request(&disabled, "GET", "/", &[], ""), Err(Error::OpenApiDisabled));
}

#[test]
fn schemas_are_negotiated() {
    let check = |method: &str, headers: &[(&str, &str)], expected: Result<(&str, bool), &str>| {
        let result = request(&config(), method, "/t", headers, "{}").map(|r| (r.schema, r.negotiated_by_profile));
        let result = result.map_err(|error| error.to_string());
        let expected = expected.map(|(schema, by)| (schema.to_owned(), by)).map_err(str::to_owned);
        assert_eq!(result, expected, "{method} {headers:?}");
    };
    check("GET", &[], Ok(("test", true)));
    check("GET", &[("Accept-Profile", "v1")], Ok(("v1", true)));
    check("GET", &[("Content-Profile", "v1")], Ok(("test", true)));
    check("POST", &[("Content-Profile", "v1")], Ok(("v1", true)));
    check("POST", &[("Content-Profile", "v2")], Err("PGRST106: Invalid schema: v2"));
    let one = Config { db_schemas: vec!["test".into()], ..config() };
    assert!(!request(&one, "GET", "/t", &[], "").unwrap().negotiated_by_profile);
}

#[test]
fn ranges_come_from_parameters_and_header() {
    let check = |method: &str, query: &str, range: &str, expected: Result<(u64, Option<u64>), &str>| {
        let headers = [("Range", range)];
        let headers = if range.is_empty() { &[][..] } else { &headers[..] };
        let result = request(&config(), method, &format!("/t?{query}"), headers, "{}")
            .map(|r| (r.top_level_range.offset, r.top_level_range.limit));
        match (result, expected) {
            (Err(error), Err(part)) => {
                let body = String::from_utf8(error::payload(&error).to_vec()).unwrap();
                assert!(body.contains(part), "{body}");
            }
            (result, expected) => assert_eq!(result.ok(), expected.ok(), "{method} {query} {range}"),
        }
    };
    const NEGATIVE: &str = "Limit should be greater than or equal to zero.";
    check("GET", "", "", Ok((0, None)));
    check("GET", "limit=5", "", Ok((0, Some(5))));
    check("GET", "limit=5&offset=2", "", Ok((2, Some(5))));
    check("GET", "offset=2", "", Ok((2, None)));
    check("GET", "limit=0", "", Ok((0, Some(0))));
    check("GET", "limit=0", "5-9", Ok((0, Some(0))));
    check("GET", "limit=-1", "", Err(NEGATIVE));
    check("GET", "limit=0&offset=5", "", Err(NEGATIVE));
    check("GET", "limit=x", "", Ok((0, None)));
    check("GET", "limit=99999999999999999999", "", Ok((0, Some(i64::MAX as u64))));
    check("GET", "offset=-5&limit=10", "", Ok((0, Some(5))));
    check("GET", "", "0-9", Ok((0, Some(10))));
    check("GET", "", "10-", Ok((10, None)));
    check("GET", "", "1-0", Err("The lower boundary must be lower"));
    check("GET", "", "items 1-0", Ok((0, None)));
    check("GET", "limit=3", "1-9", Ok((1, Some(2))));
    check("HEAD", "", "0-9", Ok((0, None)));
    check("PUT", "limit=1", "", Err("PGRST114"));
    check("PUT", "", "0-1", Ok((0, None)));
}

#[test]
fn embedded_levels_have_their_own_parameters() {
    let uri = "/t?select=id,a(id,b(id))&a.limit=2&a.offset=1&a.b.limit=0&a.order=id.desc&order=id&a.b.id=eq.1&a.or=(id.eq.1,id.eq.2)&a.not.and=(id.eq.3)&x=is.null";
    let request = request(&config(), "GET", uri, &[], "").unwrap();
    let params = &request.query_params;
    expect![[r#"[(["a"], Bounds { lower: 1, upper: 2 }), (["a", "b"], Bounds { lower: 0, upper: -1 })]"#]]
        .assert_eq(&format!("{:?}", params.ranges));
    let paths: Vec<_> = params.order.iter().map(|(path, _)| path.join(".")).collect();
    assert_eq!(paths, ["a", ""]);
    let paths: Vec<_> = params.logic.iter().map(|(path, _)| path.join(".")).collect();
    assert_eq!(paths, ["a", "a"]);
    assert!(matches!(params.logic[1].1, types::LogicTree::Expr { negated: true, .. }));
    assert_eq!(params.filters_root().count(), 1);
    assert_eq!(params.filters_not_root().count(), 1);
    assert_eq!(params.filter_names.iter().collect::<Vec<_>>(), ["a.b.id", "x"]);
    assert!(request.top_level_range.is_all());
}

#[test]
fn parameters_that_are_there_twice() {
    let query = "select=a&select=b&id=gt.1&id=lt.5&limit=1&limit=2";
    let request = request(&config(), "GET", &format!("/t?{query}"), &[], "").unwrap();
    assert_eq!(request.query_params.select.len(), 1);
    assert_eq!(request.query_params.filters.len(), 2);
    assert_eq!(request.top_level_range.limit, Some(2));
    assert_eq!(url::canonical(query), "id=gt.1,lt.5&limit=1,2&select=a,b");
}

#[test]
fn arguments_of_functions() {
    let get = request(&config(), "GET", "/rpc/f?a=1&b=x,y&id=eq.5&a=2", &[], "").unwrap();
    let params = &get.query_params.params;
    let params: Vec<_> = params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(params, [("a", "1"), ("b", "x,y"), ("a", "2")]);
    assert_eq!(get.query_params.filters.len(), 1);
    assert!(request(&config(), "POST", "/rpc/f?a=1", &[], "{}").is_err());
}

#[test]
fn headers_cookies_and_media_types() {
    let sent = [
        ("Cookie", "a=1; b=x=y;c"),
        ("X-Custom", "é"),
        ("Accept", "text/csv;q=0.5, application/json"),
        ("Content-Type", "application/json; charset=utf-8"),
    ];
    let request = request(&config(), "GET", "/t", &sent, "").unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in sent {
        map.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    expect![[r#"[("x-custom", "é"), ("accept", "text/csv;q=0.5, application/json"), ("content-type", "application/json; charset=utf-8")]"#]]
        .assert_eq(&format!("{:?}", headers(&map)));
    expect![[r#"[("a", "1"), ("b", "x=y"), ("c", "")]"#]].assert_eq(&format!("{:?}", cookies(&map)));
    assert_eq!(request.accept, [MediaType::ApplicationJson, MediaType::TextCsv]);
    assert_eq!(request.content_type, MediaType::ApplicationJson);
}

#[test]
fn parts_in_several_parameters_count_together() {
    let passed = |uri: &str, limit: limit::Limit| {
        assert_eq!(request(&config(), "GET", uri, &[], ""), Err(Error::Limit(limit)), "{}", &uri[..20]);
    };
    assert!(request(&config(), "GET", &format!("/t?{}", "a=eq.1&".repeat(5_000)), &[], "").is_ok());
    passed(&format!("/t?{}", "a=eq.1&".repeat(5_001)), limit::CONDITIONS);
    passed(&format!("/t?{}or=(a.eq.1)", "a=eq.1&".repeat(4_999)), limit::CONDITIONS);
    passed(&format!("/t?{}", "order=a,b&".repeat(251)), limit::ORDER_TERMS);
    passed(&format!("/t?a=cs.{}", "[".repeat(2_001)), limit::VALUE_DEPTH);
    passed(&format!("/t?or=(a.in.(1,{}))", "[".repeat(2_001)), limit::VALUE_DEPTH);
    passed(&format!("/t?a=fts.{}", "(".repeat(2_001)), limit::VALUE_DEPTH);
    assert!(request(&config(), "GET", &format!("/t?a=eq.{}", "(".repeat(2_001)), &[], "").is_ok());
    let many = vec!["a"; 101].join(",");
    let header = |name: &'static str| request(&config(), "GET", "/t", &[(name, &many)], "").unwrap_err();
    assert_eq!(header("prefer"), Error::Limit(limit::PREFERENCES_GIVEN));
    assert_eq!(header("accept"), Error::Limit(limit::MEDIA_TYPES));
    expect![[r#"400 {"code":"PGRST122","details":"A request can have at most 100 preferences.","hint":"Give each preference once.","message":"Too many preferences in the Prefer header"}"#]]
        .assert_eq(&error_body(request(&config(), "GET", "/t", &[("prefer", &many)], "")));
}

#[test]
fn what_cannot_be_read_is_told() {
    let check = |uri: &str, expected: Expect| expected.assert_eq(&error_body(request(&config(), "GET", uri, &[], "")));
    check(
        "/t?id=0",
        expect![[
            r#"400 {"code":"PGRST100","details":"unexpected \"0\" expecting \"not\" or operator (eq, gt, ...)","hint":null,"message":"\"failed to parse filter (0)\" (line 1, column 1)"}"#
        ]],
    );
    check(
        "/t?order=id.asc.nullslasttt",
        expect![[
            r#"400 {"code":"PGRST100","details":"unexpected 't' expecting \",\" or end of input","hint":null,"message":"\"failed to parse order (id.asc.nullslasttt)\" (line 1, column 17)"}"#
        ]],
    );
    check(
        "/t?or=()",
        expect![[
            r#"400 {"code":"PGRST100","details":"unexpected \")\" expecting field name (* or [a..z0..9_$]), negation operator (not) or logic operator (and, or)","hint":null,"message":"\"failed to parse logic tree (())\" (line 1, column 4)"}"#
        ]],
    );
    check(
        "/t?columns=",
        expect![[
            r#"400 {"code":"PGRST100","details":"unexpected end of input expecting field name (* or [a..z0..9_$])","hint":null,"message":"\"failed to parse columns parameter ()\" (line 1, column 1)"}"#
        ]],
    );
    check(
        "/t?(=eq.1",
        expect![[
            r#"400 {"code":"PGRST100","details":"unexpected \"(\" expecting field name (* or [a..z0..9_$])","hint":null,"message":"\"failed to parse tree path (()\" (line 1, column 1)"}"#
        ]],
    );
    check(
        "/t?a.(.limit=1",
        expect![[
            r#"400 {"code":"PGRST100","details":"unexpected \"(\" expecting field name (* or [a..z0..9_$])","hint":null,"message":"\"failed to parse tree path (a.(.limit)\" (line 1, column 3)"}"#
        ]],
    );
    check(
        "/t?done=is.nil",
        expect![[
            r#"400 {"code":"PGRST100","details":"unexpected \"i\" expecting isVal: (null, not_null, true, false, unknown)","hint":null,"message":"\"failed to parse filter (is.nil)\" (line 1, column 5)"}"#
        ]],
    );
}
