//! The driver and its pool against a real PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use base::Secret;
use test_support::{TestCluster, TestDatabase, eventually};
use tokio_util::task::TaskTracker;

use crate::claims::Claims;
use crate::{Budget, ConnectConfig, Error, Exchange, Pool, PoolConfig, Query, Resets, Streams};

mod farewells;
mod sessions;

struct Fixture {
    database: TestDatabase,
    connect: ConnectConfig,
    budget: Arc<Budget>,
    tasks: TaskTracker,
}

impl Fixture {
    async fn new() -> Self {
        let cluster = TestCluster::shared();
        let database = cluster.create_database(None).await;
        database.execute("create table t (id int primary key, x text); insert into t values (1, 'one')").await;
        let connect = ConnectConfig {
            host: "127.0.0.1".to_owned(),
            port: cluster.port(),
            database: database.name().to_owned(),
            user: cluster.superuser().to_owned(),
            password: Some(Secret::new(cluster.superuser_password().to_owned())),
            session_settings: Vec::new(),
            connect_timeout: Duration::from_secs(10),
        };
        Self { database, connect, budget: Budget::new(8), tasks: TaskTracker::new() }
    }

    fn pool(&self, config: PoolConfig) -> Pool {
        Pool::new(self.connect.clone(), config, self.budget.clone(), self.tasks.clone())
    }
}

fn one(max_connections: usize) -> PoolConfig {
    PoolConfig { max_connections, interleaved: 0, ..PoolConfig::default() }
}

fn query(sql: &str, params: &[&str]) -> Query {
    let params = params.iter().map(|p| Some(bytes::Bytes::copy_from_slice(p.as_bytes()))).collect();
    Query { sql: sql.into(), params }
}

