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
    ] {
        session.batch_execute(&sql).await.unwrap();
        assert_eq!(parameters(&session).await, left, "{sql}");
    }
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
    ] {
        session.batch_execute(sql).await.unwrap();
        let asked = "select count(*) from pg_class where relkind = 'i' and reloptions::text like '%autosummarize%'";
        let left: i64 = session.query_one(asked, &[]).await.unwrap().get(0);
        assert_eq!(left, 0, "{sql}");
    }
    let kept = "select reloptions::text from pg_class where relname = 't_i'";
    assert_eq!(session.query_one(kept, &[]).await.unwrap().get::<_, String>(0), "{pages_per_range=8}");
}
