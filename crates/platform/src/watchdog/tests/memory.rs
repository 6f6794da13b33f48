//! Memory without end, of one session and of many.

use super::*;

const MIB: u64 = 1024 * 1024;

/// Each ends with the SQLSTATE beside it, long before the machine notices.
const GREEDY: &[(&str, &str)] = &[
    ("select length(repeat('x', 500000000))", "53200"),
    ("do $$ declare t text := 'x'; begin loop t := t || t; end loop; end $$", "53200"),
    ("do $$ declare a int[] := array[1]; begin loop a := a || a; end loop; end $$", "53200"),
    (
        "do $$ declare t text := 'x'; begin loop begin t := t || t; exception when undefined_table then null; end; end loop; \
      end $$",
        "53200",
    ),
    ("select length(string_agg(repeat('x', 1000), '')) from generate_series(1, 1000000)", "53200"),
    ("select jsonb_agg(repeat('x', 1000)) from generate_series(1, 1000000)", "53200"),
    (
        "set work_mem = '2GB'; set hash_mem_multiplier = 1000; \
      select count(*) from (select i from generate_series(1, 20000000) i group by i offset 0) g",
        "53200",
    ),
    ("set work_mem = '2GB'; select i from generate_series(1, 20000000) i order by -i offset 19999999", "53200"),
    (
        "set temp_buffers = '2GB'; \
      create temp table t as select i::char(1000) from generate_series(1, 1000000) i",
        "53200",
    ),
    (
        "do $$ begin for i in 1 .. 1000000 loop execute format('prepare p%s as select %s', i, i); end loop; end $$",
        "53200",
    ),
    (
        "create function pg_temp.f() returns int language plpgsql as 'begin return pg_temp.f(); end'; \
      select pg_temp.f()",
        "54001",
    ),
];

async fn server_start(scene: &Scene) -> std::time::SystemTime {
    scene.admin.query_one("select pg_postmaster_start_time()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_statement_that_eats_memory_fails_alone() {
    let scene = Scene::own_with(|config| config.backend_memory = Some(96 * MIB), "").await;
    let (hostile, neighbour) = (scene.project().await, scene.project().await);
    let started = server_start(&scene).await;
    let neighbour = scene.owner(&neighbour).await;
    neighbour.batch_execute("begin; create table t (i int)").await.unwrap();
    for (sql, expected) in GREEDY {
        for session in [scene.owner(&hostile).await, scene.authenticator(&hostile).await] {
            assert_eq!(code(&session, sql).await, Some(SqlState::from_code(expected)), "{sql}");
            assert!(lives(&session).await, "{sql}");
        }
    }
    // A crash of any backend would have ended it.
    neighbour.batch_execute("insert into t values (1); commit").await.unwrap();
    assert_eq!(server_start(&scene).await, started);
}

/// A session that takes so many MiB and keeps them.
async fn hold(client: Client, mib: u64) {
    let sql = format!(
        "do $$ declare n int := {}; t text; begin t := repeat('x', n); perform pg_sleep(3600); end $$",
        mib * MIB
    );
    tokio::spawn(async move {
        let _ = client.batch_execute(&sql).await;
        std::future::pending::<()>().await;
        drop(client);
    });
}

/// Pids of the sessions of a project's owner, the first one first.
async fn pids(scene: &Scene, project: &ProjectRef) -> Vec<u32> {
    let sql = "select pid from pg_stat_activity where usename::text = $1 order by backend_start";
    let rows = scene.admin.query(sql, &[&project.as_str()]).await.unwrap();
    rows.iter().map(|row| u32::try_from(row.get::<_, i32>(0)).unwrap()).collect()
}

async fn bytes(scene: &Scene, project: &ProjectRef) -> u64 {
    let sizes = scene.backends().memory_sizes();
    pids(scene, project).await.iter().filter_map(|pid| sizes.get(pid)).sum()
}

#[tokio::test]
async fn sessions_that_eat_memory_together_lose_the_largest() {
    let scene = Scene::own_with(|config| config.backend_memory = Some(192 * MIB), "").await;
    let (hostile, neighbour) = (scene.project().await, scene.project().await);
    let mut memory = MemoryConfig::new(scene.backends(), 160 * MIB);
    memory.interval = Duration::from_millis(20);
    let config = WatchdogConfig { memory: Some(memory), ..WatchdogConfig::default() };
    let started = server_start(&scene).await;
    for mib in [50, 60, 40] {
        hold(scene.owner(&hostile).await, mib).await;
    }
    hold(scene.owner(&neighbour).await, 60).await;
    test_support::eventually("held", async || (bytes(&scene, &hostile).await > 155 * MIB).then_some(())).await;
    let sessions = pids(&scene, &hostile).await;
    // While it is made, the text is there twice.
    let asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    test_support::eventually("asleep", async || {
        let sleeping: i64 = scene.admin.query_one(asleep, &[]).await.unwrap().get(0);
        (sleeping == 4).then_some(())
    })
    .await;
    // A little more: the others are within the limit without the largest.
    hold(scene.authenticator(&hostile).await, 10).await;
    let mut watchdog = scene.watchdog(config.clone());
    let mut actions = Vec::new();
    test_support::eventually("ended", async || {
        actions.extend(watchdog.round().await.unwrap());
        (pids(&scene, &hostile).await.len() == 2).then_some(())
    })
    .await;
    let taken: Vec<_> =
        actions.iter().map(|action| (action.pid.unsigned_abs(), action.reason, action.measure)).collect();
    assert_eq!(taken, [(sessions[1], Reason::Memory, Measure::Ended)]);
    assert_eq!(watchdog.round().await.unwrap(), []);

    // Many at once are met before the next look at the sessions, which is far away here.
    let config = WatchdogConfig { interval: Duration::from_secs(3600), ..config };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(scene.watchdog(config).run(shutdown.clone()));
    for _ in 0..6 {
        hold(scene.owner(&hostile).await, 60).await;
    }
    test_support::eventually("bounded", async || {
        let few = pids(&scene, &hostile).await.len() < 6;
        (few && bytes(&scene, &hostile).await < 160 * MIB).then_some(())
    })
    .await;
    assert_eq!(pids(&scene, &neighbour).await.len(), 1);
    assert_eq!(server_start(&scene).await, started);
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn the_largest_session_of_the_greediest_project_goes_first() {
    let scene = Scene::own().await;
    let check = |sizes: &[(&str, u64)], ended: &[usize]| {
        let mut config = MemoryConfig::new(scene.backends(), 100);
        config.total_bytes = 150;
        let session = |(number, (project, bytes)): (usize, &(&str, u64))| {
            let offence = Offence {
                pid: i32::try_from(number).unwrap(),
                backend_start: 0,
                role: (*project).to_owned(),
                project: (*project).to_owned(),
                reason: Reason::Memory,
                since: None,
                cancel: false,
            };
            (offence, *bytes)
        };
        let offences = config.offences(sizes.iter().enumerate().map(session).collect());
        let pids: Vec<usize> = offences.iter().map(|offence| usize::try_from(offence.pid).unwrap()).collect();
        assert_eq!(pids, ended, "{sizes:?}");
    };
    check(&[], &[]);
    check(&[("a", 60), ("a", 40), ("b", 50)], &[]);
    check(&[("a", 60), ("a", 41)], &[0]);
    check(&[("a", 90), ("b", 61)], &[0]);
    check(&[("a", 50), ("a", 40), ("b", 61)], &[0]);
    check(&[("a", 300), ("a", 200), ("b", 100), ("b", 60)], &[0, 1, 2]);
}
