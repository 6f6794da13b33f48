use std::fmt::Debug;

use super::super::parser::{Rule, parse};
use crate::error::Error;
use crate::limit;

macro_rules! rule {
    ($name:ident) => {
        Rule { quick: |p| p.$name(), recording: |p| p.$name() }
    };
}

/// What was parsed, or column and details of the error.
type Expected<'a> = Result<&'a str, (usize, &'a str)>;

#[track_caller]
fn parses<T: Debug>(rule: Rule<'static, T>, input: &'static str, expected: Expected<'_>) {
    match (parse("x", input, input, rule), expected) {
        (Ok(value), Ok(expected)) => assert_eq!(format!("{value:?}"), expected, "{input}"),
        (Err(Error::QueryParam(error)), Err((column, details))) => {
            assert_eq!(error.details, details, "{input}");
            assert_eq!(error.message, format!("\"failed to parse x ({input})\" (line 1, column {column})"), "{input}");
        }
        (result, _) => panic!("{input}: {result:?}"),
    }
}

#[test]
fn field_names() {
    #[track_caller]
    fn check(input: &'static str, expected: Expected<'_>) {
        parses(rule!(field_name), input, expected);
    }
    check("identifier", Ok(r#""identifier""#));
    check("identifier with spaces", Ok(r#""identifier with spaces""#));
    check("identifier-with-dashes", Ok(r#""identifier-with-dashes""#));
    check("a - b", Ok(r#""a-b""#));
    check("a->b", Ok(r#""a""#));
    check("123", Ok(r#""123""#));
    check("_", Ok(r#""_""#));
    check("$", Ok(r#""$""#));
    check("наименование", Ok(r#""наименование""#));
    check(":", Err((1, r#"unexpected ":" expecting field name (* or [a..z0..9_$])"#)));
    check(r#"":""#, Ok(r#"":""#));
    check(r#""a\"b\\c""#, Ok(r#""a\"b\\c""#));
    check(" no leading or trailing spaces ", Ok(r#""no leading or trailing spaces""#));
    check(r#"" leading and trailing spaces ""#, Ok(r#"" leading and trailing spaces ""#));
    check(r#""open"#, Err((6, r#"unexpected end of input expecting "\\" or "\"""#)));
    check("a-(", Err((3, r#"unexpected "(" expecting ">", letter or digit"#)));
}

#[test]
fn json_paths() {
    #[track_caller]
    fn check(input: &'static str, expected: Expected<'_>) {
        parses(rule!(json_path), input, expected);
    }
    check("->text", Ok(r#"[Arrow(Key("text"))]"#));
    check("->!@#$%^&*_a", Ok(r#"[Arrow(Key("!@#$%^&*_a"))]"#));
    check("->1", Ok(r#"[Arrow(Index("+1"))]"#));
    check("->>-1", Ok(r#"[DoubleArrow(Index("-1"))]"#));
    check("->>text", Ok(r#"[DoubleArrow(Key("text"))]"#));
    check("->0,other", Ok(r#"[Arrow(Index("+0"))]"#));
    check("->0.desc", Ok(r#"[Arrow(Index("+0"))]"#));
    check("->a->>1->b-c", Ok(r#"[Arrow(Key("a")), DoubleArrow(Index("+1")), Arrow(Key("b-c"))]"#));
    check("->1a", Ok(r#"[Arrow(Key("1a"))]"#));
    check("->\"a.b\"", Ok(r#"[Arrow(Key("a.b"))]"#));
    check("->>-78xy", Err((7, r#"unexpected 'x' expecting digit, "->", "::", ".", "," or end of input"#)));
    check("->>--34", Err((5, r#"unexpected "-" expecting digit"#)));
    check("->>-xy-4", Err((5, r#"unexpected "x" expecting digit"#)));
}

#[test]
fn select_items() {
    #[track_caller]
    fn check(input: &'static str, expected: Expected<'_>) {
        parses(rule!(select), input, expected);
    }
    let field = |name: &str, path: &str, rest: &str| {
        format!(
            "[SelectTree {{ item: Field {{ field: Field {{ name: {name:?}, path: [{path}] }}, {rest} }}, children: [] }}]"
        )
    };
    const PLAIN: &str = "aggregate: None, aggregate_cast: None, cast: None, alias: None";
    check("", Ok("[]"));
    check("id", Ok(&field("id", "", PLAIN)));
    check("*", Ok(&field("*", "", PLAIN)));
    check("name->jsonpath", Ok(&field("name", r#"Arrow(Key("jsonpath"))"#, PLAIN)));
    check(
        " alias:name->a::cast ",
        Ok(&field(
            "name",
            r#"Arrow(Key("a"))"#,
            r#"aggregate: None, aggregate_cast: None, cast: Some("cast"), alias: Some("alias")"#,
        )),
    );
    check(
        "a:count()::text",
        Ok(&field("*", "", r#"aggregate: Some(Count), aggregate_cast: Some("text"), cast: None, alias: Some("a")"#)),
    );
    check(
        "n::int.max()::text",
        Ok(&field("n", "", r#"aggregate: Some(Max), aggregate_cast: Some("text"), cast: Some("int"), alias: None"#)),
    );
    check(
        "id,clients(name[])",
        Err((16, r#"unexpected '[' expecting letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input"#)),
    );
    check("data->>-78xy", Err((11, r#"unexpected 'x' expecting digit, "->", "::", ".", "," or end of input"#)));
    check(
        "name!hint",
        Err((5, r#"unexpected '!' expecting letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input"#)),
    );
    check("name::", Err((7, "unexpected end of input expecting letter or digit")));
    check("data->>--34", Err((9, r#"unexpected "-" expecting digit"#)));
}

#[test]
fn select_star_keeps_what_ended_it() {
    // As an item the star could be a field name too, so only the rule for fields tells.
    parses(rule!(select_field), "*!hint", Err((2, r#"unexpected '!' expecting ")", "," or end of input"#)));
}

#[test]
fn relations() {
    let select = |input: &'static str| {
        let trees = parse("x", input, input, rule!(select)).unwrap();
        format!("{:?} {}", trees[0].item, trees[0].children.len())
    };
    let check = |input, expected: &str| assert_eq!(select(input), expected, "{input}");
    check("rel(*)", r#"Relation { relation: "rel", alias: None, hint: None, join_type: None } 1"#);
    check("alias:rel(a,b)", r#"Relation { relation: "rel", alias: Some("alias"), hint: None, join_type: None } 2"#);
    check("rel!hint()", r#"Relation { relation: "rel", alias: None, hint: Some("hint"), join_type: None } 0"#);
    check("rel!inner(*)", r#"Relation { relation: "rel", alias: None, hint: None, join_type: Some(Inner) } 1"#);
    check(
        "alias:rel!left!hint(*)",
        r#"Relation { relation: "rel", alias: Some("alias"), hint: Some("hint"), join_type: Some(Left) } 1"#,
    );
    check("...rel!hint!inner(*)", r#"Spread { relation: "rel", hint: Some("hint"), join_type: Some(Inner) } 1"#);
    check("a(b(c(d)))", r#"Relation { relation: "a", alias: None, hint: None, join_type: None } 1"#);
}

#[test]
fn filters() {
    #[track_caller]
    fn check(input: &'static str, expected: Expected<'_>) {
        parses(rule!(filter_value), input, expected);
    }
    let op = |negated: bool, operation: &str| format!("Op {{ negated: {negated}, operation: {operation} }}");
    check("eq.1", Ok(&op(false, r#"Quantified { operator: Eq, quantifier: None, value: "1" }"#)));
    check("not.eq(all).value", Ok(&op(true, r#"Quantified { operator: Eq, quantifier: Some(All), value: "value" }"#)));
    check("like(any).{a,b}", Ok(&op(false, r#"Quantified { operator: Like, quantifier: Some(Any), value: "{a,b}" }"#)));
    check("lte.1.5", Ok(&op(false, r#"Quantified { operator: Lte, quantifier: None, value: "1.5" }"#)));
    check("neq.x", Ok(&op(false, r#"Simple { operator: NotEqual, value: "x" }"#)));
    check("isdistinct.x", Ok(&op(false, r#"IsDistinctFrom("x")"#)));
    check("in.(1,2, 3)", Ok(&op(false, r#"In(["1", "2", " 3"])"#)));
    check(r#"in.( "a,b","c\"d",e"f" )"#, Ok(&op(false, r#"In(["a,b", "c\"d", "e\"f\" "])"#)));
    check("in.()", Ok(&op(false, r#"In([""])"#)));
    check("not.is.NULL", Ok(&op(true, "Is(Null)")));
    check("is.not_null", Ok(&op(false, "Is(NotNull)")));
    check(
        "fts(english).impossible",
        Ok(&op(false, r#"Fts { operator: Fts, language: Some("english"), value: "impossible" }"#)),
    );
    check("wfts.a b", Ok(&op(false, r#"Fts { operator: Websearch, language: None, value: "a b" }"#)));
    check("0", Err((1, r#"unexpected "0" expecting "not" or operator (eq, gt, ...)"#)));
    check("noop.0", Err((1, r#"unexpected "o" expecting "not" or operator (eq, gt, ...)"#)));
    check("", Err((1, r#"unexpected end of input expecting "not" or operator (eq, gt, ...)"#)));
    check("fts().value", Err((5, r#"unexpected ")" expecting operator (eq, gt, ...)"#)));
    check("eq().value", Err((4, r#"unexpected ")" expecting operator (eq, gt, ...)"#)));
    check("is().value", Err((3, r#"unexpected "(" expecting operator (eq, gt, ...)"#)));
    check("in().value", Err((3, r#"unexpected "(" expecting operator (eq, gt, ...)"#)));
}

#[test]
fn arguments_of_functions_are_what_is_no_filter() {
    #[track_caller]
    fn check(input: &'static str, expected: Expected<'_>) {
        parses(rule!(filter_value_or_argument), input, expected);
    }
    check("val", Ok(r#"NoOp("val")"#));
    check("eq", Ok(r#"NoOp("eq")"#));
    check("", Ok(r#"NoOp("")"#));
    check("in.x", Err((4, r#"unexpected "x" expecting "(""#)));
}

#[test]
fn orders() {
    #[track_caller]
    fn check(input: &'static str, expected: Expected<'_>) {
        parses(rule!(order), input, expected);
    }
    let term = |relation: &str, name: &str, path: &str, direction: &str, nulls: &str| {
        format!(
            "[OrderTerm {{ relation: {relation}, field: Field {{ name: {name:?}, path: [{path}] }}, direction: \
             {direction}, nulls: {nulls} }}]"
        )
    };
    check("name.desc.nullsfirst", Ok(&term("None", "name", "", "Some(Desc)", "Some(First)")));
    check(" name ", Ok(&term("None", "name", "", "None", "None")));
    check("name.nullslast", Ok(&term("None", "name", "", "None", "Some(Last)")));
    check("j->key.asc", Ok(&term("None", "j", r#"Arrow(Key("key"))"#, "Some(Asc)", "None")));
    check("clients(j->k).desc", Ok(&term(r#"Some("clients")"#, "j", r#"Arrow(Key("k"))"#, "Some(Desc)", "None")));
    check(
        "clients(name,id)",
        Err((8, r#"unexpected '(' expecting letter, digit, "-", "->>", "->", delimiter (.), "," or end of input"#)),
    );
    check("id.ac", Err((4, r#"unexpected "c" expecting "asc", "desc", "nullsfirst" or "nullslast""#)));
    check("id.descc", Err((8, r#"unexpected 'c' expecting delimiter (.), "," or end of input"#)));
    check("id.nulsfist", Err((4, r#"unexpected "n" expecting "asc", "desc", "nullsfirst" or "nullslast""#)));
    check("id.nullslasttt", Err((13, r#"unexpected 't' expecting "," or end of input"#)));
    check("id.smth34", Err((4, r#"unexpected "s" expecting "asc", "desc", "nullsfirst" or "nullslast""#)));
    check("id.asc.nlsfst", Err((8, r#"unexpected "l" expecting "nullsfirst" or "nullslast""#)));
    check("id.asc.nullslasttt", Err((17, r#"unexpected 't' expecting "," or end of input"#)));
    check("id.asc.smth34", Err((8, r#"unexpected "s" expecting "nullsfirst" or "nullslast""#)));
}

#[test]
fn logic_trees() {
    #[track_caller]
    fn check(input: &'static str, expected: Expected<'_>) {
        parses(rule!(logic_tree), input, expected);
    }
    let filter = |name: &str, operation: &str| {
        format!(
            "Filter(Filter {{ field: Field {{ name: {name:?}, path: [] }}, op: Op {{ negated: false, operation: \
             {operation} }} }})"
        )
    };
    let eq = |value: &str| filter("id", &format!("Quantified {{ operator: Eq, quantifier: None, value: {value:?} }}"));
    let tree = format!("Expr {{ negated: true, operator: Or, children: [{}, {}] }}", eq("1"), eq("a,b"));
    check(
        r#"not.or(id.eq.1, id.eq."a,b" )"#,
        Err((27, r#"unexpected "\"" expecting letter, digit, "-", "->>", "->" or delimiter (.)"#)),
    );
    check(r#"not.or( id.eq.1, id.eq."a,b")"#, Ok(&tree));
    check("id.eq.{a,b}x", Ok(&eq("{a,b}")));
    check(
        "or()",
        Err((
            4,
            r#"unexpected ")" expecting field name (* or [a..z0..9_$]), negation operator (not) or logic operator (and, or)"#,
        )),
    );
    check("or(id.in.1,2,id.eq.3)", Err((10, r#"unexpected "1" expecting "(""#)));
    check("or)(", Err((3, r#"unexpected ")" expecting "(""#)));
    check("and(ord(id.eq.1,id.eq.1),id.eq.2)", Err((7, r#"unexpected "d" expecting "(""#)));
    check("or(id.eq.1,not.xor(id.eq.2,id.eq.3))", Err((16, r#"unexpected "x" expecting logic operator (and, or)"#)));
}

#[test]
fn columns_need_a_name() {
    parses(rule!(columns), "a, b", Ok(r#"["a", "b"]"#));
    parses(rule!(columns), "", Err((1, "unexpected end of input expecting field name (* or [a..z0..9_$])")));
}

#[test]
fn positions_count_lines_characters_and_tabs() {
    let message = |input: &'static str| match parse("x", "", input, rule!(logic_tree)) {
        Err(Error::QueryParam(error)) => error.message,
        other => panic!("{other:?}"),
    };
    assert_eq!(message("or(\"é\nb\"(1)"), r#""failed to parse x ()" (line 2, column 3)"#);
    assert_eq!(message("or(\tid(1)"), r#""failed to parse x ()" (line 1, column 11)"#);
}

#[test]
fn hostile_trees_are_refused() {
    let passed = |result: Result<String, Error>| match result {
        Err(Error::Limit(limit)) => limit,
        other => panic!("{other:?}"),
    };
    let select = |text: &str| parse("x", "", text, rule!(select)).map(|trees| format!("{}", trees.len()));
    let logic = |text: &str| parse("x", "", text, rule!(logic_tree)).map(|_| String::new());
    let nested = |depth: usize| format!("{}a{}", "a(".repeat(depth), ")".repeat(depth));
    assert!(select(&nested(16)).is_ok());
    assert_eq!(passed(select(&nested(17))), limit::EMBED_DEPTH);
    assert_eq!(passed(select(&nested(30_000))), limit::EMBED_DEPTH);
    assert_eq!(passed(select(&"a,".repeat(30_000))), limit::SELECT_ITEMS);
    let path = |arrows: usize| format!("a{}", "->b".repeat(arrows));
    assert!(select(&path(250)).is_ok());
    assert_eq!(passed(select(&path(251))), limit::JSON_PATH);
    let nested = |depth: usize| format!("{}a.eq.1{}", "and(".repeat(depth), ")".repeat(depth));
    assert!(logic(&nested(64)).is_ok());
    assert_eq!(passed(logic(&nested(65))), limit::LOGIC_DEPTH);
    assert_eq!(passed(logic(&format!("or({}", "a.eq.1,".repeat(20_000)))), limit::CONDITIONS);
    let list = |count: usize| format!("or(a.in.(1{}))", ",1".repeat(count - 1));
    assert!(logic(&list(10_000)).is_ok());
    assert_eq!(passed(logic(&list(10_001))), limit::LIST_VALUES);
}
