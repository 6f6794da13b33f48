//! What an owner's functions do to autovacuum, which runs them for indexes on them.

use super::*;

const OFTEN: &str = "autovacuum_naptime = 1s\nautovacuum_analyze_threshold = 1\n";

/// The worker in a project's database that has been at something longest, for two seconds at least.
async fn worker(scene: &Scene, project: &ProjectRef) -> Option<i32> {
    let sql = "select pid from pg_stat_activity
        where backend_type = 'autovacuum worker' and datname = $1 and xact_start < now() - interval '2 seconds'
        order by xact_start limit 1";
    scene.admin.query_opt(sql, &[&project.database()]).await.unwrap().map(|row| row.get(0))
}

/// A worker is kept by what `index` makes of `t` and the function `f`, which waits only for autovacuum; it is ended.
async fn check(index: &str) {
    let scene = Scene::own_with(|_| {}, OFTEN).await;
    let project = scene.project().await;
    let mut watchdog =
        scene.watchdog(WatchdogConfig { autovacuum_code: Duration::from_secs(1), ..WatchdogConfig::default() });
    let owner = scene.owner(&project).await;
    // Whoever inserts has an application.
    owner
        .batch_execute(&format!(
            "set application_name = 'owner';
             create function f(i int) returns int immutable language plpgsql as $$ begin
               if current_setting('application_name') = '' then perform pg_sleep(100000); end if; return i; end $$;
             create table t (i int);
             {index};
             insert into t select generate_series(1, 10000)"
        ))
        .await
        .unwrap();
    let first = test_support::eventually("it is kept", async || worker(&scene, &project).await).await;
    let gone = async || {
        watchdog.round().await.unwrap();
        (worker(&scene, &project).await != Some(first)).then_some(())
    };
    test_support::eventually("it goes on", gone).await;
    // A session of its own is left alone.
    assert!(lives(&owner).await);
}

#[tokio::test]
async fn a_table_that_cannot_be_analyzed_does_not_keep_autovacuum() {
    check("create index on t (f(i))").await;
}

#[tokio::test]
async fn an_index_that_cannot_be_summarized_does_not_keep_autovacuum() {
    let index = "create index on t using brin (f(i)) with (pages_per_range = 1, autosummarize = on);
        alter table t set (autovacuum_analyze_threshold = 1000000000)";
    check(index).await;
}

#[tokio::test]
async fn a_table_that_cannot_be_vacuumed_does_not_keep_autovacuum() {
    let index = "create index on t using brin (f(i)) with (pages_per_range = 1);
        alter table t set (autovacuum_analyze_threshold = 1000000000, autovacuum_vacuum_insert_threshold = 1)";
    check(index).await;
}

#[tokio::test]
async fn a_lock_table_that_autovacuum_fills_is_emptied() {
    let scene = Scene::own_with(|_| {}, OFTEN).await;
    let (hostile, neighbour) = (scene.project().await, scene.project().await);
    let mut watchdog = scene.watchdog(WatchdogConfig::default());
    assert_eq!(watchdog.round().await.unwrap(), []);
    let neighbour = scene.owner(&neighbour).await;
    let owner = scene.owner(&hostile).await;
    owner
        .batch_execute(
            "set application_name = 'owner';
             create function f(i int) returns int immutable language plpgsql as $$ begin
               if current_setting('application_name') = '' then
                 for n in 1..100000000 loop
                   begin perform pg_advisory_lock(n); exception when others then perform pg_sleep(0.001); end;
                 end loop;
               end if;
               return i; end $$;
             create table t (i int);
             create index on t (f(i));
             insert into t select generate_series(1, 1000)",
        )
        .await
        .unwrap();
    let lock = "select pg_advisory_lock((random() * 1000000000)::int8)";
    test_support::eventually("full", async || code(&neighbour, lock).await.map(drop)).await;
    let ended = test_support::eventually("it is ended", async || {
        watchdog.round().await.ok().filter(|actions| !actions.is_empty())
    })
    .await;
    let ended: Vec<_> = ended.iter().map(|a| (a.project.as_str(), a.reason, a.measure)).collect();
    assert_eq!(ended, [(hostile.as_str(), Reason::Locks, Measure::Ended)]);
    test_support::eventually("room", async || code(&neighbour, lock).await.is_none().then_some(())).await;
    assert!(lives(&owner).await);
}
