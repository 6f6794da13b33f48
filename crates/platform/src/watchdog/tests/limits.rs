//! One limit at a time, on sessions of one project beside another that must not notice.

use super::*;

const NEVER: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(50);

/// The other limits stay far away.
fn lenient(project: &ProjectRef) -> WatchdogConfig {
    WatchdogConfig {
        statement: NEVER,
        idle_in_transaction: NEVER,
        transaction: NEVER,
        cancel_grace: SHORT,
        only: Some(vec![project.clone()]),
        ..WatchdogConfig::default()
    }
}

/// Runs `misdeed` and looks until exactly these actions were taken; sessions it returns live on as said.
async fn check(
    name: &str,
    change: impl FnOnce(&mut WatchdogConfig),
    misdeed: impl AsyncFnOnce(&Scene, &ProjectRef) -> Vec<(Client, bool)>,
    expected: &[(Reason, Measure)],
) {
    let scene = Scene::shared().await;
    let (project, neighbour) = (scene.project().await, scene.project().await);
    let neighbour = scene.owner(&neighbour).await;
    neighbour.batch_execute("begin; select pg_advisory_lock(1)").await.unwrap();
    let sessions = misdeed(&scene, &project).await;
    let good = scene.authenticator(&project).await;

    let mut config = lenient(&project);
    change(&mut config);
    let mut watchdog = scene.watchdog(config);
    let mut actions = Vec::new();
    test_support::eventually(name, async || {
        actions.extend(watchdog.round().await.unwrap());
        (actions.len() >= expected.len()).then_some(())
    })
    .await;
    // Each measure is reported once.
    for _ in 0..3 {
        actions.extend(watchdog.round().await.unwrap());
        tokio::time::sleep(SHORT / 2).await;
    }
    let taken: Vec<(Reason, Measure)> = actions.iter().map(|action| (action.reason, action.measure)).collect();
    assert_eq!(taken, expected, "{name}");
    assert!(actions.iter().all(|action| action.project == project.as_str()), "{name}: {actions:?}");
    for (session, survives) in &sessions {
        if *survives {
            assert!(lives(session).await, "{name}");
        } else {
            test_support::eventually(name, async || (!lives(session).await).then_some(())).await;
        }
    }
    assert!(lives(&good).await && lives(&neighbour).await && lives(&scene.admin).await, "{name}");
}

/// A session in which this runs, or has run into an error.
async fn run(client: Client, sql: &str) -> Client {
    client.batch_execute(sql).await.unwrap();
    client
}

/// Starts a statement that will not end by itself; the session stays when it is cancelled.
fn start(client: Client, sql: &'static str) {
    tokio::spawn(async move {
        let _ = client.batch_execute(sql).await;
        std::future::pending::<()>().await;
        drop(client);
    });
}

#[tokio::test]
async fn statements_that_run_too_long() {
    let limit = |config: &mut WatchdogConfig| config.statement = Duration::from_millis(300);
    check(
        "cancelled",
        limit,
        async |scene, project| {
            start(scene.owner(project).await, "select pg_sleep(3600)");
            start(scene.authenticator(project).await, "begin; select pg_sleep(3600)");
            vec![(scene.owner(project).await, true)]
        },
        &[(Reason::StatementTime, Measure::Cancelled); 2],
    )
    .await;
    check(
        "does not let itself be cancelled",
        limit,
        async |scene, project| {
            let stubborn = "set statement_timeout = 0; do $$ begin loop begin perform pg_sleep(3600); \
                            exception when query_canceled then null; end; end loop; end $$";
            start(scene.owner(project).await, stubborn);
            vec![]
        },
        &[(Reason::StatementTime, Measure::Cancelled), (Reason::StatementTime, Measure::Ended)],
    )
    .await;
}

#[tokio::test]
async fn transactions_that_stay_open() {
    check(
        "idle",
        |config| config.idle_in_transaction = SHORT,
        async |scene, project| {
            let sql = "set idle_in_transaction_session_timeout = 0; begin; select 1";
            let aborted = scene.owner(project).await;
            assert!(aborted.batch_execute("begin; select 1 / 0").await.is_err());
            let outside = scene.owner(project).await;
            vec![(run(scene.owner(project).await, sql).await, false), (aborted, false), (outside, true)]
        },
        &[(Reason::IdleInTransaction, Measure::Ended); 2],
    )
    .await;
    let limit = |config: &mut WatchdogConfig| config.transaction = Duration::from_millis(300);
    check(
        "long",
        limit,
        async |scene, project| vec![(run(scene.owner(project).await, "begin; select 1").await, false)],
        &[(Reason::TransactionTime, Measure::Ended)],
    )
    .await;
    check(
        // Cancelled, a transaction is over: it holds nothing any more until its client ends it.
        "long, with a statement under way",
        limit,
        async |scene, project| {
            start(scene.owner(project).await, "begin; select pg_sleep(3600)");
            vec![]
        },
        &[(Reason::TransactionTime, Measure::Cancelled)],
    )
    .await;
}

