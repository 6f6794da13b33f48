//! Requests against a database, from the parsed head of the request to status, headers and body.

use std::sync::Arc;
use std::time::Duration;

use base::{Caller, Credential, RoleName, WriteGate};
use bytes::Bytes;
use pg::{Budget, ConnectConfig, LibpqDefaults, PoolConfig};
use test_support::{TestCluster, TestDatabase};
use tokio_util::task::TaskTracker;

use super::{Instance, Shared};
use crate::config::Config;
use crate::dropin::database_config::DatabaseConfig;
use crate::error;
use crate::identifier::QualifiedIdentifier;
use crate::response::{Body, ServerTiming};

const FIXTURE: &str = "
    do $$ begin
      create role wire_login login noinherit password 'x';
      create role wire_caller;
      create role wire_strict;
      grant wire_caller, wire_strict to wire_login;
      alter role wire_strict set statement_timeout to '7s';
      alter role wire_strict set default_transaction_isolation to 'REPEATABLE READ';
      alter role wire_strict set log_min_messages to 'error';
    exception when others then null; end $$;
    create table authors (id int primary key, name text);
    create table books (id int primary key, author_id int references authors, title text, price int);
    create table loans (id int primary key, author_id int references authors);
    create table größen (id int primary key, maß text);
    insert into authors values (1, 'Ada'), (2, 'Bob');
    insert into books values (1, 1, 'A', 10), (2, 1, 'B', 20), (3, 2, 'C', 30);
    insert into loans values (1, 1);
    create function one_author(wanted int) returns authors stable language sql as 'select * from authors where id = wanted';
    create function all_books() returns setof books stable language sql as 'select * from books';
    create function add_author(id int) returns text language sql set default_transaction_isolation = 'Serializable' as $f$
      insert into authors values (id, 'new'); select current_setting('transaction_isolation') $f$;
    create function setting_of(name text) returns text stable language sql as 'select current_setting(name)';
    create sequence tries;
    create function third_time() returns int language plpgsql set default_transaction_isolation = 'serializable' as $f$
      begin if nextval('tries') % 3 <> 0 then raise sqlstate '40001'; end if; return 1; end $f$;
    grant usage on all sequences in schema public to wire_caller;
    grant usage on schema public to wire_caller, wire_strict;
    grant select, insert, update, delete on all tables in schema public to wire_caller;
";

async fn database() -> TestDatabase {
    let database = TestCluster::shared().create_database(None).await;
    database.execute(FIXTURE).await;
    database
}

fn config() -> Config {
    Config { db_aggregates_enabled: true, ..Config::default() }
}

/// As a drop-in server makes it: with what the database has to say, and a loaded schema cache.
async fn instance(database: &TestDatabase, config: Config) -> Instance {
    let connect = ConnectConfig::from_uri(&database.url_as("wire_login", "x"), &LibpqDefaults::default()).unwrap();
    let shared = Shared {
        budget: Budget::new(4),
        tasks: TaskTracker::new(),
        connect_timeout: Duration::from_secs(10),
        route: pg::Route::Direct,
        interleaved: 0,
        public_url: None,
        write_gate: WriteGate::new(),
    };
    let pool = PoolConfig { max_connections: 2, interleaved: 0, ..PoolConfig::default() };
    let first = Instance::drop_in(config.clone(), connect, pool.clone(), &shared);
    let role_settings = DatabaseConfig::read(first.pool(), None).await.unwrap().roles;
    let instance = first.with_config(Config { role_settings, ..config }, pool, &shared);
    instance.reload_schema_cache().await.unwrap();
    instance
}

