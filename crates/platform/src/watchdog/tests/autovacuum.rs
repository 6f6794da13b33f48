//! What an owner's functions do to autovacuum, which runs them for indexes on them.

use super::*;
use crate::baseline::FILES;

const OFTEN: &str = "autovacuum_naptime = 1s\nautovacuum_analyze_threshold = 1\n";

/// The worker in a project's database that has been at something longest, for two seconds at least.
async fn worker(scene: &Scene, project: &ProjectRef) -> Option<i32> {
    let sql = "select pid from pg_stat_activity
        where backend_type = 'autovacuum worker' and datname = $1 and xact_start < now() - interval '2 seconds'
        order by xact_start limit 1";
    scene.admin.query_opt(sql, &[&project.database()]).await.unwrap().map(|row| row.get(0))
}

/// What a function of an owner's does for autovacuum alone: whoever inserts has an application.
async fn setup(scene: &Scene, project: &ProjectRef, at_work: &str) -> Client {
    let owner = scene.owner(project).await;
    let sql = format!(
        "set application_name = 'owner';
         create function f(i int) returns int immutable language plpgsql as $$ begin
           if current_setting('application_name') = '' then {at_work}; end if; return i; end $$;
         create table t (i int)"
    );
    owner.batch_execute(&sql).await.unwrap();
    owner
}

