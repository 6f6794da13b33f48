//! Requests as SQL: the shapes that matter for speed and for what clients see.

use bytes::Bytes;
use expect_test::{Expect, expect};

use crate::api_request::ApiRequest;
use crate::config::Config;
use crate::error::Error;
use crate::plan::action_plan;
use crate::query::{MainQuery, main_query};
use crate::schema_cache::fixture::{cache, qi};
use crate::schema_cache::{SchemaCache, SettingReaders};

fn query_with(
    cache: &SchemaCache,
    config: &Config,
    request: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Result<MainQuery, Error> {
    let (method, uri) = request.split_once(' ').unwrap();
    let mut http = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        http = http.header(*name, *value);
    }
    let (parts, ()) = http.body(()).unwrap().into_parts();
    let request = ApiRequest::parse(config, &parts, &Bytes::from_static(body.as_bytes()))?;
    let plan = action_plan(&request, config, cache)?;
    main_query(&plan, &request, config, cache.readers)
}

fn query(request: &str, headers: &[(&str, &str)], body: &'static str) -> Result<MainQuery, Error> {
    query_with(&cache(), &Config::default(), request, headers, body)
}

/// The statement with its parameters behind it, without the columns that are the same in most.
fn print(query: &pg::Query) -> String {
    let params: Vec<&str> =
        query.params.iter().map(|p| p.as_ref().map_or("NULL", |p| std::str::from_utf8(p).unwrap())).collect();
    let sql = query.sql.replace(
        " null::text AS response_headers, null::text AS response_status, null::int8 AS response_inserted, \
         null::text AS header,",
        " ...,",
    );
    if params.is_empty() { format!("{sql}\n") } else { format!("{sql}\n-- {}\n", params.join(" | ")) }
}

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn check(request: &str, expected: Expect) {
    expected.assert_eq(&print(&query(request, &[], "").unwrap().main.unwrap()));
}

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn check_write(request: &str, prefer: &str, body: &'static str, expected: Expect) {
    expected.assert_eq(&print(&query(request, &[("prefer", prefer)], body).unwrap().main.unwrap()));
}

