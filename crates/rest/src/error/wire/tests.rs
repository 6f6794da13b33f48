use super::*;
use crate::error::{AmbiguousRelBetween, NoRelBetween, Subject};

fn db(code: &str, message: &str, detail: Option<&str>) -> Error {
    Error::Db(Box::new(pg::DbError { detail: detail.map(Into::into), ..pg::DbError::new(code, message) }))
}

fn body(error: &Error) -> String {
    String::from_utf8(payload(error).to_vec()).unwrap()
}

#[test]
fn bodies_have_the_order_of_keys_that_clients_have_measured() {
    let check = |error: &Error, expected: &str| assert_eq!(body(error), expected);
    check(
        &db("42501", "permission denied for table authors_only", None),
        r#"{"code":"42501","details":null,"hint":null,"message":"permission denied for table authors_only"}"#,
    );
    check(
        &db("2200N", "invalid XML content", Some("line 1: StartTag: invalid element name\n<\n ^")),
        r#"{"code":"2200N","details":"line 1: StartTag: invalid element name\n<\n ^","hint":null,"message":"invalid XML content"}"#,
    );
    check(
        &Error::InvalidRange(RangeError::OutOfBounds { offset: 1, total: 0 }),
        r#"{"code":"PGRST103","details":"An offset of 1 was requested, but there are only 0 rows.","hint":null,"message":"Requested range not satisfiable"}"#,
    );
    let rel = AmbiguousRelBetween {
        parent: "first".into(),
        child: "second".into(),
        candidates: ["a", "b"]
            .map(|name| AmbiguousRel {
                cardinality: "one-to-one",
                embedding: "first with second".into(),
                relationship: format!("{name} using first(x) and second(id)"),
                suggestion: format!("second!{name}"),
                about: Vec::new(),
            })
            .into(),
    };
    check(
        &Error::AmbiguousRelBetween(Box::new(rel)),
        concat!(
            r#"{"code":"PGRST201","details":["#,
            r#"{"cardinality":"one-to-one","embedding":"first with second","relationship":"a using first(x) and second(id)"},"#,
            r#"{"cardinality":"one-to-one","embedding":"first with second","relationship":"b using first(x) and second(id)"}],"#,
            r#""hint":"Try changing 'second' to one of the following: 'second!a', 'second!b'. Find the desired relationship in the 'details' key.","#,
            r#""message":"Could not embed because more than one relationship was found for 'first' and 'second'"}"#
        ),
    );
}

#[test]
fn what_passes_says_when_to_try_again() {
    let check = |error: &Error, status: u16, retry: bool| {
        let (answered, headers, _) = render(error, true);
        assert_eq!((answered.as_u16(), headers.contains_key(RETRY_AFTER)), (status, retry), "{error}");
    };
    check(&Error::Connection("refused".into()), 503, true);
    check(&Error::Client("lost".into()), 503, true);
    check(&Error::SchemaCacheUnavailable, 503, true);
    check(&Error::AcquireTimeout, 504, true);
    check(&Error::Overloaded, 503, true);
    check(&db("53100", "the disk is nearly full", None), 503, true);
    check(&db("53300", "too many connections", None), 503, true);
    check(&db("PT503", "a function says so", None), 503, false);
    check(&db("23505", "duplicate key", None), 409, false);
}

#[test]
fn what_was_searched_is_told() {
    let rpc = |arguments: &[&str], unnamed| {
        Error::NoRpc(Box::new(NoRpc {
            schema: "test".into(),
            name: "f".into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            unnamed,
            hint: vec![Suggestion { about: Subject::Routines(Vec::new()), text: "Perhaps".into() }],
        }))
    };
    let check = |error: &Error, message: &str, details: &str, hint: &str| {
        let expected = format!(
            r#"{{"code":"PGRST202","details":"Searched for the function test.f {details}, but no matches were found in the schema cache.","hint":{hint},"message":"Could not find the function test.f{message} in the schema cache"}}"#
        );
        assert_eq!(body(error), expected);
    };
    let hint = r#""Perhaps""#;
    check(&rpc(&[], None), " without parameters", "without parameters", hint);
    check(&rpc(&["a"], None), "(a)", "with parameter a", hint);
    check(&rpc(&["a", "b"], None), "(a, b)", "with parameters a, b", hint);
    check(
        &rpc(&["a", "b"], Some(UnnamedParameter::Json)),
        "(a, b)",
        "with parameters a, b or with a single unnamed json/jsonb parameter",
        hint,
    );
    check(&rpc(&[], Some(UnnamedParameter::Text)), "", "with a single unnamed text parameter", "null");

    let rel = |embed_hint: Option<&str>| {
        let error = Error::NoRelBetween(Box::new(NoRelBetween {
            parent: "message".into(),
            child: "person".into(),
            embed_hint: embed_hint.map(Into::into),
            schema: "test".into(),
            hint: Vec::new(),
        }));
        body(&error)
    };
    assert!(rel(None).contains("between 'message' and 'person' in the schema 'test', but no matches were found."));
    assert!(rel(Some("space")).contains("'person' using the hint 'space' in the schema 'test', but"));
}