/// `METHOD /path`, then a header a line; a blank line and the body may follow.
async fn ask(instance: &Instance, role: &str, request: &'static str) -> String {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let (method, uri) = lines.next().unwrap().split_once(' ').unwrap();
    let mut http = http::Request::builder().method(method).uri(uri);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        http = http.header(name, value);
    }
    let (parts, ()) = http.body(()).unwrap().into_parts();
    let caller = Caller { role: RoleName::new(role), claims: Arc::from("{}"), credential: Credential::UserToken };
    let body = Bytes::from_static(body.as_bytes());
    let mut timing = ServerTiming::start(false);
    let answer = instance.respond(&caller, &parts, &body, &mut timing).await;
    let (status, headers, body) = match answer {
        Ok(response) => (response.status, response.headers, response.body),
        Err(error) => {
            let (status, headers, body) = error::render(&error, true);
            (status, headers, body.into())
        }
    };
    let mut text = status.as_str().to_owned();
    for name in ["content-range", "content-location", "location", "preference-applied"] {
        if let Some(value) = headers.get(name) {
            text.push_str(&format!(" [{name} {}]", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    let Body::Whole(body) = body else { panic!("a short body") };
    format!("{text} {}", String::from_utf8_lossy(&body))
}

async fn check_with(config: Config, role: &str, cases: &[(&'static str, &str)]) {
    let database = database().await;
    let instance = instance(&database, config).await;
    for (request, expected) in cases {
        assert_eq!(ask(&instance, role, request).await.trim_end(), *expected, "{request}");
    }
}

async fn check(cases: &[(&'static str, &str)]) {
    check_with(config(), "wire_caller", cases).await;
}

#[tokio::test]
async fn totals_are_of_rows_not_of_what_is_made_of_them() {
    check(&[
        (
            "GET /books?select=price.sum()\nprefer: count=exact",
            r#"206 [content-range 0-0/3] [content-location /books?select=price.sum%28%29] [preference-applied count=exact] [{"sum":60}]"#,
        ),
        (
            "GET /authors?select=...books(price.max())&id=eq.1\nprefer: count=exact",
            r#"400 {"code":"PGRST127","details":"Aggregates are not implemented for one-to-many or many-to-many spreads.","hint":null,"message":"Feature not implemented"}"#,
        ),
        (
            "GET /books?select=...authors(name.max())\nprefer: count=exact",
            r#"206 [content-range 0-0/3] [content-location /books?select=...authors%28name.max%28%29%29] [preference-applied count=exact] [{"max":"Bob"}]"#,
        ),
        (
            "GET /rpc/one_author?wanted=1&name=eq.Nobody\nprefer: count=exact",
            "200 [content-range */0] [preference-applied count=exact] null",
        ),
    ])
    .await;
    let few = Config { db_max_rows: Some(1), ..config() };
    check_with(
        few,
        "wire_caller",
        &[(
            "GET /rpc/all_books?select=id\nprefer: count=estimated",
            r#"206 [content-range 0-0/3] [preference-applied count=estimated] [{"id":1}]"#,
        )],
    )
    .await;
}

#[tokio::test]
async fn embedded_resources_take_their_parameters_as_postgresql_does() {
    check(&[
        (
            "GET /authors?select=id,books(id)&books.limit=-1",
            r#"400 {"code":"2201W","details":null,"hint":null,"message":"LIMIT must not be negative"}"#,
        ),
        (
            "GET /authors?select=id,books(id)&books.offset=-1",
            r#"400 {"code":"2201X","details":null,"hint":null,"message":"OFFSET must not be negative"}"#,
        ),
        // A write does not page what it shows.
        (
            "PATCH /authors?id=eq.2&select=id,books(id)&books.limit=-1\nprefer: return=representation\n\n{\"name\":\"Bo\"}",
            "200 [content-range 0-0/*] [preference-applied return=representation] [{\"id\":2,\"books\":[{\"id\": 3}]}]",
        ),
        // What a parameter speaks of comes first.
        (
            "GET /authors?select=id,loans(id),books(id)&id=eq.1&books.limit=1",
            concat!(
                "200 [content-range 0-0/*] ",
                "[content-location /authors?books.limit=1&id=eq.1&select=id%2Cloans%28id%29%2Cbooks%28id%29] ",
                r#"[{"id":1,"books":[{"id": 1}],"loans":[{"id": 1}]}]"#
            ),
        ),
    ])
    .await;
}

#[tokio::test]
async fn names_beyond_ascii_are_told_in_headers() {
    check(&[
        (
            "GET /gr%C3%B6%C3%9Fen?select=ma%C3%9F",
            "200 [content-range */*] [content-location /größen?select=ma%C3%9F] []",
        ),
        (
            "POST /gr%C3%B6%C3%9Fen\nprefer: return=headers-only\n\n{\"id\":1}",
            "201 [content-range */*] [location /größen?id=eq.1] [preference-applied return=headers-only]",
        ),
    ])
    .await;
}

#[tokio::test]
async fn preferences_are_refused_where_the_request_makes_sense_otherwise() {
    const REFUSED: &str = r#"400 {"code":"PGRST122","details":"Invalid preferences: nonsense","hint":null,"message":"Invalid preferences given with handling=strict"}"#;
    check(&[
        ("GET /authors\nprefer: handling=strict, nonsense", REFUSED),
        ("DELETE /authors\nprefer: handling=strict, nonsense", REFUSED),
        ("POST /rpc/all_books\nprefer: handling=strict, nonsense", REFUSED),
        ("OPTIONS /rpc/all_books\nprefer: handling=strict, nonsense", REFUSED),
        ("OPTIONS /authors\nprefer: handling=strict, nonsense", "200"),
        (
            "GET /author\nprefer: handling=strict, nonsense",
            r#"404 {"code":"PGRST205","details":null,"hint":"Perhaps you meant the table 'public.authors'","message":"Could not find the table 'public.author' in the schema cache"}"#,
        ),
        (
            "OPTIONS /author",
            r#"404 {"code":"PGRST205","details":null,"hint":"Perhaps you meant the table 'public.authors'","message":"Could not find the table 'public.author' in the schema cache"}"#,
        ),
        (
            "OPTIONS /rpc/all_books\naccept: image/png",
            r#"406 {"code":"PGRST107","details":null,"hint":null,"message":"None of these media types are available: image/png"}"#,
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_read_by_key_shows_what_an_aggregate_would() {
    let database = database().await;
    database
        .execute(
            "create type point3 as (x int, y numeric, z text);
             create table odd (
               a int, b text, j json, jb jsonb, n numeric, t timestamptz, arr int[][], p point3, nothing text,
               primary key (a, b));
             insert into odd values (1, 'k[]', '{\"x\" : [1,\n2]}', '{\"x\": 1}', 1.50, '2024-02-29 12:00+00', '{{1,2},{3,4}}',
               (1, 2.0, 'z\"'), null);
             grant select on odd to wire_caller",
        )
        .await;
    let instance = instance(&database, config()).await;
    let ask = async |request| ask(&instance, "wire_caller", request).await;
    let whole = |answer: String| answer.split_once("] [{").map(|(_, body)| body.to_owned()).unwrap();
    let by_key = whole(ask("GET /odd?a=eq.1&b=eq.k[]").await);
    assert_eq!(by_key, whole(ask("GET /odd?a=in.(1)&b=eq.k[]").await));
    assert!(by_key.contains("\"nothing\":null"), "{by_key}");
    for (request, expected) in [
        ("GET /odd?a=eq.2&b=eq.k", "200 [content-range */*] [content-location /odd?a=eq.2&b=eq.k] []"),
        (
            "GET /authors?id=eq.1&select=name\naccept: application/vnd.pgrst.object+json",
            r#"200 [content-range 0-0/*] [content-location /authors?id=eq.1&select=name] {"name":"Ada"}"#,
        ),
        (
            "GET /authors?id=eq.7\naccept: application/vnd.pgrst.object+json",
            r#"406 {"code":"PGRST116","details":"The result contains 0 rows","hint":null,"message":"Cannot coerce the result to a single JSON object"}"#,
        ),
        (
            "GET /authors?id=eq.1&select=id,books(id)\nprefer: count=exact",
            r#"200 [content-range 0-0/1] [content-location /authors?id=eq.1&select=id%2Cbooks%28id%29] [preference-applied count=exact] [{"id":1,"books":[{"id": 1}, {"id": 2}]}]"#,
        ),
        (
            "GET /authors?id=eq.1&select=id,books(id)",
            r#"200 [content-range 0-0/*] [content-location /authors?id=eq.1&select=id%2Cbooks%28id%29] [{"id":1,"books":[{"id": 1}, {"id": 2}]}]"#,
        ),
        ("GET /authors?id=eq.1&offset=1", "200 [content-range */*] [content-location /authors?id=eq.1&offset=1] []"),
        ("HEAD /authors?id=eq.1", "200 [content-range 0-0/*] [content-location /authors?id=eq.1]"),
    ] {
        assert_eq!(ask(request).await.trim_end(), expected, "{request}");
    }
}

#[tokio::test]
async fn a_function_that_returns_a_set_multiplies_a_key() {
    let database = database().await;
    database
        .execute(
            "create function thrice(authors) returns setof int language sql stable as 'select generate_series(1, 3)'",
        )
        .await;
    let instance = instance(&database, Config { db_max_rows: Some(2), ..config() }).await;
    for request in ["GET /authors?select=id,thrice&id=eq.1", "GET /authors?select=id&order=thrice&id=eq.1"] {
        let answer = ask(&instance, "wire_caller", request).await;
        assert!(answer.starts_with("200 [content-range 0-1/*]"), "{request}: {answer}");
    }
}

#[tokio::test]
async fn rows_of_heirs_do_not_share_the_key() {
    let database = database().await;
    let instance = instance(&database, config()).await;
    database.execute("create table heirs () inherits (authors); insert into heirs values (1, 'Eve')").await;
    let request = "GET /authors?id=eq.1&order=name";
    let expected = concat!(
        "200 [content-range 0-1/*] [content-location /authors?id=eq.1&order=name] ",
        "[{\"id\":1,\"name\":\"Ada\"}, \n {\"id\":1,\"name\":\"Eve\"}]"
    );
    assert_eq!(ask(&instance, "wire_caller", request).await, expected, "with the schema as it was read");
    instance.reload_schema_cache().await.unwrap();
    assert_eq!(ask(&instance, "wire_caller", request).await, expected);
}

#[tokio::test]
async fn a_read_that_was_planned_while_it_was_short_may_become_long() {
    let database = database().await;
    database
        .execute(
            "create table pages (id int primary key, text text);
             insert into pages select i, repeat('x', 1024 * 1024) from generate_series(1, 10) i;
             grant select on pages to wire_caller",
        )
        .await;
    let instance = instance(&database, config()).await;
    for _ in 0..3 {
        let answer = ask(&instance, "wire_caller", "GET /pages?id=lt.1").await;
        assert_eq!(answer, "200 [content-range */*] [content-location /pages?id=lt.1] []");
    }
    let request = http::Request::get("/pages?id=lt.11").body(()).unwrap();
    let (parts, ()) = request.into_parts();
    let caller = Caller { role: RoleName::new("wire_caller"), claims: Arc::from("{}"), credential: Credential::None };
    // The second time it is known to be long.
    for _ in 0..2 {
        let mut timing = ServerTiming::start(false);
        let response = instance.respond(&caller, &parts, &Bytes::new(), &mut timing).await.unwrap();
        assert_eq!(response.headers["content-range"], "0-9/*");
        let Body::Long(mut value) = response.body else { panic!("a long body") };
        let mut body = Vec::new();
        while let Some(piece) = std::future::poll_fn(|cx| value.poll_piece(cx)).await {
            body.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(response.headers["content-length"], body.len().to_string().as_str());
        let pages: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
        assert_eq!(pages.len(), 10);
        assert_eq!(pages[9]["text"].as_str().unwrap().len(), 1024 * 1024);
    }
}

#[tokio::test]
async fn put_names_the_key_and_nothing_else() {
    const REFUSED: &str = r#"405 {"code":"PGRST105","details":null,"hint":null,"message":"Filters must include all and only primary key columns with 'eq' operators"}"#;
    check(&[
        ("PUT /authors?id=eq.1&select=*,books(*)&books.id=eq.1\n\n{\"id\":1,\"name\":\"x\"}", REFUSED),
        ("PUT /authors?id-%3Ea=eq.1\n\n{\"id\":1,\"name\":\"x\"}", REFUSED),
        ("PUT /authors?id=eq.1&books.id=eq.1\n\n{\"id\":1,\"name\":\"x\"}", r#"400 {"code":"PGRST108","details":null,"hint":"Verify that 'books' is included in the 'select' query parameter.","message":"'books' is not an embedded resource in this request"}"#),
        ("PUT /authors?id=eq.1\n\n{\"id\":1,\"name\":\"x\"}", "204"),
    ])
    .await;
}

#[tokio::test]
async fn settings_of_the_callers_role_hold_for_its_transactions() {
    let cases: &[(&'static str, &str)] = &[
        ("GET /rpc/setting_of?name=statement_timeout", "200 [content-range 0-0/*] \"7s\""),
        ("GET /rpc/setting_of?name=transaction_isolation", "200 [content-range 0-0/*] \"repeatable read\""),
        // The login role may not make this one.
        ("GET /rpc/setting_of?name=log_min_messages", "200 [content-range 0-0/*] \"warning\""),
    ];
    check_with(config(), "wire_strict", cases).await;
    check(&[("GET /rpc/setting_of?name=statement_timeout", "200 [content-range 0-0/*] \"0\"")]).await;
}

#[tokio::test]
async fn a_function_with_an_isolation_level_commits() {
    check(&[
        ("POST /rpc/add_author\n\n{\"id\":7}", "200 [content-range 0-0/*] \"serializable\""),
        ("POST /rpc/add_author\n\n{\"id\":8}", "200 [content-range 0-0/*] \"serializable\""),
        // What could not be put in line with others is tried again.
        ("POST /rpc/third_time", "200 [content-range 0-0/*] 1"),
        ("PATCH /authors?id=eq.7\n\n{\"id\":9}", "204 [content-range 0-0/*]"),
        ("GET /rpc/setting_of?name=transaction_isolation", "200 [content-range 0-0/*] \"read committed\""),
        (
            "GET /authors?id=gt.6&select=id&order=id",
            r#"200 [content-range 0-1/*] [content-location /authors?id=gt.6&order=id&select=id] [{"id":8}, 
 {"id":9}]"#,
        ),
    ])
    .await;
}

/// PostgreSQL calls no function with more than a hundred arguments.
#[tokio::test]
async fn embedded_rows_may_have_many_columns() {
    let database = database().await;
    database.execute("create table roots (id int primary key); insert into roots values (1)").await;
    let counts = [1, 8, 47, 48, 62, 63, 200];
    for count in counts {
        let columns: String = (0..count).map(|i| format!(", c{i} int default {i}")).collect();
        database
            .execute(&format!(
                "create table wide_{count} (root int primary key references roots{columns});
                 insert into wide_{count} values (1); grant select on roots, wide_{count} to wire_caller;
                 create table long_{count} (root int references roots{columns});
                 insert into long_{count} values (1), (1); grant select on long_{count} to wire_caller"
            ))
            .await;
    }
    let instance = instance(&database, config()).await;
    let client = test_support::connect(&database.url()).await;
    for count in counts {
        for (table, rows) in
            [(format!("wide_{count}"), "row_to_json(x)::jsonb"), (format!("long_{count}"), "json_agg(x)::jsonb")]
        {
            let sql = format!("select '[{{\"{table}\":' || (select {rows}::text from {table} x) || '}}]'");
            let expected: String = client.query_one(&sql, &[]).await.unwrap().get(0);
            let answer = ask(&instance, "wire_caller", format!("GET /roots?select={table}(*)").leak()).await;
            assert!(answer.starts_with("200 ") && answer.ends_with(&expected), "{table}:\n{answer}\n{expected}");
        }
    }
}

/// What PostgREST casts to `jsonb` is put together from members here: values of every kind come out the same.
#[tokio::test]
async fn embedded_arrays_are_what_jsonb_prints() {
    const KINDS: &str = r#"
        create type mood as enum ('so so', 'fine');
        create domain short as text check (length(value) < 9);
        create type pair as (a int, "b c" text);
        create table owners (id int primary key);
        create table kinds (
          id int primary key, owner int references owners, small smallint, big bigint, b bool, n numeric, n2 numeric(8, 3),
          f float8, r real, t text, vc varchar(20), ch char(5), u uuid, d date, ts timestamp, ts3 timestamptz(3),
          tz timestamptz, tm time, iv interval, j json, jb jsonb, ints int[], texts varchar(20)[], by bytea, m mood, s short,
          p pair, ip inet, rng int4range, o oid, "q""uote \ 'é" text, "Ünïcödé" text);
        create table parts (id int primary key, kind int references kinds, "long name" text);
        insert into owners values (1), (2);
        insert into kinds select i, 1 from generate_series(1, 9) as i;
        update kinds set small = -1, big = 9007199254740993, b = id % 2 = 0, t = e'a "b" \\ \n\t\x01 é', vc = 'x', ch = 'ab',
          u = '5a1b6d3e-0000-4000-8000-000000000001', d = '2020-02-29', ts = '2020-01-01 10:00:00.123', ts3 = '2020-01-01 10:00:00.5',
          tz = '2020-01-01 10:00:00+02', tm = '10:00', iv = '1 day', j = '{"b": 1, "aa":[1,  2.50], "b":1e5, "u": "\u00e9"}',
          jb = '{"z": null, "a": 1.10}', ints = '{1,null}', texts = array['a', 'b "c'], by = '\x00ff', m = 'so so', s = 'sh"ort',
          p = (1, 'x"y'), ip = '10.0.0.1', rng = '[1,5)', o = 4000000000, "q""uote \ 'é" = '', "Ünïcödé" = 'ü'
          where id < 8;
        update kinds set n = ('{1.50,-0,NaN,Infinity,100000000000000000000,0.0001,12}'::numeric[])[id], n2 = id,
          f = ('{1.5,-0,NaN,Infinity,1e300,1e-7,100000000000000000000}'::float8[])[id],
          r = ('{1.5,-0,NaN,-Infinity,1e30,1e-7,0.1}'::real[])[id] where id < 8;
        update kinds set d = 'infinity', ts = '-infinity', tz = 'infinity', j = 'null', jb = '"x"', t = '' where id = 3;
        insert into parts values (1, 1, 'one'), (2, 1, null), (3, 2, 'three');
        grant select on owners, kinds, parts to wire_caller;
    "#;
    // What is selected of the rows of `kinds`, and the same as columns.
    const CASES: [(&str, &str); 8] = [
        ("*", "k.*"),
        ("id,t", "k.id, k.t"),
        ("b,b2:b,n,name with blank:t", r#"k.b, k.b as b2, k.n, k.t as "name with blank""#),
        ("id,f::text,n::int,j->aa,jb->>a", "k.id, k.f::text, k.n::int, k.j->'aa' as aa, k.jb->>'a' as a"),
        ("t,id,t", "k.t, k.id, k.t"),
        ("id,parts(*)", "k.id, coalesce((select json_agg(x)::jsonb from parts x where x.kind = k.id), '[]') as parts"),
        ("o,...owners(*)", "k.o, (select x.id from owners x where x.id = k.owner) as id"),
        ("id,owners(id)", "k.id, (select row_to_json(x)::jsonb from owners x where x.id = k.owner) as owners"),
    ];
    let database = database().await;
    database.execute(KINDS).await;
    let instance = instance(&database, config()).await;
    let client = test_support::connect(&database.url()).await;
    for (select, columns) in CASES {
        // Numbers beyond what an integer takes are nobody's concern here.
        let rows = if select.contains("n::int") { "and k.id in (1, 2, 6, 7)" } else { "" };
        let filter = if rows.is_empty() { "" } else { "&kinds.id=in.(1,2,6,7)" };
        let select = select.replace(' ', "%20").replace('>', "%3E");
        let request = format!("GET /owners?select=id,kinds({select})&kinds.order=id&id=eq.1{filter}");
        let sql = format!(
            "select '[{{\"id\":1,\"kinds\":' || (select json_agg(whole)::jsonb::text
                from (select {columns} from kinds k where owner = 1 {rows} order by k.id) whole) || '}}]'"
        );
        let expected: String = client.query_one(&sql, &[]).await.unwrap().get(0);
        let answer = ask(&instance, "wire_caller", request.leak()).await;
        let (head, body) = answer.split_at(answer.find("[{").unwrap_or_default());
        assert!(head.starts_with("200 ") && body == expected, "{select}:\n{answer}\n{expected}");
    }
    for (request, body) in [
        ("GET /owners?select=id,kinds(id)&id=eq.2", r#"[{"id":2,"kinds":[]}]"#),
        ("GET /owners?select=id,kinds!inner(id)&id=eq.2", "[]"),
        // Grouped by the embedding, which plain JSON has no equality for.
        ("GET /owners?select=kinds(id),id.count()&id=eq.2", r#"[{"count":1,"kinds":[]}]"#),
    ] {
        let answer = ask(&instance, "wire_caller", request).await;
        assert!(answer.starts_with("200 ") && answer.ends_with(&format!(" {body}")), "{request}: {answer}");
    }
}

#[tokio::test]
async fn the_schema_cache_is_read_again_when_what_it_reads_goes_meanwhile() {
    let database = database().await;
    let instance = instance(&database, config()).await;
    // To print the condition PostgreSQL opens the table, and waits for whoever has it locked.
    database
        .execute(
            "create table guarded (id int default 7);
             create function guard() returns trigger language plpgsql as 'begin return new; end';
             create trigger guard before insert on guarded for each row
               when (current_setting('request.headers') <> '') execute function guard()",
        )
        .await;
    let owner = database.connect().await;
    owner.batch_execute("begin; drop table guarded; create table successor (id int default 8)").await.unwrap();
    let (loaded, ()) = tokio::join!(instance.reload_schema_cache(), async {
        let observer = database.connect().await;
        let waits = "select exists (select from pg_locks where not granted and relation = 'guarded'::regclass)";
        let mut rounds = 0;
        while !observer.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {
            rounds += 1;
            assert!(rounds < 1000, "nobody waits");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        owner.batch_execute("commit").await.unwrap();
    });
    let cache = loaded.expect("the schema cache is loaded");
    let table = |name: &str| cache.tables.contains_key(&QualifiedIdentifier::new("public", name));
    assert!(table("successor") && !table("guarded"));
}

const LOOK: &str = "GET /rpc/setting_of?name=app.tenant";

#[tokio::test]
async fn settings_do_not_outlive_the_code_that_makes_them() {
    let database = database().await;
    database
        .execute(
            "create function enter() returns void language plpgsql as $$ begin set app.tenant = 'a'; end $$;
             create or replace function setting_of(name text) returns text stable language sql as
               'select coalesce(current_setting(name, true), $$$$)'",
        )
        .await;
    let instance = instance(&database, config()).await;
    let enter = async || {
        assert_eq!(ask(&instance, "wire_caller", "POST /rpc/enter").await.trim_end(), "204 [content-range 0-0/*]")
    };
    let look = async || ask(&instance, "wire_caller", LOOK).await;
    enter().await;
    assert_eq!(look().await, "200 [content-range 0-0/*] \"\"");
    enter().await;
    database.execute("create or replace function enter() returns void language sql as 'select 1'").await;
    instance.reload_schema_cache().await.unwrap();
    for _ in 0..3 {
        assert_eq!(look().await, "200 [content-range 0-0/*] \"\"");
    }
}

#[tokio::test]
async fn the_schema_cache_is_read_whatever_was_left_in_the_session() {
    let database = database().await;
    let leave =
        "create function leave() returns void language plpgsql as $$ begin set statement_timeout = '1ms'; end $$";
    database.execute(leave).await;
    let instance = instance(&database, config()).await;
    for _ in 0..3 {
        assert_eq!(ask(&instance, "wire_caller", "POST /rpc/leave").await.trim_end(), "204 [content-range 0-0/*]");
        instance.reload_schema_cache().await.unwrap();
    }
}
