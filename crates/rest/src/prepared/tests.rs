use http::Request;

use super::*;
use crate::schema_cache::fixture;

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

/// The statement by the whole pipeline.
fn planned(parts: &request::Parts, cache: &SchemaCache) -> MainQuery {
    let config = Config::default();
    let request = ApiRequest::parse(&config, parts, &Bytes::new()).unwrap();
    let plan = plan::action_plan(&request, &config, cache).unwrap();
    query::main_query(&plan, &request, &config, cache.readers).unwrap()
}

#[test]
fn a_prepared_read_is_what_planning_makes_of_it() {
    let (cache, config) = (Arc::new(fixture::cache()), Config::default());
    let check = |first: &str, later: &str, headers: &[(&str, &str)]| {
        let reads = PreparedReads::default();
        let (first, later) = (parts("GET", first, headers), parts("GET", later, headers));
        let (shape, later_shape) = (Shape::of(&first).unwrap(), Shape::of(&later).unwrap());
        assert!(reads.get(&shape, &cache).is_none());
        reads.note(&shape, &first, &config, &cache);
        assert!(reads.get(&shape, &cache).is_none(), "{}: prepared at first sight", first.uri);
        reads.note(&shape, &first, &config, &cache);
        let prepared = reads.get(&later_shape, &cache).unwrap_or_else(|| panic!("{} was not prepared", first.uri));
        let (made, expected) = (prepared.query(&later_shape), planned(&later, &cache));
        assert_eq!(made.main, expected.main, "{}", later.uri);
        assert_eq!((made.read_only, made.streams), (expected.read_only, expected.streams));
    };
    check("/projects?id=eq.1", "/projects?id=eq.2", &[]);
    check("/projects?id=eq.1&select=id,clients(name)", "/projects?id=eq.7&select=id,clients(name)", &[]);
    check("/projects?name=neq.x&id=not.gte.1", "/projects?name=neq.a%20b+c%26d&id=not.gte.9", &[]);
    check("/projects?name=eq.1&name=eq.2", "/projects?name=eq.2&name=eq.1", &[]);
    check("/projects", "/projects", &[("accept", "text/csv")]);
    check("/projects?id=eq.1", "/projects?id=eq.1", &[("range", "0-9")]);
    check("/clients?projects.id=eq.1&select=*,projects(*)", "/clients?projects.id=eq.2&select=*,projects(*)", &[]);
    check("/projects?name=eq.launchdb-value-0-&id=eq.1", "/projects?name=eq.2&id=eq.launchdb-value-0-", &[]);
    check("/projects?data-%3E%3Ek=eq.1&limit=3", "/projects?data-%3E%3Ek=eq.it's&limit=3", &[]);
}

#[test]
fn what_decides_the_answer_is_part_of_the_shape() {
    let shape =
        |method: &str, uri: &str, headers: &[(&str, &str)]| Shape::of(&parts(method, uri, headers)).map(|s| s.text);
    let plain = shape("GET", "/t?a=eq.1", &[]).unwrap();
    assert_eq!(shape("GET", "/t?a=eq.2", &[("x-client-info", "y")]).unwrap(), plain);
    for (method, uri, headers) in [
        ("HEAD", "/t?a=eq.1", &[][..]),
        ("GET", "/u?a=eq.1", &[]),
        ("GET", "/t?b=eq.1", &[]),
        ("GET", "/t?a=gt.1", &[]),
        ("GET", "/t?a=not.eq.1", &[]),
        ("GET", "/t?a=in.(1)", &[]),
        ("GET", "/t?a=eq.1&limit=1", &[]),
        ("GET", "/t?a=eq.1", &[("accept", "text/csv")]),
        ("GET", "/t?a=eq.1", &[("range", "0-1")]),
        ("GET", "/t?a=eq.1", &[("accept-profile", "v1")]),
    ] {
        assert_ne!(shape(method, uri, headers).unwrap(), plain, "{method} {uri} {headers:?}");
    }
    for (method, uri, headers) in [
        ("POST", "/t?a=eq.1", &[][..]),
        ("GET", "/rpc/f?a=eq.1", &[]),
        ("GET", "/", &[]),
        ("GET", "/t?a=eq.1", &[("prefer", "count=exact")]),
        ("GET", "/t?a=eq.%20x", &[]),
        ("GET", "/t?a=eq.", &[]),
        ("GET", "/t?a=eq.%ff", &[]),
        ("GET", "/t?a=eq.%00", &[]),
    ] {
        assert!(shape(method, uri, headers).is_none(), "{method} {uri} {headers:?}");
    }
    let many: String = (0..=MOST_VALUES).map(|n| format!("&a{n}=eq.1")).collect();
    assert!(shape("GET", &format!("/t?b=is.null{many}"), &[]).is_none());
}