#[test]
fn a_read_by_key_needs_no_aggregate() {
    check(
        "GET /projects?select=name&id=eq.1",
        expect![[r#"
            SELECT json_build_array(_postgrest_t) AS body FROM (SELECT "public"."projects"."name" FROM "public"."projects" WHERE "public"."projects"."id" = $1) _postgrest_t
            -- 1
        "#]],
    );
    // What holds nothing back is left out.
    for (page, expected) in [("limit=5", ""), ("limit=0", " LIMIT $2"), ("limit=5&offset=1", " LIMIT $2 OFFSET $3")] {
        let sql = query(&format!("GET /projects?select=name&id=eq.1&{page}"), &[], "").unwrap().main.unwrap().sql;
        assert!(sql.ends_with(&format!("\"id\" = $1{expected}) _postgrest_t")), "{page}: {sql}");
    }
    // Not the key as a whole, not it alone, or not one value of it.
    for filter in ["name=eq.1", "or=(id.eq.1,id.eq.2)", "id=not.eq.1", "id=eq(any).{1,2}", "id=gte.1", "id-%3Ea=eq.1"] {
        let request = format!("GET /projects?select=name&{filter}");
        let sql = query(&request, &[], "").unwrap().main.unwrap().sql;
        assert!(sql.contains("json_agg"), "{filter}: {sql}");
    }
    let counted = query("GET /projects?id=eq.1", &[("prefer", "count=exact")], "").unwrap().main.unwrap();
    assert!(counted.sql.contains("json_agg"), "{}", counted.sql);
}

#[test]
fn a_read_is_one_aggregate_over_one_query() {
    check(
        "GET /projects",
        expect![[r#"
            SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."projects".* FROM "public"."projects") _postgrest_t
        "#]],
    );
    check(
        "GET /projects?select=id,title:name,data-%3Ea-%3E%3E0::int&id=in.(1,2)&name=not.like.a*&order=id.desc.nullslast&limit=5&offset=10",
        expect![[r#"
            SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."projects"."id", "public"."projects"."name" AS "title", CAST("public"."projects"."data"->$1->>$2::int AS int) AS "a" FROM "public"."projects" WHERE "public"."projects"."id" = ANY ($3) AND NOT "public"."projects"."name" like $4 ORDER BY "public"."projects"."id" DESC NULLS LAST LIMIT $5 OFFSET $6) _postgrest_t
            -- a | +0 | {"1","2"} | a% | 5 | 10
        "#]],
    );
    check(
        "GET /projects?or=(id.eq.1,and(name.is.null,not.or(id.gt.2,id.lt.1)))&data-%3E%3Ek=fts(english).cat",
        expect![[r#"
            SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."projects".* FROM "public"."projects" WHERE ("public"."projects"."id" = $1 OR ("public"."projects"."name" IS NULL AND NOT ("public"."projects"."id" > $2 OR "public"."projects"."id" < $3))) AND to_tsvector($4, "public"."projects"."data"->>$5) @@ to_tsquery($6, $7)) _postgrest_t
            -- 1 | 2 | 1 | english | k | english | cat
        "#]],
    );
}

#[test]
fn embeddings_are_lateral_joins() {
    check(
        "GET /projects?select=name,clients(*)",
        expect![[r#"
            SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."projects"."name", row_to_json("projects_clients_1".*)::jsonb AS "clients" FROM "public"."projects" LEFT JOIN LATERAL (SELECT "clients_1".* FROM "public"."clients" AS "clients_1" WHERE "clients_1"."id" = "public"."projects"."client_id") AS "projects_clients_1" ON TRUE) _postgrest_t
        "#]],
    );
    check(
        "GET /clients?select=name,work:projects!inner(name,tasks(*))&work.name=eq.x&work.order=id&work.limit=1",
        expect![[r#"
            SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."clients"."name", COALESCE("clients_work_1"."clients_work_1", '[]') AS "work" FROM "public"."clients" INNER JOIN LATERAL (SELECT ('[' || string_agg($1::text || coalesce(to_json("clients_work_1"."name")::text, 'null') || $2::text || coalesce("clients_work_1"."tasks"::text, 'null') || '}', ', ') || ']')::json AS "clients_work_1" FROM (SELECT "projects_1"."name", COALESCE("projects_tasks_2"."projects_tasks_2", '[]') AS "tasks" FROM "public"."projects" AS "projects_1" LEFT JOIN LATERAL (SELECT ('[' || string_agg($3::text || coalesce("projects_tasks_2"."id"::text, 'null') || $4::text || coalesce(to_json("projects_tasks_2"."name")::text, 'null') || $5::text || coalesce("projects_tasks_2"."project_id"::text, 'null') || '}', ', ') || ']')::json AS "projects_tasks_2" FROM (SELECT "tasks_2".* FROM "public"."tasks" AS "tasks_2" WHERE "tasks_2"."project_id" = "projects_1"."id") AS "projects_tasks_2") AS "projects_tasks_2" ON TRUE WHERE "projects_1"."name" = $6 AND "projects_1"."client_id" = "public"."clients"."id" ORDER BY "projects_1"."id" LIMIT $7) AS "clients_work_1") AS "clients_work_1" ON "clients_work_1" IS NOT NULL) _postgrest_t
            -- {"name":  | , "tasks":  | {"id":  | , "name":  | , "project_id":  | x | 1
        "#]],
    );
    check(
        "GET /projects?select=name,...clients(client:name)&order=clients(name)",
        expect![[r#"
            SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."projects"."name", "projects_clients_1"."client" FROM "public"."projects" LEFT JOIN LATERAL (SELECT "clients_1"."name" AS "client" FROM "public"."clients" AS "clients_1" WHERE "clients_1"."id" = "public"."projects"."client_id") AS "projects_clients_1" ON TRUE ORDER BY "projects_clients_1"."name") _postgrest_t
        "#]],
    );
    check(
        "GET /clients?select=name,...projects(titles:name)&projects.order=name",
        expect![[r#"
            SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."clients"."name", "clients_projects_1"."titles" FROM "public"."clients" LEFT JOIN LATERAL (SELECT json_agg("clients_projects_1")::jsonb AS "clients_projects_1", COALESCE(json_agg("clients_projects_1"."titles" ORDER BY "clients_projects_1"."clients_projects_1_name_1"),'[]')::jsonb AS "titles" FROM (SELECT "projects_1"."name" AS "titles", "projects_1"."name" AS "clients_projects_1_name_1" FROM "public"."projects" AS "projects_1" WHERE "projects_1"."client_id" = "public"."clients"."id") AS "clients_projects_1") AS "clients_projects_1" ON TRUE) _postgrest_t
        "#]],
    );
    check(
        "GET /clients?select=name,projects()&projects=not.is.null",
        expect![[r#"
            SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."clients"."name" FROM "public"."clients" LEFT JOIN LATERAL (SELECT json_agg("clients_projects_1")::jsonb AS "clients_projects_1" FROM (SELECT "projects_1".* FROM "public"."projects" AS "projects_1" WHERE "projects_1"."client_id" = "public"."clients"."id") AS "clients_projects_1") AS "clients_projects_1" ON TRUE WHERE "clients_projects_1" IS DISTINCT FROM NULL) _postgrest_t
        "#]],
    );
}

#[test]
fn totals_are_counted_only_when_asked_and_needed() {
    let count = |request, prefer| query(request, &[("prefer", prefer)], "").unwrap();
    expect![[r#"
        SELECT count(*) AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."projects".* FROM "public"."projects") _postgrest_t
    "#]].assert_eq(&print(&count("GET /projects", "count=exact").main.unwrap()));
    expect![[r#"
        SELECT (SELECT count(*) FROM (SELECT 1 FROM "public"."clients" WHERE EXISTS (SELECT 1 FROM "public"."projects" AS "projects_1" WHERE "projects_1"."name" = $1 AND "projects_1"."client_id" = "public"."clients"."id")) _) AS total_result_set, count(*) AS page_total, ..., null::text AS body FROM (SELECT "public"."clients"."id", COALESCE("clients_projects_1"."clients_projects_1", '[]') AS "projects" FROM "public"."clients" INNER JOIN LATERAL (SELECT json_agg("clients_projects_1")::jsonb AS "clients_projects_1" FROM (SELECT "projects_1"."id" FROM "public"."projects" AS "projects_1" WHERE "projects_1"."name" = $2 AND "projects_1"."client_id" = "public"."clients"."id") AS "clients_projects_1") AS "clients_projects_1" ON "clients_projects_1" IS NOT NULL LIMIT $3) _postgrest_t
        -- x | x | 2
    "#]].assert_eq(&print(&count("HEAD /clients?select=id,projects!inner(id)&projects.name=eq.x&limit=2", "count=exact").main.unwrap()));
    let planned = count("GET /projects?id=gt.5", "count=planned");
    expect![[r#"
        EXPLAIN (FORMAT JSON) SELECT 1 FROM "public"."projects" WHERE "public"."projects"."id" > $1
        -- 5
    "#]]
    .assert_eq(&print(&planned.explain_count.unwrap()));
    assert!(count("GET /projects", "count=exact").explain_count.is_none());
}

#[test]
fn inserts_read_their_rows_from_the_payload() {
    check_write(
        "POST /projects",
        "return=minimal",
        r#"{"name":"a"}"#,
        expect![[r#"
            WITH pgrst_source AS (INSERT INTO "public"."projects"("name") SELECT "pgrst_body"."name" FROM (SELECT "name" FROM json_to_record($1::json) AS _("name" text)) pgrst_body RETURNING 1) SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., null::text AS body FROM pgrst_source _postgrest_t
            -- {"name":"a"}
        "#]],
    );
    check_write(
        "POST /projects?select=name,clients(name)",
        "return=representation",
        r#"[{"name":"a"},{"name":"b"}]"#,
        expect![[r#"
            WITH pgrst_source AS (INSERT INTO "public"."projects"("name") SELECT "pgrst_body"."name" FROM (SELECT "name" FROM json_to_recordset($1::json) AS _("name" text)) pgrst_body RETURNING "public"."projects"."client_id", "public"."projects"."id", "public"."projects"."name") SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "projects"."name", row_to_json("projects_clients_1".*)::jsonb AS "clients" FROM "pgrst_source" AS "projects" LEFT JOIN LATERAL (SELECT "clients_1"."name" FROM "public"."clients" AS "clients_1" WHERE "clients_1"."id" = "projects"."client_id") AS "projects_clients_1" ON TRUE) _postgrest_t
            -- [{"name":"a"},{"name":"b"}]
        "#]],
    );
    check_write(
        "POST /projects?columns=id,name",
        "return=headers-only, missing=default",
        r#"[{"name":"a"}]"#,
        expect![[r#"
            WITH pgrst_source AS (INSERT INTO "public"."projects"("id", "name") SELECT "pgrst_body"."id", "pgrst_body"."name" FROM (SELECT "id", "name" FROM jsonb_to_recordset((SELECT jsonb_agg(jsonb_build_object('id', nextval('projects_id_seq'::regclass)) || elem) FROM jsonb_array_elements($1::jsonb) elem)) AS _("id" integer, "name" text)) pgrst_body RETURNING "public"."projects".*) SELECT null::int8 AS total_result_set, count(*) AS page_total, null::text AS response_headers, null::text AS response_status, null::int8 AS response_inserted, CASE WHEN count(*) = 1 THEN (SELECT json_agg(pk.key || '=' || coalesce('eq.' || pk.value, 'is.null'))::text FROM (SELECT row_to_json(_) AS row FROM pgrst_source _ LIMIT 1) r, json_each_text(r.row) pk WHERE pk.key = ANY ($2::text[])) END AS header, null::text AS body FROM pgrst_source _postgrest_t
            -- [{"name":"a"}] | {"id"}
        "#]],
    );
    check_write(
        "POST /projects",
        "return=minimal",
        "{}",
        expect![[r#"
            WITH pgrst_source AS (INSERT INTO "public"."projects" SELECT  FROM (SELECT  FROM (VALUES (1)) _) pgrst_body RETURNING 1) SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., null::text AS body FROM pgrst_source _postgrest_t
        "#]],
    );
}

#[test]
fn upserts_count_what_they_insert() {
    check_write(
        "POST /projects",
        "resolution=merge-duplicates",
        r#"[{"id":1,"name":"a"}]"#,
        expect![[r#"
            WITH pgrst_source AS (INSERT INTO "public"."projects"("id", "name") SELECT "pgrst_body"."id", "pgrst_body"."name" FROM (SELECT "id", "name" FROM json_to_recordset($1::json) AS _("id" integer, "name" text)) pgrst_body WHERE set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) + 1)::text, true) <> '0' ON CONFLICT("id") DO UPDATE SET "id" = EXCLUDED."id", "name" = EXCLUDED."name" WHERE set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) - 1)::text, true) <> '-1' RETURNING 1) SELECT null::int8 AS total_result_set, count(*) AS page_total, null::text AS response_headers, null::text AS response_status, nullif(current_setting('pgrst.inserted', true), '')::int8 AS response_inserted, null::text AS header, null::text AS body FROM pgrst_source _postgrest_t
            -- [{"id":1,"name":"a"}]
        "#]],
    );
    check_write(
        "POST /projects?on_conflict=name",
        "resolution=ignore-duplicates",
        r#"[{"name":"a"}]"#,
        expect![[r#"
            WITH pgrst_source AS (INSERT INTO "public"."projects"("name") SELECT "pgrst_body"."name" FROM (SELECT "name" FROM json_to_recordset($1::json) AS _("name" text)) pgrst_body ON CONFLICT("name") DO NOTHING RETURNING 1) SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., null::text AS body FROM pgrst_source _postgrest_t
            -- [{"name":"a"}]
        "#]],
    );
    check_write(
        "PUT /projects?id=eq.1",
        "return=minimal",
        r#"{"id":1,"name":"a"}"#,
        expect![[r#"
            WITH pgrst_source AS (INSERT INTO "public"."projects"("id", "name") SELECT "pgrst_body"."id", "pgrst_body"."name" FROM (SELECT "id", "name" FROM json_to_record($1::json) AS _("id" integer, "name" text)) pgrst_body WHERE set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) + 1)::text, true) <> '0' AND "pgrst_body"."id" = $2 ON CONFLICT("id") DO UPDATE SET "id" = EXCLUDED."id", "name" = EXCLUDED."name" WHERE set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) - 1)::text, true) <> '-1' RETURNING 1) SELECT null::int8 AS total_result_set, count(*) AS page_total, null::text AS response_headers, null::text AS response_status, nullif(current_setting('pgrst.inserted', true), '')::int8 AS response_inserted, null::text AS header, null::text AS body FROM pgrst_source _postgrest_t
            -- {"id":1,"name":"a"} | 1
        "#]],
    );
}

#[test]
fn updates_and_deletes_touch_what_is_filtered() {
    check_write(
        "PATCH /projects?id=eq.1&select=id",
        "return=representation",
        r#"{"name":"a"}"#,
        expect![[r#"
            WITH pgrst_source AS (UPDATE "public"."projects" SET "name" = "pgrst_body"."name" FROM (SELECT "name" FROM json_to_record($1::json) AS _("name" text)) pgrst_body WHERE "public"."projects"."id" = $2 RETURNING "public"."projects"."id") SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "projects"."id" FROM "pgrst_source" AS "projects") _postgrest_t
            -- {"name":"a"} | 1
        "#]],
    );
    check_write(
        "PATCH /projects?id=eq.1",
        "return=minimal",
        "{}",
        expect![[r#"
            WITH pgrst_source AS (SELECT NULL FROM "public"."projects" WHERE false) SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., null::text AS body FROM pgrst_source _postgrest_t
        "#]],
    );
    check_write(
        "DELETE /projects?id=eq.1&or=(id.eq.2,id.eq.3)",
        "return=minimal",
        "",
        expect![[r#"
            WITH pgrst_source AS (DELETE FROM "public"."projects" WHERE "public"."projects"."id" = $1 AND ("public"."projects"."id" = $2 OR "public"."projects"."id" = $3) RETURNING 1) SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., null::text AS body FROM pgrst_source _postgrest_t
            -- 1 | 2 | 3
        "#]],
    );
}

#[test]
fn large_reads_give_a_row_for_each_element() {
    let by_rows = |request: &str, headers: &[(&str, &str)]| {
        let (method, uri) = request.split_once(' ').unwrap();
        let mut http = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            http = http.header(*name, *value);
        }
        let (parts, ()) = http.body(()).unwrap().into_parts();
        let (config, cache) = (Config::default(), cache());
        let request = ApiRequest::parse(&config, &parts, &Bytes::new()).unwrap();
        let plan = action_plan(&request, &config, &cache).unwrap();
        super::read_rows(&plan, &request, &config, cache.readers).unwrap()
    };
    let query = by_rows("GET /projects?id=gt.1&limit=2", &[("prefer", "count=exact")]).unwrap();
    assert_eq!(query.streams, pg::Streams::Rows);
    expect![[r#"
        SELECT (SELECT count(*) FROM (SELECT 1 FROM "public"."projects" WHERE "public"."projects"."id" > $1) _) AS total_result_set, count(*) OVER () AS page_total, ..., j AS body, sum(octet_length(j)) OVER () AS length FROM (SELECT row_to_json(_postgrest_t)::text AS j FROM (SELECT "public"."projects".* FROM "public"."projects" WHERE "public"."projects"."id" > $2 LIMIT $3) _postgrest_t) _
        -- 1 | 1 | 2
    "#]].assert_eq(&print(&query.main.unwrap()));
    assert!(by_rows("HEAD /projects", &[]).is_none());
    assert!(by_rows("GET /projects", &[("accept", "text/csv")]).is_none());
    assert!(by_rows("GET /projects", &[("accept", "application/vnd.pgrst.object+json")]).is_none());
}

#[test]
fn calls_name_their_arguments() {
    check(
        "GET /rpc/add_them?a=1&b=2",
        expect![[r#"
            WITH pgrst_source AS (SELECT pgrst_call.pgrst_scalar FROM (SELECT "public"."add_them"("a" := $1::integer, "b" := $2::integer) pgrst_scalar) pgrst_call) SELECT null::int8 AS total_result_set, 1::int8 AS page_total, ..., coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') AS body FROM (SELECT "add_them".* FROM "pgrst_source" AS "add_them") _postgrest_t
            -- 1 | 2
        "#]],
    );
    check(
        "GET /rpc/search_projects?term=x&name=neq.y&select=id,clients(name)",
        expect![[r#"
            WITH pgrst_source AS (SELECT "pgrst_call"."client_id", "pgrst_call"."id", "pgrst_call"."name" FROM "public"."search_projects"("term" := $1::text) pgrst_call) SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "projects"."id", row_to_json("projects_clients_1".*)::jsonb AS "clients" FROM "pgrst_source" AS "projects" LEFT JOIN LATERAL (SELECT "clients_1"."name" FROM "public"."clients" AS "clients_1" WHERE "clients_1"."id" = "projects"."client_id") AS "projects_clients_1" ON TRUE WHERE "projects"."name" <> $2) _postgrest_t
            -- x | y
        "#]],
    );
    check_write(
        "POST /rpc/add_them",
        "",
        r#"{"a":1}"#,
        expect![[r#"
            WITH pgrst_source AS (SELECT pgrst_call.pgrst_scalar FROM (SELECT "a" FROM json_to_record($1::json) AS _("a" integer) LIMIT 1) pgrst_body, LATERAL (SELECT "public"."add_them"("a" := "pgrst_body"."a") pgrst_scalar) pgrst_call) SELECT null::int8 AS total_result_set, 1::int8 AS page_total, ..., coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') AS body FROM (SELECT "add_them".* FROM "pgrst_source" AS "add_them") _postgrest_t
            -- {"a":1}
        "#]],
    );
    check_write(
        "POST /rpc/import",
        "",
        r#"{"x":1}"#,
        expect![[r#"
            WITH pgrst_source AS (SELECT pgrst_call.* FROM "public"."import"($1::json) pgrst_call) SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "projects".* FROM "pgrst_source" AS "projects") _postgrest_t
            -- {"x":1}
        "#]],
    );
}

#[test]
fn a_call_takes_the_functions_settings_along() {
    let query = query("GET /rpc/add_them?a=1", &[("prefer", "timezone=Asia/Tokyo")], "").unwrap();
    assert_eq!(
        query.tx_settings,
        [("timezone".to_owned(), "Asia/Tokyo".to_owned()), ("statement_timeout".to_owned(), "1s".to_owned())]
    );
    assert!(query.read_only);
}

#[test]
fn media_types_change_the_aggregate() {
    let accept = |media_type| print(&query("GET /clients", &[("accept", media_type)], "").unwrap().main.unwrap());
    expect![[r#"
        SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t)->0, 'null') AS body FROM (SELECT "public"."clients".* FROM "public"."clients") _postgrest_t
    "#]].assert_eq(&accept("application/vnd.pgrst.object+json"));
    expect![[r#"
        SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_strip_nulls(json_agg(_postgrest_t)), '[]') AS body FROM (SELECT "public"."clients".* FROM "public"."clients") _postgrest_t
    "#]].assert_eq(&accept("application/vnd.pgrst.array+json;nulls=stripped"));
    expect![[r#"
        WITH pgrst_rows AS (SELECT "public"."clients".* FROM "public"."clients") SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce((SELECT string_agg(k, ',') FROM json_object_keys((SELECT row_to_json(_) FROM pgrst_rows _ LIMIT 1)) k), '') || E'\n' || coalesce(string_agg(substring(_postgrest_t::text, 2, length(_postgrest_t::text) - 2), E'\n'), '') AS body FROM pgrst_rows _postgrest_t
    "#]].assert_eq(&accept("text/csv"));
    let error = query("GET /clients", &[("accept", "image/png")], "").unwrap_err();
    assert_eq!(error, Error::MediaType(vec!["image/png".into()]));
    // Execution plans are not shown unless the project says so.
    assert!(query("GET /clients", &[("accept", "application/vnd.pgrst.plan")], "").is_err());
}

#[test]
fn the_response_settings_are_read_only_where_something_can_set_them() {
    let mut cache = cache();
    cache.readers = SettingReaders { response: true, ..SettingReaders::default() };
    let config =
        Config { db_pre_request: Some(qi("check")), db_plan_enabled: true, db_max_rows: Some(10), ..Config::default() };
    let headers = [("accept", r#"application/vnd.pgrst.plan+json; for="text/csv"; options=analyze|wal"#)];
    let query = query_with(&cache, &config, "GET /clients?select=id", &headers, "").unwrap();
    expect![[r#"
        EXPLAIN (FORMAT JSON, ANALYZE, WAL) WITH pgrst_rows AS (SELECT "public"."clients"."id" FROM "public"."clients" LIMIT $1) SELECT null::int8 AS total_result_set, count(*) AS page_total, coalesce((SELECT string_agg(k, ',') FROM json_object_keys((SELECT row_to_json(_) FROM pgrst_rows _ LIMIT 1)) k), '') || E'\n' || coalesce(string_agg(substring(_postgrest_t::text, 2, length(_postgrest_t::text) - 2), E'\n'), '') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, null::int8 AS response_inserted, null::text AS header FROM pgrst_rows _postgrest_t
        -- 10
    "#]].assert_eq(&print(&query.main.unwrap()));
    assert_eq!(&*query.pre_request.unwrap().sql, r#"SELECT "public"."check"()"#);
}

#[test]
fn nothing_of_a_request_becomes_sql() {
    let hostile = "GET /projects?select=%22a%20from%20x%3B--%22,x:data-%3E%27%29%3B&name=eq.%27%3B%20drop%20table%20x&order=%22b%20desc%3B%22";
    check(
        hostile,
        expect![[r#"
            SELECT null::int8 AS total_result_set, count(*) AS page_total, ..., coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT "public"."projects"."a from x;--", "public"."projects"."data"->$1 AS "x" FROM "public"."projects" WHERE "public"."projects"."name" = $2 ORDER BY "public"."projects"."b desc;") _postgrest_t
            -- ' | '; drop table x
        "#]],
    );
}
