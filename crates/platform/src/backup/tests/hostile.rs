//! What an owner's data and code can ask of those who back them up has an end, and costs nobody else.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::faults::{altered, assert_untouched, small};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_never_ends_is_given_up_and_holds_up_no_backup() {
    let (world, store) = (World::start().await, Store::new());
    let (id, file) = small(&world, &store.of(&world)).await;
    let limits = Limits { load: Duration::from_secs(12), ..Limits::default() };
    let backups = store.limited(&world, limits);
    let altered = altered(&store, &file, "do $$ begin perform pg_sleep(3600); end $$;");
    let (verifying, path) = (backups.clone(), altered.clone());
    let verification = tokio::spawn(async move { verifying.verify(&path, &Progress::default()).await });
    let database = format!("{id}_verifying");
    test_support::eventually("the load", async || (others(&world, &id).await == [database.as_str()]).then_some(()))
        .await;

    // The owner's own sessions there are ended, too.
    let url = world.owner_url(&id, &database).await;
    let connected = test_support::eventually("a session in the database that is loaded", async || {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    })
    .await;
    let started = Instant::now();
    connected.batch_execute("select pg_sleep(3600)").await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());

    backups.run(&Subject::Platform, &Progress::default()).await.unwrap();
    assert!(!verification.is_finished(), "a backup was made meanwhile");
    let result = tokio::time::timeout(Duration::from_secs(40), verification).await.expect("an end").unwrap();
    assert!(matches!(result, Err(BackupError::TookTooLong)), "{result:?}");
    assert_untouched(&world, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dumps_statements_take_a_bounded_amount_of_memory() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let (id, file) = small(&world, &backups).await;
    let long = "x".repeat(1024 * 1024);
    // Each is refused, and would be kept to be tried again.
    let refused = format!("select pg_read_file('{long}');\n").repeat(20);
    let too_long = format!("select '{}';", long.repeat(9));
    for (sql, expected) in [(refused, "more statements are refused"), (too_long, "a statement is longer than 8388608")]
    {
        let altered = altered(&store, &file, &sql);
        let error = restore(&backups, &altered, &onto(&id)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{}", error.chars().take(300).collect::<String>());
        assert_untouched(&world, &id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_more_tables_than_there_are_locks_for_is_not_dumped() {
    let (world, store) = (World::start().await, Store::new());
    let id = world.project().await;
    let tables = world.provisioner.table_count(&id).await.unwrap();
    let limited = |tables| store.limited(&world, Limits { tables: Some(tables), ..Limits::default() });
    backed_up(&limited(tables), &id).await;
    world.owner_session(&id).await.batch_execute("create table one_more (a int)").await.unwrap();
    let error = limited(tables).run(&Subject::Project(id.clone()), &Progress::default()).await.unwrap_err();
    let expected = format!("{id} has {} tables", tables + 1);
    assert!(error.to_string().starts_with(&expected), "{error}");
    // By the cluster's settings there is room for those of ordinary applications.
    let locks = super::super::store::locks(&world.admin).await.unwrap();
    assert!(locks / 2 >= 1000, "{locks}");
    backed_up(&store.of(&world), &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_listed_as_a_table_is_not_read_as_a_view() {
    let world = World::start().await;
    assert!(super::super::store::restricts_relations(&world.admin).await.unwrap());
    let id = world.project().await;
    let sql = "create view public.v as select 1 as a; grant all on public.v to public";
    world.owner_session(&id).await.batch_execute(sql).await.unwrap();
    let database = world.cluster.connect(id.database()).await;
    let restricted = super::super::dump::RESTRICTED.strip_prefix("-c ").unwrap().replace('=', " = '") + "'";
    database.batch_execute(&format!("set {restricted}")).await.unwrap();
    let error = database.query("select a from public.v", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55000");
}

/// A new database is open to every role that can log in, and another project's owner may wait for its name. Looked at by a
/// session that asks faster than anybody can log in.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_closed_to_others_before_anybody_can_connect() {
    const SQL: &str =
        "select datname::text, datallowconn and datacl is null from pg_database where datname like '%\\_%'
        and oid > 16383";
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let (id, file) = small(&world, &backups).await;
    let (watcher, done) = (test_support::connect(&world.cluster.superuser_url()).await, CancellationToken::new());
    let watching = tokio::spawn({
        let done = done.clone();
        async move {
            let mut seen = BTreeSet::new();
            while !done.is_cancelled() {
                let rows = watcher.query(SQL, &[]).await.unwrap();
                seen.extend(rows.iter().map(|row| (row.get::<_, String>(0), row.get::<_, bool>(1))));
            }
            seen
        }
    });
    restore(&backups, &file, &onto(&id)).await.unwrap();
    backups.verify(&file, &Progress::default()).await.unwrap();
    done.cancel();
    let seen = watching.await.unwrap();
    for suffix in ["restoring", "verifying"] {
        let name = format!("{id}_{suffix}");
        assert!(seen.contains(&(name.clone(), false)), "it was there: {seen:?}");
        assert!(!seen.contains(&(name, true)), "it was open: {seen:?}");
    }
}