#[tokio::test]
async fn locks() {
    const LOCKS: &str = "select pg_advisory_lock(i) from generate_series(1, 50) i";
    check(
        "of a session",
        |config| config.locks = 40,
        async |scene, project| {
            let few =
                run(scene.owner(project).await, "select pg_advisory_lock_shared(i) from generate_series(101, 130) i");
            vec![(run(scene.owner(project).await, LOCKS).await, false), (few.await, true)]
        },
        &[(Reason::Locks, Measure::Ended)],
    )
    .await;
    check(
        "of a project",
        |config| (config.locks, config.project_locks) = (60, 70),
        async |scene, project| {
            let few = run(scene.owner(project).await, "select pg_advisory_lock(i) from generate_series(101, 130) i");
            vec![(run(scene.owner(project).await, LOCKS).await, false), (few.await, true)]
        },
        &[(Reason::Locks, Measure::Ended)],
    )
    .await;
}

#[tokio::test]
async fn what_takes_room() {
    check(
        "temporary files",
        |config| config.temporary_bytes = 1 << 20,
        async |scene, project| {
            let sql = "set work_mem = '64kB'; begin; \
                       declare c cursor for select i, repeat('x', 50) from generate_series(1, 200000) i order by -i; fetch c";
            vec![(run(scene.owner(project).await, sql).await, false)]
        },
        &[(Reason::TemporaryFiles, Measure::Ended)],
    )
    .await;
    check(
        "sessions",
        |config| config.sessions = 2,
        async |scene, project| {
            let (first, second) = (scene.owner(project).await, scene.owner(project).await);
            vec![(first, true), (second, true), (scene.owner(project).await, false)]
        },
        &[(Reason::Sessions, Measure::Ended)],
    )
    .await;
    check(
        "a database over its quota",
        |config| config.quota_bytes = Some(1),
        async |scene, project| {
            let reads = run(scene.owner(project).await, "begin; select 1").await;
            vec![(run(scene.owner(project).await, "begin; create table t ()").await, false), (reads, true)]
        },
        &[(Reason::OverQuota, Measure::Ended)],
    )
    .await;
}

#[tokio::test]
async fn an_owner_over_quota_may_delete() {
    let scene = Scene::shared().await;
    let project = scene.project().await;
    let owner = scene.owner(&project).await;
    owner.batch_execute("create table t as select generate_series(1, 100000) as i").await.unwrap();
    let config = WatchdogConfig { quota_bytes: Some(1), quota_interval: Duration::ZERO, ..lenient(&project) };
    let mut watchdog = scene.watchdog(config);
    assert_eq!(watchdog.round().await.unwrap(), []);
    owner.batch_execute("begin; delete from t").await.unwrap();
    // Autovacuum may write a page of its own meanwhile, but not each time.
    let mut spared = 0;
    for _ in 0..5 {
        spared += usize::from(watchdog.round().await.unwrap().is_empty());
    }
    assert!(spared >= 4, "{spared}");
}

#[tokio::test]
async fn a_lost_connection_is_made_anew_and_the_loop_ends_when_told() {
    let scene = Scene::shared().await;
    let project = scene.project().await;
    let config =
        WatchdogConfig { interval: Duration::from_millis(10), idle_in_transaction: SHORT, ..lenient(&project) };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(scene.watchdog(config).run(shutdown.clone()));
    for _ in 0..2 {
        let idle = run(scene.owner(&project).await, "begin; select 1").await;
        test_support::eventually("the session is ended", async || idle.is_closed().then_some(())).await;
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
            where application_name = 'launchdb watchdog' and datname = $1";
        let ended: i64 = scene.admin.query_one(sql, &[&scene.config.database.database]).await.unwrap().get(0);
        assert_eq!(ended, 1);
    }
    shutdown.cancel();
    running.await.unwrap();
}
