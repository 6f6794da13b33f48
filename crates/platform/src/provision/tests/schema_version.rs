//! The schema version moves with every change of the schema, and with nothing else.

use super::*;

async fn version(session: &Client) -> i64 {
    session.query_one("select _launchdb.schema_version()", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_ddl_moves_it() {
    let world = World::start().await;
    let id = world.project().await;
    let session = world.owner_session(&id).await;
    let moving = [
        "create table t (a int primary key, b text)",
        "create table u (a int references t, c int)",
        "alter table t add column d int",
        "alter table t alter column d type bigint",
        "alter table t rename column d to e",
        "alter table t rename to t2",
        "alter table t2 rename to t",
        "alter table u add foreign key (c) references t",
        "alter table t drop column e",
        "comment on table t is 'x'",
        "grant select on t to anon",
        "revoke select on t from anon",
        "alter table t enable row level security",
        "create policy p on t using (true)",
        "drop policy p on t",
        "create index i on t (b)",
        "drop index i",
        "create view v as select a from t",
        "create or replace view v as select a, b from t",
        "create materialized view m as select a from t",
        "create function f(x int) returns int language sql as 'select x'",
        "create function f(x text) returns text language sql as 'select x'",
        "alter function f(int) stable",
        "drop function f(int)",
        "create type e as enum ('a')",
        "alter type e add value 'b'",
        "create domain d as text",
        "create cast (d as e) with inout",
        "create schema s",
        "alter table t set schema s",
        "drop schema s cascade",
        "create table made_of as select 1 as a",
        "select 1 as a into also_made_of",
        "create extension hstore with schema extensions",
        "drop extension hstore",
        "alter publication supabase_realtime add table u",
        "create trigger tr before update on u for each row execute function storage.update_updated_at_column()",
        "do $$ begin create table from_do (a int); end $$",
        "drop table u, from_do",
        "drop materialized view if exists made_of_nothing, m cascade; drop table made_of",
        "alter default privileges in schema public grant select on tables to anon",
    ];
    for sql in moving {
        let before = version(&session).await;
        let result = session.batch_execute(sql).await;
        // The cast of a domain only warns, and the last view went with its schema.
        assert!(result.is_ok(), "{sql}: {result:?}");
        assert!(version(&session).await > before, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_temporary_objects_do_not_move_it() {
    let world = World::start().await;
    let id = world.project().await;
    let session = world.owner_session(&id).await;
    session.batch_execute("create table t (a int); create materialized view m as select a from t").await.unwrap();
    let before = version(&session).await;
    let still = [
        "insert into t values (1)",
        "create temp table x (a serial primary key, b text)",
        "create index on x (b)",
        "alter table x add column c int",
        "create temp view y as select a from x",
        "drop view y",
        "create temp table z as select 1 as a",
        "drop table x, z",
        "refresh materialized view m",
        "truncate t",
        "analyze t",
        "set work_mem = '8MB'",
        "do $$ begin create table undone (a int); raise division_by_zero; exception when division_by_zero then end $$",
    ];
    for sql in still {
        session.batch_execute(sql).await.unwrap();
        assert_eq!(version(&session).await, before, "{sql}");
    }
    session.batch_execute("begin; create table undone (a int); rollback").await.unwrap();
    assert_eq!(version(&session).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_with_ddl_blocks_no_other() {
    let world = World::start().await;
    let id = world.project().await;
    let (first, second) = (world.owner_session(&id).await, world.owner_session(&id).await);
    let authenticator = world.authenticator_session(&id).await;
    let before = version(&second).await;
    first.batch_execute("begin; create table a (x int); savepoint s; create table b (x int)").await.unwrap();
    first.batch_execute("rollback to s; create table c (x int)").await.unwrap();
    second.batch_execute("set lock_timeout = '2s'; create table d (x int)").await.unwrap();
    assert_eq!(version(&second).await, before + 1);
    authenticator.batch_execute("set lock_timeout = '2s'; select _launchdb.compact_schema_versions()").await.unwrap();
    first.batch_execute("commit").await.unwrap();
    // One row for a transaction, however much it changed.
    assert_eq!(version(&second).await, before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_keeps_the_version() {
    let world = World::start().await;
    let id = world.project().await;
    let (owner, authenticator) = (world.owner_session(&id).await, world.authenticator_session(&id).await);
    for _ in 0..70 {
        owner.batch_execute("comment on schema public is 'x'").await.unwrap();
    }
    let before = version(&owner).await;
    let rows = async || -> i64 {
        owner.query_one("select count(*) from _launchdb.schema_versions", &[]).await.unwrap().get(0)
    };
    assert!(rows().await > 64);
    let compact = "select _launchdb.compact_schema_versions()";
    assert_eq!(code(&owner.batch_execute(compact).await), "42501");
    authenticator.batch_execute(&format!("set role anon; {compact}")).await.unwrap();
    assert_eq!((rows().await, version(&owner).await), (1, before));
    // Nothing to fold: nothing happens.
    authenticator.batch_execute(compact).await.unwrap();
    assert_eq!(version(&owner).await, before);
    for role in ["anon", "authenticated", "service_role", "supabase_auth_admin"] {
        authenticator.batch_execute(&format!("set role {role}; select _launchdb.schema_version()")).await.unwrap();
        let moved = authenticator.batch_execute("select _launchdb.schema_moved()").await;
        assert_eq!(code(&moved), "LD001");
    }
}
