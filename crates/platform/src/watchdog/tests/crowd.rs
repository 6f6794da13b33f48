//! Owners who take every connection there is.

use std::sync::Arc;

use base::OwnerId;
use tokio::task::JoinSet;

use super::*;
use crate::provision::{ConnectionLimits, NewProject};

/// Fifty without the superuser's reserve: fifteen for the services, ten for the control plane, five for logins.
const CONNECTIONS: &str = "max_connections = 60\n";
const OWNERS_SHARE: i64 = 20;

/// Loops of each hostile owner.
const LOOPS: usize = 3;

/// Takes one connection after the other, and tries again and again to have more.
async fn insist(url: Arc<str>, stop: CancellationToken) {
    let attempts = async {
        let mut held = JoinSet::new();
        loop {
            match tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    // Until it is ended.
                    held.spawn(async move {
                        let _ = connection.await;
                        drop(client);
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(60), stop.run_until_cancelled(attempts)).await;
}

async fn limits(scene: &Scene, hostile: &[ProjectRef]) -> Vec<i32> {
    let names: Vec<&str> = hostile.iter().map(ProjectRef::as_str).collect();
    let sql = "select rolconnlimit from pg_roles where rolname::text = any ($1::text[])";
    scene.admin.query(sql, &[&names]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_who_take_every_connection_leave_room_for_the_others() {
    let scene = Scene::own_with(|_| {}, CONNECTIONS).await;
    scene.provisioner.prepare().await.unwrap();
    let platform = connect(&url(
        &scene.config,
        &scene.config.admin.user,
        scene.config.admin.password.expose(),
        &scene.config.database.database,
    ))
    .await;
    let sql = "insert into platform.owners (email, password_hash) values ('a@example.org', '') returning id::text";
    let owner = OwnerId(platform.query_one(sql, &[]).await.unwrap().get(0));
    let neighbour = scene.project().await;
    let services_url: Arc<str> =
        url(&scene.config, &neighbour.authenticator_role(), PASSWORD, neighbour.database()).into();
    let services = async || {
        let (client, connection) = tokio_postgres::connect(&services_url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute("select 1").await
    };
    let mut hostile = Vec::new();
    for _ in 0..4 {
        hostile.push(scene.project().await);
    }
    let (stop, mut crowd) = (CancellationToken::new(), JoinSet::new());
    for project in &hostile {
        let url: Arc<str> = scene.owner_url(project).into();
        for _ in 0..LOOPS {
            crowd.spawn(insist(url.clone(), stop.clone()));
        }
    }
    // Without a watchdog nobody gets in.
    test_support::eventually("full", async || {
        let error = services().await.err()?;
        (error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)).then_some(())
    })
    .await;

    let config = WatchdogConfig {
        service_sessions: 15,
        interval: Duration::from_millis(50),
        crowd_hold: Duration::from_secs(3600),
        ..WatchdogConfig::default()
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(scene.watchdog(config.clone()).run(shutdown.clone()));
    test_support::eventually("limits are lower", async || {
        let lowered: i32 = limits(&scene, &hostile).await.iter().sum();
        (i64::from(lowered) <= OWNERS_SHARE).then_some(())
    })
    .await;
    test_support::eventually("room", async || services().await.ok()).await;
    // Whoever is refused has a place for the moment that takes, so one of the services may have to ask again.
    for _ in 0..30 {
        let second = std::time::Duration::from_secs(1);
        test_support::eventually_within(second, "a connection", async || services().await.ok()).await;
    }
    let new = NewProject { owner_id: owner, name: "new".to_owned(), id: None };
    scene.provisioner.create(new).await.unwrap();
    // An owner with few sessions keeps them, and gets one of those who have many.
    let good = scene.owner(&neighbour).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(lives(&good).await);
    assert!(limits(&scene, &hostile).await.iter().all(|limit| *limit > 0), "nobody is locked out");
    stop.cancel();
    while crowd.join_next().await.is_some() {}
    shutdown.cancel();
    running.await.unwrap();

    // The next watchdog knows of no crowd.
    let mut watchdog = scene.watchdog(config);
    watchdog.round().await.unwrap();
    let usual = ConnectionLimits::default().owner;
    assert_eq!(limits(&scene, &hostile).await, [usual; 4]);
}

#[test]
fn owners_get_what_the_others_leave() {
    let check = |slots, services, share| assert_eq!(owner_share(slots, services), share, "{slots}, {services}");
    check(190, 60, 101);
    check(97, 60, 18);
    check(50, 15, 20);
    // Misconfigured: something is left to everybody.
    check(97, 90, 12);
    check(3, 60, 1);
}

#[tokio::test]
async fn idle_sessions_of_the_largest_crowd_go_first() {
    let scene = Scene::own_with(|_| {}, CONNECTIONS).await;
    let (many, few) = (scene.project().await, scene.project().await);
    let config = WatchdogConfig { service_sessions: 29, crowd_hold: Duration::ZERO, ..WatchdogConfig::default() };
    // Six for owners.
    let idle = [scene.owner(&many).await, scene.owner(&many).await];
    let (in_transaction, works) = (scene.owner(&many).await, scene.owner(&many).await);
    in_transaction.batch_execute("begin").await.unwrap();
    let pid: i32 = works.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    tokio::spawn(async move { works.batch_execute("select pg_sleep(3600)").await });
    test_support::eventually("works", async || {
        let sql = "select 1 from pg_stat_activity where pid = $1 and state = 'active'";
        scene.admin.query_opt(sql, &[&pid]).await.unwrap().map(drop)
    })
    .await;
    let others = [scene.owner(&few).await, scene.owner(&few).await];
    let mut watchdog = scene.watchdog(config);
    assert_eq!(watchdog.round().await.unwrap(), []);
    let third = scene.owner(&few).await;
    let actions = watchdog.round().await.unwrap();
    let taken: Vec<_> = actions.iter().map(|action| (action.project.as_str(), action.reason)).collect();
    assert_eq!(taken, [(many.as_str(), Reason::Crowd)]);
    test_support::eventually("ended", async || (!lives(&idle[1]).await).then_some(())).await;
    for session in others.iter().chain([&third, &idle[0], &in_transaction]) {
        assert!(lives(session).await);
    }
    assert_eq!(limits(&scene, std::slice::from_ref(&many)).await, [3]);
    // The time is over at once here.
    assert_eq!(watchdog.round().await.unwrap(), []);
    assert_eq!(limits(&scene, &[many]).await, [ConnectionLimits::default().owner]);
}
