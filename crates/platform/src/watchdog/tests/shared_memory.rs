//! What all databases of a cluster share: the notification queue and the table of locks.

use super::*;

/// As many bytes of notifications as no pair of socket buffers holds.
const FLOOD: &str = "select pg_notify('flood', lpad(i::text, 7000, '-')) from generate_series(1, 4000) i";
/// Takes locks until there is no room for more; they outlive the statement that failed.
const FILL: &str = "select pg_advisory_lock(i) from generate_series(1, 10000000) i";
/// 80 KB of 8 GB.
const THRESHOLD: f64 = 0.000_01;

async fn usage(scene: &Scene) -> f64 {
    scene.admin.query_one("select pg_notification_queue_usage()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn whoever_holds_the_notification_queue_back_is_ended() {
    let scene = Scene::own().await;
    let (hostile, neighbour) = (scene.project().await, scene.project().await);
    let config = WatchdogConfig {
        notification_queue: THRESHOLD,
        notification_stall: Duration::from_millis(1500),
        ..WatchdogConfig::default()
    };
    let mut watchdog = scene.watchdog(config);
    let reads = scene.owner(&neighbour).await;
    reads.batch_execute("listen flood").await.unwrap();
    let notifier = scene.owner(&hostile).await;

    // With everybody reading, the queue is empty again at once.
    notifier.batch_execute(FLOOD).await.unwrap();
    test_support::eventually("read", async || (usage(&scene).await < THRESHOLD).then_some(())).await;

    // In a transaction nobody reads.
    let holder = scene.owner(&hostile).await;
    holder.batch_execute("listen something").await.unwrap();
    holder.batch_execute("begin; select 1").await.unwrap();
    notifier.batch_execute(FLOOD).await.unwrap();
    // Without listening, a transaction holds nothing back; but nobody sees that from outside.
    assert!(usage(&scene).await > THRESHOLD);
    freed(&scene, &mut watchdog, &hostile).await;
    assert!(!lives(&holder).await);

    // A client that takes nothing keeps its session from reading on.
    let (client, mut connection) =
        tokio_postgres::connect(&scene.owner_url(&hostile), tokio_postgres::NoTls).await.unwrap();
    tokio::select! {
        listening = client.batch_execute("listen flood") => listening.unwrap(),
        _ = &mut connection => panic!("the connection broke"),
    }
    notifier.batch_execute(FLOOD).await.unwrap();
    assert!(usage(&scene).await > THRESHOLD);
    let stuck = "select 1 from pg_stat_activity where state = 'idle' and wait_event = 'ClientWrite'
        and xact_start < now() - interval '50 milliseconds'";
    test_support::eventually("stuck", async || scene.admin.query_opt(stuck, &[]).await.unwrap().map(drop)).await;
    // What looks like a transaction is the session's own work on its notifications.
    let short = WatchdogConfig { transaction: Duration::from_millis(50), ..WatchdogConfig::default() };
    assert_eq!(scene.watchdog(short).round().await.unwrap(), []);
    freed(&scene, &mut watchdog, &hostile).await;

    assert!(lives(&reads).await && lives(&notifier).await);
    drop((client, connection));
}

/// Looks until the queue is free; one session of `hostile` is ended for it.
async fn freed(scene: &Scene, watchdog: &mut Watchdog, hostile: &ProjectRef) {
    let mut actions = Vec::new();
    test_support::eventually("the queue is free", async || {
        actions.extend(watchdog.round().await.unwrap());
        (usage(scene).await < THRESHOLD).then_some(())
    })
    .await;
    let taken: Vec<_> = actions.iter().map(|a| (a.project.as_str(), a.reason, a.measure)).collect();
    assert_eq!(taken, [(hostile.as_str(), Reason::NotificationQueue, Measure::Ended)]);
}

#[tokio::test]
async fn a_full_lock_table_is_emptied() {
    let scene = Scene::own().await;
    let (hostile, neighbour) = (scene.project().await, scene.project().await);
    let mut watchdog = scene.watchdog(WatchdogConfig::default());
    assert_eq!(watchdog.round().await.unwrap(), []);
    let neighbour = scene.owner(&neighbour).await;
    let session = scene.owner(&hostile).await;
    assert_eq!(code(&session, FILL).await, Some(SqlState::OUT_OF_MEMORY));
    let lock = "select pg_advisory_lock(1)";
    assert_eq!(code(&neighbour, lock).await, Some(SqlState::OUT_OF_MEMORY));
    let actions = watchdog.round().await.unwrap();
    let taken: Vec<_> = actions.iter().map(|a| (a.project.as_str(), a.reason, a.measure)).collect();
    assert_eq!(taken, [(hostile.as_str(), Reason::Locks, Measure::Ended)]);
    test_support::eventually("room", async || code(&neighbour, lock).await.is_none().then_some(())).await;
}

#[tokio::test]
async fn who_fills_the_lock_table_again_and_again_is_locked_out() {
    let scene = Scene::own().await;
    let (hostile, neighbour) = (scene.project().await, scene.project().await);
    let mut watchdog = scene.watchdog(WatchdogConfig::default());
    assert_eq!(watchdog.round().await.unwrap(), []);
    let neighbour = scene.owner(&neighbour).await;
    // Whatever room is made is taken at once.
    let fill = "do $$ begin for i in 1..100000000 loop
        begin perform pg_advisory_lock(pg_backend_pid(), i); exception when others then perform pg_sleep(0.001); end;
        end loop; end $$";
    let url = scene.owner_url(&hostile);
    let fillers: Vec<_> = (0..3)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                loop {
                    if let Ok((client, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
                        let _ = tokio::join!(connection, client.batch_execute(fill));
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    let lock = "select pg_advisory_lock((random() * 1000000000)::int8)";
    let limit = format!("select rolconnlimit from pg_roles where rolname = '{hostile}'");
    let locked_out = async || {
        let limit: Option<i32> = scene.admin.query_one(&limit, &[]).await.ok().map(|row| row.get(0));
        limit == Some(0)
    };
    let mut rounds = 0u32;
    while test_support::eventually("full, or locked out", async || {
        let full = code(&neighbour, lock).await.is_some();
        (full || locked_out().await).then_some(full)
    })
    .await
    {
        // Not even who has to connect anew can be kept out.
        watchdog.client = None;
        let ended = test_support::eventually("some are ended, or their locks were on their way out", async || {
            let actions = watchdog.round().await.unwrap_or_default();
            (!actions.is_empty() || code(&neighbour, lock).await.is_none()).then_some(actions)
        })
        .await;
        rounds += u32::from(!ended.is_empty());
        assert!(rounds < 20, "nobody is locked out");
        assert!(ended.iter().all(|a| a.project == hostile.as_str() && a.reason == Reason::Locks), "{ended:?}");
    }
    // Once is an accident.
    assert!(rounds >= 3, "{rounds}");
    test_support::eventually("room", async || code(&neighbour, lock).await.is_none().then_some(())).await;
    fillers.into_iter().for_each(|filler| filler.abort());
}

#[tokio::test]
async fn locks_of_parallel_workers_are_their_sessions() {
    let scene = Scene::own().await;
    let hostile = scene.project().await;
    let mut watchdog = scene.watchdog(WatchdogConfig::default());
    let session = scene.owner(&hostile).await;
    // PostgreSQL 16 calls it by another name.
    let debug = "select name from pg_settings where name in ('force_parallel_mode', 'debug_parallel_query')";
    let debug: String = scene.admin.query_one(debug, &[]).await.unwrap().get(0);
    let fill = format!(
        "create function fill() returns int language plpgsql parallel safe as $$ begin
           perform pg_advisory_xact_lock_shared(i) from generate_series(1, 2500) i; perform pg_sleep(60); return 1; end $$;
         set {debug} = on"
    );
    session.batch_execute(&fill).await.unwrap();
    let pid: i32 = session.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let filling = tokio::spawn(async move { session.query("select fill()", &[]).await.map(drop) });
    let many = "select 1 from pg_locks l join pg_stat_activity a using (pid)
        where a.backend_type = 'parallel worker' having count(*) > 2000";
    test_support::eventually("locks", async || scene.admin.query_opt(many, &[]).await.unwrap().map(drop)).await;
    let actions = watchdog.round().await.unwrap();
    let taken: Vec<_> = actions.iter().map(|a| (a.pid, a.reason, a.measure)).collect();
    assert_eq!(taken, [(pid, Reason::Locks, Measure::Ended)]);
    assert!(filling.await.unwrap().is_err());
}

#[tokio::test]
async fn who_changes_much_at_once_does_not_blind_the_watchdog() {
    let scene = Scene::own().await;
    let (hostile, neighbour) = (scene.project().await, scene.project().await);
    let mut watchdog = scene.watchdog(WatchdogConfig::default());
    assert_eq!(watchdog.round().await.unwrap(), []);
    let neighbour = scene.owner(&neighbour).await;
    let session = scene.owner(&hostile).await;
    // Every session forgets what it has cached, and finds no lock that takes no room (PostgreSQL's "fast path").
    let storm = "create table s (i int);
        do $$ begin for i in 1..800 loop execute format('create table t%s (i int)', i); end loop; end $$;
        do $$ begin for i in 1..3000 loop execute format('alter table s alter i set statistics %s', i % 100); end loop; end $$";
    session.batch_execute(storm).await.unwrap();
    let holder = scene.owner(&hostile).await;
    let hold =
        "begin; do $$ begin for i in 1..800 loop execute format('lock table t%s in share mode', i); end loop; end $$";
    holder.batch_execute(hold).await.unwrap();
    // Its row has to be looked for in another table, too; PostgreSQL 18 refuses so long a password.
    let version: String = scene.admin.query_one("show server_version_num", &[]).await.unwrap().get(0);
    if version.parse::<u32>().unwrap() < 180_000 {
        let long = "do $$ declare salt text := (select string_agg(md5(i::text), '') from generate_series(1, 250) i);
            key text := encode(sha256('k'), 'base64'); begin
            execute format('alter role %I password %L', session_user, 'SCRAM-SHA-256$4096:' || salt || '$' || key || ':' || key);
            end $$";
        session.batch_execute(long).await.unwrap();
        let spread = "select pg_column_size(rolpassword) > 4000 from pg_authid where rolname = $1";
        assert!(scene.admin.query_one(spread, &[&hostile.as_str()]).await.unwrap().get::<_, bool>(0));
    }
    assert_eq!(code(&session, FILL).await, Some(SqlState::OUT_OF_MEMORY));
    watchdog.client = None;
    let ended = watchdog.round().await.unwrap();
    assert!(ended.iter().any(|a| a.project == hostile.as_str() && a.reason == Reason::Locks), "{ended:?}");
    let lock = "select pg_advisory_lock(1)";
    test_support::eventually("room", async || code(&neighbour, lock).await.is_none().then_some(())).await;
}

#[tokio::test]
async fn a_lock_table_that_was_full_before_is_emptied_without_sql() {
    let scene = Scene::own().await;
    let (hostile, neighbour) = (scene.project().await, scene.project().await);
    let config = WatchdogConfig { backends: Some(scene.backends()), ..WatchdogConfig::default() };
    let mut watchdog = scene.watchdog(config);
    let (owner, services) = (scene.owner(&hostile).await, scene.authenticator(&neighbour).await);
    assert_eq!(code(&owner, FILL).await, Some(SqlState::OUT_OF_MEMORY));
    assert!(watchdog.round().await.is_err());
    test_support::eventually("room", async || watchdog.round().await.ok()).await;
    assert!(!lives(&owner).await && lives(&services).await);

    // The services' sessions go when that was not enough.
    let (full, mut watchdog) = (scene.authenticator(&hostile).await, scene.watchdog(watchdog.config.clone()));
    assert_eq!(code(&full, FILL).await, Some(SqlState::OUT_OF_MEMORY));
    test_support::eventually("room", async || watchdog.round().await.ok()).await;
    assert!(!lives(&full).await && !lives(&services).await);
}