fn exchange(main: Query, read_only: bool) -> Exchange {
    let claims = Claims { role: "pg_monitor", jwt_claims: r#"{"sub":"me"}"#, read_only, ..Claims::default() };
    // The tests' own statements need rights that no plain role has, so only the claims are set.
    let mut setup = claims.statement();
    setup.params[1] = Some("none".into());
    Exchange {
        scope: "test".into(),
        begin: None,
        setup: setup.into(),
        queries: vec![main],
        read_only,
        resets: Resets::Nothing,
        joins: read_only,
        streams: if read_only { Streams::LastValue } else { Streams::Nothing },
    }
}

async fn number(pool: &Pool, sql: &str) -> Result<Option<i64>, Error> {
    let rows = pool.run(&exchange(query(sql, &[]), true)).await?;
    Ok(rows[0].rows.first().and_then(|row| row.int(0)))
}

#[tokio::test]
async fn an_exchange_carries_claims_parameters_and_results() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let main = query("select x, $1::text || current_setting('request.jwt.claims'), null, id from t", &["<"]);
    // Unnamed, prepared, bound: the three ways in which a statement is sent.
    for _ in 0..3 {
        let rows = pool.run(&exchange(main.clone(), true)).await.unwrap();
        let row = &rows[0].rows[0];
        assert_eq!((row.text(0), row.text(1)), (Some("one"), Some(r#"<{"sub":"me"}"#)));
        assert_eq!((row.bytes(2), row.int(3)), (None, Some(1)));
        assert_eq!(rows[0].tag, "SELECT 1");
    }
    let leftover = number(&pool, "select length(current_setting('request.jwt.claims', true))::int8").await;
    assert_eq!(leftover.unwrap(), Some(12), "set again by this exchange");
}

#[tokio::test]
async fn an_error_undoes_the_exchange_and_leaves_the_connection_usable() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let mut write = exchange(query("insert into t values (2, 'two')", &[]), false);
    write.queries.push(query("select 1/0", &[]));
    let error = pool.run(&write).await.unwrap_err();
    assert!(matches!(&error, Error::Db(cause) if cause.code == "22012"), "{error}");
    assert_eq!(number(&pool, "select count(*) from t").await.unwrap(), Some(1));
    let refused = pool.run(&exchange(query("insert into t values (3, 'three')", &[]), true)).await.unwrap_err();
    assert!(matches!(&refused, Error::Db(cause) if cause.code == "25006"), "read only: {refused}");
    let nul = pool.run(&exchange(query("select 'a\0b'", &[]), true)).await.unwrap_err();
    assert!(matches!(nul, Error::Protocol(_)));
    assert_eq!(number(&pool, "select count(*) from t").await.unwrap(), Some(1));
    assert_eq!(fixture.budget.used(), 1);
}

#[tokio::test]
async fn an_open_transaction_is_committed_or_rolled_back() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let insert = |id: &str| {
        let mut made = exchange(query("insert into t values ($1, 'new')", &[id]), false);
        made.begin = Some(query("begin", &[]));
        made
    };
    let (_, transaction) = pool.begin(&insert("2")).await.unwrap();
    transaction.commit().await.unwrap();
    let (_, transaction) = pool.begin(&insert("3")).await.unwrap();
    transaction.rollback().await.unwrap();
    let (_, transaction) = pool.begin(&insert("4")).await.unwrap();
    drop(transaction);
    assert_eq!(number(&pool, "select sum(id)::int8 from t").await.unwrap(), Some(3));
    let duplicate = pool.begin(&insert("2")).await.err().unwrap();
    assert!(matches!(&duplicate, Error::Db(cause) if cause.code == "23505"), "{duplicate}");
    assert_eq!(number(&pool, "select sum(id)::int8 from t").await.unwrap(), Some(3));
}

#[tokio::test]
async fn a_transaction_takes_statements_until_one_fails() {
    let fixture = Fixture::new().await;
    fixture.database.execute("grant all on t to pg_monitor").await;
    let pool = fixture.pool(one(1));
    let claims = Claims { role: "pg_monitor", jwt_claims: "{}", ..Claims::default() };
    let insert = |id: &str| query("insert into t values ($1, 'new') returning id", &[id]);

    let (rows, mut transaction) = pool.transaction(&claims, vec![insert("2")]).await.unwrap();
    assert_eq!(rows[0].rows[0].int(0), Some(2));
    let user = transaction.query(&query("select current_user::text", &[])).await.unwrap();
    assert_eq!(user.rows[0].text(0), Some("pg_monitor"));
    for id in ["3", "4"] {
        transaction.query(&insert(id)).await.unwrap();
    }
    transaction.commit().await.unwrap();
    assert_eq!(number(&pool, "select sum(id)::int8 from t").await.unwrap(), Some(10));

    for end in ["commit", "rollback", "drop"] {
        let (_, mut transaction) = pool.transaction(&claims, vec![]).await.unwrap();
        transaction.query(&insert("5")).await.unwrap();
        let duplicate = transaction.query(&insert("2")).await.unwrap_err();
        assert!(matches!(&duplicate, Error::Db(cause) if cause.code == "23505"), "{duplicate}");
        let after = transaction.query(&insert("6")).await.unwrap_err();
        assert!(matches!(after, Error::Protocol(_)), "{after}");
        match end {
            "commit" => assert!(transaction.commit().await.is_err()),
            "rollback" => transaction.rollback().await.unwrap(),
            _ => drop(transaction),
        }
        assert_eq!(number(&pool, "select sum(id)::int8 from t").await.unwrap(), Some(10), "after {end}");
    }
    let rows = pool.execute(&claims, vec![insert("7"), query("select count(*) from t", &[])]).await.unwrap();
    assert_eq!((rows[0].rows[0].int(0), rows[1].rows[0].int(0)), (Some(7), Some(5)));
    assert_eq!(fixture.budget.used(), 1);
}

#[tokio::test]
async fn the_last_statement_commits_unless_it_fails() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let begin =
        || Exchange { begin: Some(query("begin", &[])), ..exchange(query("insert into t values (97)", &[]), false) };
    let left = "select count(*) from t where id in (97, 98)";
    // More often than it takes to prepare a statement.
    for n in 0..4 {
        let (_, transaction) = pool.begin(&begin()).await.unwrap();
        let rows = transaction.query_and_commit(&query("insert into t values (98) returning id", &[])).await.unwrap();
        assert_eq!(rows.rows[0].int(0), Some(98), "{n}");
        assert_eq!(number(&pool, left).await.unwrap(), Some(2), "{n}");
        fixture.database.execute("delete from t where id in (97, 98)").await;
        let (_, transaction) = pool.begin(&begin()).await.unwrap();
        let error = transaction.query_and_commit(&query("select 1 / 0", &[])).await.unwrap_err();
        assert!(matches!(&error, Error::Db(cause) if cause.code == "22012"), "{error}");
        assert_eq!(number(&pool, left).await.unwrap(), Some(0), "{n}");
    }
}