#[test]
fn sqlstates_become_statuses() {
    let check = |code: &str, message: &str, authenticated: bool, status: u16| {
        assert_eq!(db(code, message, None).status(authenticated).as_u16(), status, "{code} {message}");
    };
    check("08006", "", true, 503);
    check("0P000", "", true, 403);
    check("23503", "", true, 409);
    check("23502", "", true, 400);
    check("25006", "", true, 405);
    check("25P02", "", true, 500);
    check("21000", "UPDATE requires a WHERE clause", true, 400);
    check("21000", "more than one row returned", true, 500);
    check("22023", "role \"x\" does not exist", true, 401);
    check("22023", "geometry column is missing", true, 400);
    check("42501", "", true, 403);
    check("42501", "", false, 401);
    check("42883", "function xmlagg(json) does not exist", true, 406);
    check("42883", "", true, 404);
    check("42P01", "", true, 404);
    check("42P17", "", true, 500);
    check("53400", "", true, 500);
    check("53300", "", true, 503);
    check("57P01", "", true, 503);
    check("57014", "", true, 500);
    check("P0001", "", true, 400);
    check("P0004", "", true, 500);
    check("PT402", "", true, 402);
    check("PT40A", "", true, 500);
    check("PT100", "", true, 500);
    check("PT", "", true, 500);
    check("", "", true, 400);
    check("ééé", "", true, 400);
}

#[test]
fn functions_control_the_answer() {
    let message = r#"{"code":"123","message":"ABC","details":"DEF","hint":"XYZ"}"#;
    let detail = r#"{"status":332,"status_text":"My Custom Status","headers":{"X-Header":"str"}}"#;
    let raised = db("PGRST", message, Some(detail));
    let (status, headers, body) = render(&raised, false);
    assert_eq!(status.as_u16(), 332);
    assert_eq!(headers["x-header"], "str");
    assert_eq!(headers["proxy-status"], "PostgREST; error=123");
    assert_eq!(body, r#"{"code":"123","details":"DEF","hint":"XYZ","message":"ABC"}"#);
    assert_eq!(raised.reason().as_deref(), Some("My Custom Status"));

    let check = |error: &Error, details: &str| {
        let (status, _, body) = render(error, false);
        assert_eq!(status.as_u16(), 500);
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.starts_with(&format!("{{\"code\":\"PGRST121\",\"details\":\"{details}\"")), "{body}");
    };
    check(&db("PGRST", "INVALID", Some(detail)), "Invalid JSON value for MESSAGE: 'INVALID'");
    check(&db("PGRST", message, Some("INVALID")), "Invalid JSON value for DETAIL: 'INVALID'");
    check(&db("PGRST", message, None), "DETAIL is missing in the RAISE statement");
    assert_eq!(db("PT402", "Payment Required", None).reason().as_deref(), Some("Payment Required"));
}

#[test]
fn who_lacks_a_token_is_asked_for_one() {
    let check = |error: &Error, authenticated: bool, value: Option<&str>| {
        let (_, headers, _) = render(error, authenticated);
        assert_eq!(headers.get(WWW_AUTHENTICATE).map(|v| v.to_str().unwrap()), value, "{error}");
    };
    check(&db("42501", "", None), false, Some("Bearer"));
    check(&db("42501", "", None), true, None);
    check(&Error::JwtTokenRequired, false, Some("Bearer"));
    check(
        &Error::Jwt(JwtError::Expired),
        false,
        Some("Bearer error=\"invalid_token\", error_description=\"JWT expired\""),
    );
    check(&Error::JwtSecretMissing, false, None);
}

#[test]
fn a_token_that_is_refused_is_told_why() {
    let check = |error: JwtError, code: &str, message: &str, details: &str| {
        let expected = format!(r#"{{"code":"{code}","details":{details},"hint":null,"message":"{message}"}}"#);
        let error = Error::Jwt(error);
        assert_eq!(body(&error), expected);
        let (status, headers, _) = render(&error, false);
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{message}\"");
        assert_eq!(headers[WWW_AUTHENTICATE], challenge);
    };
    check(JwtError::Parts(2), "PGRST301", "Expected 3 parts in JWT; got 2", "null");
    check(JwtError::Malformed, "PGRST301", "JWT cryptographic operation failed", "null");
    check(
        JwtError::Unsecured,
        "PGRST301",
        "Wrong or unsupported encoding algorithm",
        r#""JWT is unsecured but expected 'alg' was not 'none'""#,
    );
    check(
        JwtError::NoKey,
        "PGRST301",
        "No suitable key or wrong key type",
        r#""No suitable key was found to decode the JWT""#,
    );
    check(
        JwtError::Signature,
        "PGRST301",
        "No suitable key or wrong key type",
        r#""None of the keys was able to decode the JWT""#,
    );
    check(JwtError::Payload, "PGRST303", "Parsing claims failed", "null");
}

#[test]
fn whoever_finds_the_service_away_is_told_to_come_back() {
    let retry = |error: &Error| render(error, false).1.contains_key(RETRY_AFTER);
    assert!(retry(&Error::Connection("refused".into())));
    assert!(retry(&db("53300", "too many connections", None)));
    // What a function raises is its own.
    assert!(!retry(&db("PT503", "closed today", None)));
    assert!(!retry(&db("P0001", "no", None)));
}
