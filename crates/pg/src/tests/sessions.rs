//! What stored code leaves in a session, and who meets it.

use super::{Fixture, eventually, exchange, number, one, query};
use crate::{Error, Exchange, Pool, PoolConfig, Resets};

/// Runs a statement after what is left in the session was undone, and gives the columns of its row.
async fn look(pool: &Pool, resets: Resets, sql: &str) -> Vec<Option<String>> {
    let exchange = Exchange { resets, ..exchange(query(sql, &[]), true) };
    let rows = pool.run(&exchange).await.unwrap();
    let row = &rows[0].rows[0];
    (0..3).map(|column| row.text(column).map(str::to_owned)).collect()
}

#[tokio::test]
async fn what_stored_code_leaves_in_a_session_is_undone() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let leave = [
        "select set_config('search_path', 'evil', false), set_config('a.b', 'x', false)",
        "select pg_advisory_lock(77)",
        "create temp table t as select 1 as id",
        "declare c cursor with hold for select 1",
    ];
    let settings = "select current_setting('search_path'), current_setting('a.b', true), null";
    let others = "select (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())::text,
        (select count(*) from pg_cursors where is_holdable)::text, to_regclass('pg_temp.t')::text";
    for round in 0..3 {
        for sql in leave {
            pool.run(&exchange(query(sql, &[]), false)).await.unwrap();
        }
        let seen = look(&pool, Resets::Settings, settings).await;
        assert_eq!(seen, [Some("\"$user\", public".to_owned()), Some(String::new()), None], "{round}");
        let seen = look(&pool, Resets::Session, others).await;
        assert_eq!(seen, [Some("0".to_owned()), Some("0".to_owned()), None], "{round}");
    }
}

#[tokio::test]
async fn a_session_that_was_left_read_only_refuses_one_write_at_most() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let leave = exchange(query("select set_config('default_transaction_read_only', 'on', false)", &[]), false);
    let write = |begin: Option<&str>| Exchange {
        begin: begin.map(|sql| query(sql, &[])),
        resets: Resets::Settings,
        ..exchange(query("insert into t select max(id) + 1 from t", &[]), false)
    };
    for begin in [None, Some("begin")] {
        pool.run(&leave).await.unwrap();
        let refused = pool.run(&write(begin)).await.unwrap_err();
        assert!(matches!(&refused, Error::Db(cause) if cause.code == "25006"), "{refused}");
        pool.run(&write(begin)).await.unwrap();
    }
}

#[tokio::test]
async fn reads_do_not_share_a_session_in_which_something_was_left() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(PoolConfig { max_connections: 2, interleaved: 1, ..PoolConfig::default() });
    let leave = exchange(query("select set_config('a.b', 'left', false), pg_sleep(0.01)", &[]), false);
    // Both connections.
    tokio::try_join!(pool.run(&leave), pool.run(&leave)).unwrap();
    let read = "select (coalesce(current_setting('a.b', true), '') = 'left')::int::int8";
    eventually("they share one", async || {
        number(&pool, read).await.unwrap();
        (fixture.budget.usage().values().next().unwrap().shared > 0).then_some(())
    })
    .await;
    for _ in 0..5 {
        assert_eq!(number(&pool, read).await.unwrap(), Some(0));
    }
}