#[tokio::test]
async fn statements_that_stored_code_dropped_are_prepared_again() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let write = |sql: &str| Exchange { begin: Some(query("begin", &[])), ..exchange(query(sql, &[]), false) };
    for n in 1..5 {
        for sql in ["select 1::int8", "do $$ begin execute 'deallocate all'; end $$", "insert into t values (99)"] {
            let (_, transaction) = pool.begin(&write(sql)).await.unwrap();
            transaction.commit().await.unwrap();
        }
        assert_eq!(number(&pool, "select count(*) from t where id = 99").await.unwrap(), Some(1), "{n}");
        let (_, transaction) = pool.begin(&write("delete from t where id = 99")).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn rows_too_long_to_hold_are_refused_and_the_connection_goes_on() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(PoolConfig { most_held: 1_000_000, ..one(1) });
    let refused = |error: Error| assert!(matches!(&error, Error::Db(cause) if cause.code == "54000"), "{error}");
    for sql in ["select repeat('x', 2000000)", "select repeat('x', 1000) from generate_series(1, 20000)"] {
        refused(pool.run(&exchange(query(sql, &[]), false)).await.unwrap_err());
        assert_eq!(number(&pool, "select 1::int8").await.unwrap(), Some(1));
        let write = |sql: &str| Exchange { begin: Some(query("begin", &[])), ..exchange(query(sql, &[]), false) };
        let (_, mut transaction) = pool.begin(&write("insert into t values (99)")).await.unwrap();
        refused(transaction.query(&query(sql, &[])).await.unwrap_err());
        drop(transaction);
        assert_eq!(number(&pool, "select count(*) from t where id = 99").await.unwrap(), Some(0));
        refused(pool.begin(&write(sql)).await.map(drop).unwrap_err());
        assert_eq!(number(&pool, "select 2::int8").await.unwrap(), Some(2));
    }
    // Where one long value is handed on, many short ones are held.
    let streamed = |sql: &str| Exchange { streams: Streams::LastValue, ..exchange(query(sql, &[]), true) };
    refused(pool.run(&streamed("select repeat('x', 1000) from generate_series(1, 20000)")).await.unwrap_err());
    let rows = pool.run(&streamed("select repeat('x', 1000) from generate_series(1, 500)")).await.unwrap();
    assert_eq!(rows[0].rows.len(), 500);
    let rows = pool.run(&exchange(query("select repeat('x', 900000)", &[]), false)).await.unwrap();
    assert_eq!(rows[0].rows[0].text(0).map(str::len), Some(900_000));
}

#[tokio::test]
async fn an_error_too_long_to_hold_is_told_short() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let long = |length: usize| format!("do $$ begin raise exception '%', repeat('x', {length}); end $$");
    for _ in 0..2 {
        let error = pool.run(&exchange(query(&long(1_000_000), &[]), false)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Db(cause) if cause.code == "P0001" && cause.message.len() == 65_536),
            "{error}"
        );
        let error = pool.run(&exchange(query(&long(20_000_000), &[]), false)).await.unwrap_err();
        assert!(matches!(&error, Error::Db(cause) if cause.code == "54000"), "{error}");
        assert_eq!(number(&pool, "select 1::int8").await.unwrap(), Some(1));
    }
}

#[tokio::test]
async fn long_notices_are_dropped_as_they_come() {
    let fixture = Fixture::new().await;
    let function = "create function shout(n int) returns int8 stable language plpgsql as
        $$ begin raise notice '%', repeat('x', n); raise warning '%', repeat('y', n); return n; end $$";
    fixture.database.execute(function).await;
    for interleaved in [0, 1] {
        let pool = fixture.pool(PoolConfig { max_connections: 2, interleaved, ..PoolConfig::default() });
        for length in [10, 16_384, 20_000, 60_000_000, 5] {
            let shouted = number(&pool, &format!("select shout({length})")).await;
            assert_eq!(shouted.unwrap(), Some(length), "{interleaved}");
        }
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_no_statement_running_and_no_half_read_connection() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let sleep = exchange(query("select pg_sleep(60)", &[]), true);
    let hung_up = tokio::time::timeout(Duration::from_millis(150), pool.run(&sleep)).await;
    assert!(hung_up.is_err());
    // The only connection: this waits until the sleeping statement is cancelled.
    assert_eq!(number(&pool, "select 7::int8").await.unwrap(), Some(7));
    let asleep = "select count(*) from pg_stat_activity \
                  where query like '%pg_sleep%' and pid <> pg_backend_pid() and datname = current_database()";
    assert_eq!(number(&pool, asleep).await.unwrap(), Some(0));
}

#[tokio::test]
async fn statements_survive_a_change_of_what_they_return() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let all = exchange(query("select * from t", &[]), true);
    for _ in 0..3 {
        assert_eq!(pool.run(&all).await.unwrap()[0].rows[0].len(), 2);
    }
    fixture.database.execute("alter table t add column y int").await;
    assert_eq!(pool.run(&all).await.unwrap()[0].rows[0].len(), 3);
    fixture.database.execute("drop table t; create table t (id int); insert into t values (5)").await;
    assert_eq!(pool.run(&all).await.unwrap()[0].rows[0].int(0), Some(5));
}