/// A worker is kept by what `index` makes of `t` and the function `f`, which waits; it is told to go on.
async fn check(index: &str) {
    let scene = Scene::own_with(|_| {}, OFTEN).await;
    let project = scene.project().await;
    let mut watchdog =
        scene.watchdog(WatchdogConfig { autovacuum_code: Duration::from_secs(1), ..WatchdogConfig::default() });
    let owner = setup(&scene, &project, "perform pg_sleep(100000)").await;
    let sql = format!("{index}; insert into t select generate_series(1, 10000)");
    owner.batch_execute(&sql).await.unwrap();
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
async fn code_that_catches_what_cancels_it_is_ended() {
    let scene = Scene::own_with(|_| {}, OFTEN).await;
    let project = scene.project().await;
    let mut watchdog =
        scene.watchdog(WatchdogConfig { autovacuum_code: Duration::from_secs(1), ..WatchdogConfig::default() });
    let at_work = "loop begin perform pg_sleep(100000); exception when query_canceled then null; end; end loop";
    let owner = setup(&scene, &project, at_work).await;
    owner.batch_execute("create index on t (f(i)); insert into t select generate_series(1, 1000)").await.unwrap();
    let first = test_support::eventually("it is kept", async || worker(&scene, &project).await).await;
    let gone = async || {
        watchdog.round().await.unwrap();
        let sql = "select from pg_stat_activity where pid = $1";
        scene.admin.query_opt(sql, &[&first]).await.unwrap().is_none().then_some(())
    };
    test_support::eventually("it is ended", gone).await;
}

#[tokio::test]
async fn autovacuum_writes_nothing_for_an_owner_over_quota() {
    let scene = Scene::own_with(|_| {}, OFTEN).await;
    let project = scene.project().await;
    let config = WatchdogConfig {
        quota_bytes: Some(1),
        quota_interval: Duration::from_secs(3),
        autovacuum_writes: Duration::from_secs(1),
        ..WatchdogConfig::default()
    };
    let mut watchdog = scene.watchdog(config);
    // Autovacuum looks for names in the system's schema only.
    let owner = setup(&scene, &project, "perform public.g()").await;
    owner
        .batch_execute(
            // Without a pause it could write gigabytes meanwhile.
            "create table big (x text);
             create function g() returns void language plpgsql as $$ begin
               loop insert into public.big values (repeat('x', 8000)); perform pg_sleep(0.01); end loop; end $$;
             create index on t (f(i)); insert into t select generate_series(1, 1000)",
        )
        .await
        .unwrap();
    let ended = test_support::eventually("it is ended", async || {
        watchdog.round().await.ok().filter(|actions| !actions.is_empty())
    })
    .await;
    let ended: Vec<_> = ended.iter().map(|a| (a.project.as_str(), a.reason, a.measure)).collect();
    assert_eq!(ended, [(project.as_str(), Reason::OverQuota, Measure::Ended)]);
    assert!(lives(&owner).await);
}

#[tokio::test]
async fn what_autovacuum_gives_back_to_the_disk_is_not_a_write() {
    let scene = Scene::own_with(|_| {}, OFTEN).await;
    let project = scene.project().await;
    let owner = scene.owner(&project).await;
    owner
        .batch_execute("create table t (i int primary key, x text); insert into t select i, repeat('x', 800) from generate_series(1, 20000) i")
        .await
        .unwrap();
    owner.batch_execute("delete from t").await.unwrap();
    // A reader, which the truncation waits for with a transaction id of its own.
    let reader = scene.owner(&project).await;
    reader.batch_execute("begin; select count(*) from t where false").await.unwrap();
    let config = WatchdogConfig::default();
    let situation = store::Situation { writes_refused: true, over_quota: &[], temporary_bytes: i64::MAX };
    let sql = "select activity.backend_xid is not null from pg_stat_progress_vacuum vacuum
        join pg_stat_activity activity using (pid)
        where vacuum.datname = $1 and phase = 'truncating heap' and activity.backend_type = 'autovacuum worker'";
    let mut seen = 0;
    test_support::eventually("it truncates", async || {
        let truncates = scene.admin.query_opt(sql, &[&project.database()]).await.unwrap().is_some_and(|row| row.get(0));
        if truncates {
            let offences = store::offenders(&scene.admin, &config, &situation).await.unwrap();
            assert_eq!(offences, []);
            seen += 1;
        }
        (seen > 3).then_some(())
    })
    .await;
    assert!(lives(&reader).await);
    // The owner's own session, at the same moment.
    let writer = scene.owner(&project).await;
    writer.batch_execute("begin; insert into t values (0, 'x')").await.unwrap();
    let mut offences = store::offenders(&scene.admin, &config, &situation).await.unwrap();
    offences.retain(|offence| !offence.is_autovacuums_write());
    assert_eq!(
        offences.iter().map(|o| (o.role.as_str(), o.reason)).collect::<Vec<_>>(),
        [(project.as_str(), Reason::WritesRefused)]
    );
    assert!(lives(&writer).await);
}

#[tokio::test]
async fn who_locks_heirs_in_turns_does_not_keep_autovacuum() {
    let scene = Scene::own_with(|_| {}, OFTEN).await;
    let project = scene.project().await;
    let owner = scene.owner(&project).await;
    owner
        .batch_execute(
            "create table t (i int); create table heir () inherits (t); insert into t select generate_series(1, 1000)",
        )
        .await
        .unwrap();
    let holder = scene.owner(&project).await;
    holder.batch_execute("begin; lock table heir in access exclusive mode").await.unwrap();
    let first = test_support::eventually("it is kept", async || worker(&scene, &project).await).await;
    let config = WatchdogConfig::default();
    let found = store::autovacuum_workers(&scene.admin, &config).await.unwrap();
    let found: Vec<_> = found.iter().map(|worker| (worker.pid, worker.counts)).collect();
    assert_eq!(found, [(first, 1.0)]);
    assert!(lives(&holder).await);
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

/// A cluster whose autovacuum pauses, a project with the baseline's part, and a watchdog.
async fn paused(config: WatchdogConfig) -> (Scene, ProjectRef, Watchdog) {
    let scene = Scene::own_with(|_| {}, OFTEN).await;
    let project = scene.project().await;
    let watchdog = scene.watchdog(config);
    let admin = &scene.config.admin;
    let superuser = connect(&url(&scene.config, &admin.user, admin.password.expose(), project.database())).await;
    let files = FILES[10..].iter().map(|file| file.sql);
    superuser.batch_execute(&format!("create schema _launchdb; {}", files.collect::<String>())).await.unwrap();
    (scene, project, watchdog)
}

fn looks_at_once() -> WatchdogConfig {
    WatchdogConfig { autovacuum_pauses: Duration::from_secs(1), ..WatchdogConfig::default() }
}

/// EXPLAIN makes a table of which no event trigger is told.
fn slow_table(name: &str, parameters: &str) -> String {
    format!(
        "explain analyze create table {name} with (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,
            autovacuum_vacuum_insert_threshold = 1 {parameters}) as
            select i, repeat('x', 800), (select string_agg(md5(i || '-' || n), '') from generate_series(1, 150) n where i < 500)
            from generate_series(1, 20000) i"
    )
}

async fn parameters(owner: &Client, table: &str) -> Option<String> {
    let sql = "select reloptions::text from pg_class where relname = $1";
    owner.query_one(sql, &[&table]).await.unwrap().get(0)
}

/// The workers that pause at a table.
async fn pausing(scene: &Scene, project: &ProjectRef) -> Vec<i32> {
    let workers = store::autovacuum_workers(&scene.admin, &WatchdogConfig::default()).await.unwrap();
    let workers = workers.into_iter().filter(|worker| worker.pauses && worker.project == project.as_str());
    workers.map(|worker| worker.pid).collect()
}

/// Rounds of the watchdog until none of these workers is there: one would keep what it read for TOAST tables, too.
async fn until_they_are_gone(scene: &Scene, watchdog: &mut Watchdog, slow: &[i32]) {
    let sql = "select from pg_stat_activity where pid = any ($1)";
    test_support::eventually("they are gone", async || {
        watchdog.round().await.unwrap();
        scene.admin.query(sql, &[&slow]).await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn tables_that_make_it_slow_lose_what_makes_them_so() {
    let (scene, project, mut watchdog) = paused(looks_at_once()).await;
    let owner = scene.owner(&project).await;
    for table in ["slow", "slower"] {
        owner.batch_execute(&slow_table(table, "")).await.unwrap();
    }
    let workers = test_support::eventually("two are slow", async || {
        let workers = pausing(&scene, &project).await;
        (workers.len() > 1).then_some(workers)
    })
    .await;
    // What the owner has taken himself leaves a worker with what it read before.
    owner.batch_execute("begin; grant select on slow to public; create temp table x (); commit").await.unwrap();
    assert!(!parameters(&owner, "slow").await.unwrap().contains("cost_delay"));
    // One that cannot be changed now keeps no other, and no worker.
    let holder = scene.owner(&project).await;
    holder.batch_execute(&slow_table("held", "")).await.unwrap();
    holder.batch_execute("begin; grant select on held to public").await.unwrap();
    until_they_are_gone(&scene, &mut watchdog, &workers).await;
    for table in ["slow", "slower"] {
        let rest = "{autovacuum_vacuum_insert_threshold=1}";
        let taken = async || (parameters(&owner, table).await.as_deref() == Some(rest)).then_some(());
        test_support::eventually("it keeps the rest", taken).await;
    }
    assert!(parameters(&owner, "held").await.unwrap().contains("cost_delay=100"));
    assert!(lives(&holder).await && lives(&owner).await);
}

/// A worker that prevents wraparound waits for a locked table, with what it read before.
#[tokio::test]
async fn a_worker_keeps_nothing_that_its_table_asked_for_before() {
    let (scene, project, mut watchdog) = paused(looks_at_once()).await;
    let owner = scene.owner(&project).await;
    let parameters = ", autovacuum_enabled = off, autovacuum_freeze_max_age = 100000";
    owner.batch_execute(&slow_table("slow", parameters)).await.unwrap();
    owner.batch_execute("begin; lock table slow in share update exclusive mode").await.unwrap();
    let ids = scene.owner(&project).await;
    let use_ids = "create temp table used (i int);
        do $$ begin for n in 1..110000 loop
            begin insert into used values (n); exception when others then null; end; end loop; end $$";
    ids.batch_execute(use_ids).await.unwrap();
    let waits = "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%to prevent wraparound)'";
    test_support::eventually("it waits", async || scene.admin.query_opt(waits, &[]).await.unwrap()).await;
    owner
        .batch_execute("alter table slow reset (autovacuum_vacuum_cost_delay, autovacuum_freeze_max_age); commit")
        .await
        .unwrap();
    let slow = test_support::eventually("it is slow", async || {
        Some(pausing(&scene, &project).await).filter(|workers| !workers.is_empty())
    })
    .await;
    until_they_are_gone(&scene, &mut watchdog, &slow).await;
}

/// Whatever keeps them there.
#[tokio::test]
async fn no_project_has_all_workers_for_long() {
    let config = WatchdogConfig { autovacuum_hoarding: Duration::from_secs(1), ..WatchdogConfig::default() };
    let (scene, project, mut watchdog) = paused(config).await;
    let owner = scene.owner(&project).await;
    for table in ["slow", "slower", "slowest"] {
        owner.batch_execute(&slow_table(table, "")).await.unwrap();
    }
    let sql = "select pid from pg_stat_activity where backend_type = 'autovacuum worker' and datname = $1 order by backend_start";
    let both = test_support::eventually("all are there", async || {
        let workers = scene.admin.query(sql, &[&project.database()]).await.unwrap();
        (workers.len() == 2).then(|| workers.iter().map(|row| row.get(0)).collect::<Vec<i32>>())
    })
    .await;
    test_support::eventually("the youngest is gone", async || {
        watchdog.round().await.unwrap();
        let workers = scene.admin.query(sql, &[&project.database()]).await.unwrap();
        let pids: Vec<i32> = workers.iter().map(|row| row.get(0)).collect();
        (pids.contains(&both[0]) && !pids.contains(&both[1])).then_some(())
    })
    .await;
}
