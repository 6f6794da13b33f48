//! No table makes the few workers of autovacuum's, which all projects share, slower.

use super::*;

async fn parameters(session: &Client) -> Vec<String> {
    let sql =
        "select format('%s %s', case when t.oid is null then c.relname else 'toast of ' || t.relname end, parameter)
        from pg_class c left join pg_class t on t.reltoastrelid = c.oid cross join unnest(c.reloptions) parameter
        where coalesce(t.relnamespace, c.relnamespace) = 'public'::regnamespace order by 1";
    session.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_keep_the_servers() {
    let world = World::start().await;
    let id = world.project().await;
    let session = world.owner_session(&id).await;
    let pace = "autovacuum_vacuum_cost_delay";
    let digits: String = (0..5_000_u64).map(|n| (n * n * n % 7_919 % 10).to_string()).collect();
    for (sql, left) in [
        (format!("create table a (b text) with (fillfactor = 50, {pace} = 100)"), &["a fillfactor=50"][..]),
        (format!("alter table a set ({pace} = 3, autovacuum_vacuum_cost_limit = 199)"), &["a fillfactor=50"]),
        (format!("alter table a set (toast.{pace} = '0x64')"), &["a fillfactor=50"]),
        (format!("do $$ begin alter table a set ({pace} = 20, toast.{pace} = 20); end $$"), &["a fillfactor=50"]),
        (format!("create table c with ({pace} = 100) as select 1 as d"), &["a fillfactor=50"]),
        (format!("create materialized view m with ({pace} = 100) as select 1 as d"), &["a fillfactor=50"]),
        (format!("create schema s create table t (a int) with ({pace} = 100)"), &["a fillfactor=50"]),
        ("alter table s.t set schema public".to_owned(), &["a fillfactor=50"]),
        // A temporary one is never autovacuum's.
        (format!("create temp table x (a int) with ({pace} = 100); drop table x"), &["a fillfactor=50"]),
        // What makes it faster stays.
        (format!("alter table a set ({pace} = 1.5)"), &["a autovacuum_vacuum_cost_delay=1.5", "a fillfactor=50"]),
        (format!("alter table a reset ({pace})"), &["a fillfactor=50"]),
        (
            format!("alter table c set ({pace} = 0, autovacuum_vacuum_cost_limit = 2000)"),
            &["a fillfactor=50", "c autovacuum_vacuum_cost_delay=0", "c autovacuum_vacuum_cost_limit=2000"],
        ),
        // Whoever reads the catalog reads this.
        (format!("alter table c set ({pace} = '1.{digits}')"), &["a fillfactor=50"]),
    ] {
        session.batch_execute(&sql).await.unwrap();
        assert_eq!(parameters(&session).await, left, "{sql}");
    }
}

async fn summarized(session: &Client) -> Vec<String> {
    let sql = "select relname::text from pg_class where reloptions::text like '%autosummarize%'";
    session.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Code of an owner's that runs ANALYZE while autovacuum summarizes an index crashes PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn no_index_is_summarized_outside_of_vacuum() {
    let world = World::start().await;
    let id = world.project().await;
    let session = world.owner_session(&id).await;
    for sql in [
        "create table t (i int); create index t_i on t using brin (i) with (pages_per_range = 8, autosummarize = on)",
        "alter index t_i set (autosummarize = 'TRUE')",
        "alter table t_i set (autosummarize = on)",
        "do $$ begin alter index t_i set (autosummarize); end $$",
        "create table p (i int) partition by range (i); create table p1 partition of p for values from (0) to (9)",
        "create index on p using brin (i) with (autosummarize = on)",
        "create table p2 partition of p for values from (9) to (19)",
        "create table p3 (i int); alter table p attach partition p3 for values from (19) to (29)",
        "create table copy (like p1 including all)",
        "create temp table x (i int); create index on x using brin (i) with (autosummarize = on)",
    ] {
        session.batch_execute(sql).await.unwrap();
        assert!(summarized(&session).await.is_empty(), "{sql}");
    }
    let kept = "select reloptions::text from pg_class where relname = 't_i'";
    assert_eq!(session.query_one(kept, &[]).await.unwrap().get::<_, String>(0), "{pages_per_range=8}");
}

/// What such an index asked of autovacuum while it was built is asked still when it has no such parameter any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_code_runs_while_it_is_built_is_refused() {
    let world = World::start().await;
    let id = world.project().await;
    let session = world.owner_session(&id).await;
    let setup = "create table t (i int); create function f(i int) returns int language sql immutable as 'select i';
        create type r as range (subtype = int); create table ranges (i r);
        create domain d as int check (f(value) > 0); create table domains (i d);
        create table p (i int) partition by range (i); create index t_f on t using brin (f(i))";
    session.batch_execute(setup).await.unwrap();
    for sql in [
        "create index on t using brin (f(i)) with (autosummarize = on)",
        "create index on t using brin (i) with (autosummarize = on) where f(i) > 0",
        "create index on ranges using brin (i) with (autosummarize = on)",
        "create index on domains using brin (i) with (autosummarize = on)",
        "create index on p using brin (f(i)) with (autosummarize = on)",
        "alter index t_f set (autosummarize = on)",
        "begin; savepoint s; create index on t using brin (f(i)) with (autosummarize = on)",
        // It is there before its command ends.
        "create index concurrently on t using brin (i) with (autosummarize = on)",
        "; create /* a /* b */ */ index -- c\n concurrently on t using brin (i) with (AutoSummarize = on)",
        "CREATE INDEX Concurrently on t using brin (i) with (U&\"autosummari\\007ae\" = on)",
    ] {
        let refused = session.batch_execute(sql).await.unwrap_err();
        let refused = refused.as_db_error().unwrap();
        assert!(refused.message().starts_with("autosummarize is not available"), "{sql}: {refused}");
        session.batch_execute("rollback").await.unwrap();
        assert!(summarized(&session).await.is_empty(), "{sql}");
    }
    // Between two parts of a command, of which PostgreSQL tells nobody.
    let between = "create function reset() returns void language plpgsql as $$ begin
            if to_regclass('s.a_f') is not null then alter index s.a_f reset (autosummarize); end if; end $$;
        create function g(i int) returns int language plpgsql immutable as $$ begin
            perform public.reset(); return i; end $$;
        create function h(i int) returns int language plpgsql immutable as $$ begin
            perform public.reset(); return i; exception when others then return i; end $$";
    session.batch_execute(between).await.unwrap();
    for function in ["g", "h"] {
        let parts = format!(
            "create schema s create table a (i int)
                create index a_f on a using brin (public.f(i)) with (autosummarize = on)
                create index a_g on a ((i + public.{function}(1)))"
        );
        let refused = session.batch_execute(&parts).await.unwrap_err();
        assert!(refused.as_db_error().unwrap().message().contains("not available for s.a_f"), "{refused:?}");
    }
    let caught = "do $$ begin create index lost on t using brin (f(i)) with (autosummarize = on);
        exception when others then null; end $$";
    session.batch_execute(caught).await.unwrap();
    for honest in [
        "create index concurrently on t using brin (f(i))",
        "create index concurrently on t (i) where f(i) > ascii('menu&lang')",
        "/* no autosummarize */ create index on t (i); comment on table t is 'refreshed concurrently'",
        "begin; create table later (i int); create index on later (i);
            comment on table later is 'create index concurrently with (autosummarize)'; create index on later (i); commit",
    ] {
        session.batch_execute(honest).await.unwrap();
    }
    let left = "select count(*) from pg_class where relname = 'lost'";
    assert_eq!(session.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// Where PostgreSQL tells event triggers of no command, and where a transaction does not see others' commands.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_found_wherever_they_come_from() {
    let world = World::start().await;
    let id = world.project().await;
    let (session, other) = (world.owner_session(&id).await, world.owner_session(&id).await);
    let hidden = "create table t (i int, b text); create index t_i on t using brin (i);
        create function hide() returns int language plpgsql as $$ begin
            alter table public.t set (autovacuum_vacuum_cost_delay = 100, toast.autovacuum_vacuum_cost_limit = 1);
            alter index public.t_i set (autosummarize = on);
            return 1;
        end $$;
        create materialized view m as select hide() as x with no data; refresh materialized view m";
    session.batch_execute(hidden).await.unwrap();
    assert!(parameters(&session).await.is_empty());
    let trees =
        "create table p (i int) partition by range (i); create index on p using brin (i) with (autosummarize = on);
        create table s (i int) partition by range (i); create table l (i int)";
    session.batch_execute(trees).await.unwrap();
    other.batch_execute("begin isolation level repeatable read; select count(*) from pg_class").await.unwrap();
    session.batch_execute("alter table s attach partition l for values from (0) to (9)").await.unwrap();
    other.batch_execute("alter table p attach partition s for values from (0) to (9); commit").await.unwrap();
    assert!(summarized(&session).await.is_empty());
}

/// A project of an earlier version has what it has, and may hold its tables.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_takes_what_is_there_without_a_lock() {
    let mut world = World::start().await;
    world.provisioner = provisioner(&world.config, &world.pool, &FILES[..11]);
    world.provisioner.prepare().await.unwrap();
    let id = world.project().await;
    let session = world.owner_session(&id).await;
    let evade = "create table t (i int); create function f(i int) returns int language sql immutable as 'select i';
        create index t_f on t using brin (f(i));
        create function hide() returns int language plpgsql as $$ begin
            alter table public.t set (autovacuum_vacuum_cost_delay = 100);
            alter index public.t_f set (autosummarize = on);
            return 1;
        end $$;
        create materialized view m as select hide() as x with no data; refresh materialized view m";
    session.batch_execute(evade).await.unwrap();
    assert_eq!(parameters(&session).await, ["t autovacuum_vacuum_cost_delay=100", "t_f autosummarize=on"]);
    session.batch_execute("begin; lock table t in share mode").await.unwrap();
    world.provisioner = provisioner(&world.config, &world.pool, FILES);
    world.provisioner.prepare().await.unwrap();
    world.provisioner.reconcile().await.unwrap();
    session.batch_execute("commit").await.unwrap();
    assert!(parameters(&session).await.is_empty());
}