#[tokio::test]
async fn statements_survive_a_change_of_the_type_of_a_parameter() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let by_key = exchange(query("select 1::int8 from t where id = $1", &["5"]), true);
    for _ in 0..3 {
        pool.run(&by_key).await.unwrap();
    }
    fixture.database.execute("drop table t; create table t (id text); insert into t values ('5')").await;
    assert_eq!(pool.run(&by_key).await.unwrap()[0].rows.len(), 1);
    // One that is wrong with any plan is told, and does not hide that it is.
    fixture.database.execute("drop table t; create table t (id point)").await;
    for _ in 0..5 {
        let error = pool.run(&by_key).await.unwrap_err();
        assert!(matches!(&error, Error::Db(cause) if cause.code.starts_with("22") || cause.code == "42883"), "{error}");
    }
}

#[tokio::test]
async fn short_reads_share_a_connection_and_never_wait_long_behind_a_slow_one() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(PoolConfig { max_connections: 4, interleaved: 1, ..PoolConfig::default() });
    // The same statement is short or long by its parameter, so that it gets the privilege and then abuses it.
    let nap = |seconds: &str| exchange(query("select 1::int8 from pg_sleep($1::float8)", &[seconds]), true);
    for _ in 0..50 {
        pool.run(&nap("0")).await.unwrap();
    }
    let slow = {
        let (pool, long) = (pool.clone(), nap("2"));
        tokio::spawn(async move { pool.run(&long).await })
    };
    tokio::time::sleep(Duration::from_millis(30)).await;
    let quick = async {
        for _ in 0..20 {
            pool.run(&nap("0")).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(1), quick).await.expect("not behind the slow one");
    slow.await.unwrap().unwrap();
}

/// Runs a statement with each of these parameters often enough to be known as short, then all at once.
async fn all_at_once(pool: &Pool, sql: &str, params: &[&str]) -> Vec<Result<Option<String>, Error>> {
    let read = |param: &str| exchange(query(sql, &[param]), true);
    for _ in 0..20 {
        pool.run(&read("1")).await.unwrap();
    }
    let reads: Vec<Exchange> = params.iter().map(|param| read(param)).collect();
    let results = futures_util::future::join_all(reads.iter().map(|read| pool.run(read))).await;
    results.into_iter().map(|rows| Ok(rows?[0].rows[0].text(0).map(str::to_owned))).collect()
}

#[tokio::test]
async fn reads_of_one_caller_share_a_transaction() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(PoolConfig { max_connections: 2, interleaved: 1, ..PoolConfig::default() });
    let numbers: Vec<String> = (1..=50).map(|n| n.to_string()).collect();
    let params: Vec<&str> = numbers.iter().map(String::as_str).collect();
    // The shared connection is made in the background, once the statement has shown itself short.
    eventually("the reads share transactions", async || {
        let answers = all_at_once(&pool, "select $1::text || ' ' || now()::text", &params).await;
        let mut times = std::collections::HashSet::new();
        for (param, answer) in params.iter().zip(answers) {
            let answer = answer.unwrap().unwrap();
            let (own, time) = answer.split_once(' ').unwrap();
            assert_eq!(own, *param);
            times.insert(time.to_owned());
        }
        // The connection may have been busy when the first came.
        (times.len() <= 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_that_fails_takes_none_of_those_along_that_share_its_transaction() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(PoolConfig { max_connections: 2, interleaved: 1, ..PoolConfig::default() });
    let params = ["1", "2", "0", "4", "0", "5", "x\0"];
    let answers = all_at_once(&pool, "select (20 / $1::int)::text", &params).await;
    for (param, answer) in params.iter().zip(answers) {
        match *param {
            "0" => assert!(matches!(&answer, Err(Error::Db(cause)) if cause.code == "22012"), "{answer:?}"),
            "x\0" => assert!(matches!(&answer, Err(Error::Db(cause)) if cause.code == "22021"), "{answer:?}"),
            number => assert_eq!(answer.unwrap(), Some((20 / number.parse::<i32>().unwrap()).to_string())),
        }
    }
}

/// The length of a long value, read to its end.
async fn read_long(value: &mut crate::LongValue) -> std::io::Result<usize> {
    let mut total = 0;
    while let Some(piece) = std::future::poll_fn(|cx| value.poll_piece(cx)).await {
        total += piece?.len();
    }
    Ok(total)
}

#[tokio::test]
async fn a_long_value_comes_in_pieces() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let long = |length: &str| exchange(query("select 7::int8, null::text, repeat('x', $1::int)", &[length]), true);
    for _ in 0..3 {
        let mut results = pool.run(&long("15000000")).await.unwrap();
        assert_eq!((results[0].rows[0].int(0), results[0].rows[0].bytes(2)), (Some(7), None));
        let value = results[0].long.as_mut().unwrap();
        assert_eq!((value.len(), read_long(value).await.unwrap()), (15_000_000, 15_000_000));
        drop(results);
        assert_eq!(number(&pool, "select 3::int8").await.unwrap(), Some(3));
        // One that is dropped unread frees its connection too.
        drop(pool.run(&long("50000000")).await.unwrap());
        assert_eq!(number(&pool, "select 4::int8").await.unwrap(), Some(4));
    }
    assert_eq!(fixture.budget.used(), 1);
    let held = Exchange { streams: Streams::Nothing, ..long("15000000") };
    assert_eq!(pool.run(&held).await.unwrap()[0].rows[0].bytes(2).map(|bytes| bytes.len()), Some(15_000_000));
}

#[tokio::test]
async fn rows_come_as_one_array() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    let rows = |count: &str| {
        let sql = "select 0::int8, count(*) over (), null, null, null, null, j, sum(octet_length(j)) over ()::int8 \
                   from (select row_to_json(t)::text as j from (select i, repeat('é', 500) from generate_series(1, $1::int) i) t) _";
        Exchange { streams: Streams::Rows, ..exchange(query(sql, &[count]), true) }
    };
    let whole = |count: &str| {
        let sql = "select json_agg(t) from (select i, repeat('é', 500) from generate_series(1, $1::int) i) t";
        Exchange { streams: Streams::Nothing, ..exchange(query(sql, &[count]), true) }
    };
    for count in ["1", "2", "3000"] {
        let mut results = pool.run(&rows(count)).await.unwrap();
        let value = results[0].long.as_mut().unwrap();
        let mut text = Vec::new();
        while let Some(piece) = std::future::poll_fn(|cx| value.poll_piece(cx)).await {
            text.extend_from_slice(&piece.unwrap());
        }
        drop(results);
        let expected = pool.run(&whole(count)).await.unwrap();
        assert!(expected[0].rows[0].bytes(0).unwrap() == text, "{count}");
    }
    assert!(pool.run(&rows("0")).await.unwrap()[0].long.is_none());
    drop(pool.run(&rows("100000")).await.unwrap());
    assert_eq!(number(&pool, "select 4::int8").await.unwrap(), Some(4));
}

#[tokio::test]
async fn a_long_value_is_not_waited_for_on_a_shared_connection() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(PoolConfig { max_connections: 3, interleaved: 1, ..PoolConfig::default() });
    let read = |length: &str| exchange(query("select repeat('x', $1::int)", &[length]), true);
    for _ in 0..20 {
        pool.run(&read("1")).await.unwrap();
    }
    let (short, long) = (read("10"), read("30000000"));
    let (first, second, third) = tokio::join!(pool.run(&short), pool.run(&long), pool.run(&short));
    for answer in [first, third] {
        assert_eq!(answer.unwrap()[0].rows[0].text(0), Some("xxxxxxxxxx"));
    }
    assert_eq!(read_long(second.unwrap()[0].long.as_mut().unwrap()).await.unwrap(), 30_000_000);
}

#[tokio::test]
async fn a_pool_bounds_connections_and_waiting_requests() {
    let fixture = Fixture::new().await;
    let config = PoolConfig { acquire_timeout: Duration::from_millis(200), max_waiting: 1, ..one(1) };
    let pool = fixture.pool(config);
    let sleep = exchange(query("select pg_sleep(1)", &[]), true);
    let results = futures_util::future::join_all((0..3).map(|_| pool.run(&sleep))).await;
    let count = |wanted: fn(&Error) -> bool| results.iter().filter(|r| r.as_ref().is_err_and(wanted)).count();
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert_eq!(count(|error| matches!(error, Error::AcquireTimeout)), 1);
    assert_eq!(count(|error| matches!(error, Error::Overloaded)), 1);
}

#[tokio::test]
async fn the_budget_is_shared_and_idle_connections_are_given_up() {
    let fixture = Fixture::new().await;
    let budget = Budget::new(1);
    let pool = || Pool::new(fixture.connect.clone(), one(1), budget.clone(), fixture.tasks.clone());
    let (first, second) = (pool(), pool());
    for pool in [&first, &second, &first] {
        assert_eq!(number(pool, "select 1::int8").await.unwrap(), Some(1));
        assert_eq!(budget.used(), 1);
    }
    let shutdown = tokio_util::sync::CancellationToken::new();
    let sweeper = {
        let (budget, shutdown) = (budget.clone(), shutdown.clone());
        tokio::spawn(async move { budget.sweep(Duration::from_millis(1), shutdown).await })
    };
    eventually("the idle connection is closed", async || (budget.used() == 0).then_some(())).await;
    shutdown.cancel();
    sweeper.await.unwrap();
}

#[tokio::test]
async fn busy_pools_leave_a_reserve_for_the_others() {
    let fixture = Fixture::new().await;
    let budget = Budget::new(6);
    let config = PoolConfig { acquire_timeout: Duration::from_millis(300), ..one(10) };
    let pool =
        |config: &PoolConfig| Pool::new(fixture.connect.clone(), config.clone(), budget.clone(), fixture.tasks.clone());
    let (busy, quiet) = (pool(&config), pool(&config));
    let sleep = exchange(query("select 1::int8 from pg_sleep(1)", &[]), true);
    let flood = futures_util::future::join_all((0..10).map(|_| busy.run(&sleep)));
    let neighbour = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let used = budget.used();
        (used, number(&quiet, "select 7::int8").await)
    };
    let (flooded, (used, answer)) = tokio::join!(flood, neighbour);
    assert_eq!(used, 5, "one of six is kept back");
    assert_eq!(answer.unwrap(), Some(7));
    assert_eq!(flooded.iter().filter(|result| result.is_ok()).count(), 5);
}

#[tokio::test]
async fn a_crowd_larger_than_the_budget_opens_no_connection_twice() {
    let fixture = Fixture::new().await;
    let budget = Budget::new(6);
    let pool = Pool::new(fixture.connect.clone(), one(20), budget.clone(), fixture.tasks.clone());
    let read = exchange(query("select pg_backend_pid()::int8 from pg_sleep(0.005)", &[]), true);
    let results = futures_util::future::join_all((0..200).map(|_| pool.run(&read))).await;
    let backends: std::collections::HashSet<i64> =
        results.into_iter().map(|rows| rows.unwrap()[0].rows[0].int(0).unwrap()).collect();
    assert_eq!((backends.len(), budget.used()), (5, 5));
}

#[tokio::test]
async fn refusals_say_why() {
    let fixture = Fixture::new().await;
    let wrong = ConnectConfig { password: Some(Secret::new("wrong".to_owned())), ..fixture.connect.clone() };
    let pool = Pool::new(wrong, one(1), fixture.budget.clone(), fixture.tasks.clone());
    let refused = pool.ping().await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(cause) if cause.code == "28P01"), "{refused}");
    let nobody = ConnectConfig { port: test_support::free_port(), ..fixture.connect.clone() };
    let pool = Pool::new(nobody, one(1), fixture.budget.clone(), fixture.tasks.clone());
    assert!(matches!(pool.ping().await, Err(Error::Connect(_))));
    assert_eq!(fixture.budget.used(), 0);
}
