//! Writes while the disk is nearly full, from every side.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::ProjectTable;

use super::*;
use crate::Directory;
use crate::provision::ConnectionLimits;

const TOTAL: u64 = 10 << 30;

/// A guard of a disk that has as much free as the figure says.
fn guard(scene: &Scene, folder: &ScratchDir, ballast_bytes: u64) -> (DiskGuard, Arc<AtomicU64>) {
    let free = Arc::new(AtomicU64::new(TOTAL));
    let figures = free.clone();
    let source: SpaceSource = Arc::new(move || Ok(DiskSpace { free: figures.load(Ordering::Relaxed), total: TOTAL }));
    let config = DiskConfig { ballast_bytes, ..DiskConfig::new(folder.path().to_owned()) };
    (DiskGuard::with_source(config, scene.provisioner.write_gate().clone(), source), free)
}

#[tokio::test]
async fn a_nearly_full_disk_stops_writers_and_nobody_else() {
    let scene = Scene::own().await;
    let (project, hostile) = (scene.project().await, scene.project().await);
    let folder = ScratchDir::new();
    let (guard, free) = guard(&scene, &folder, 0);
    let watchdog = || Watchdog::with_disk(scene.provisioner.clone(), WatchdogConfig::default(), Some(guard.clone()));
    let mut watching = watchdog();
    let set_free = |bytes| {
        free.store(bytes, Ordering::Relaxed);
        guard.look();
    };
    // As the pool of the control plane: older than the watchdog.
    let DatabaseTarget { user, password, database, .. } = &scene.config.database;
    let platform_url = url(&scene.config, user, password.expose(), database);
    let platform = connect(&platform_url).await;

    let owner = scene.owner(&project).await;
    owner.batch_execute("create table t (i int); grant all on t to public").await.unwrap();
    let services = scene.authenticator(&project).await;
    let writer = scene.owner(&project).await;
    writer.batch_execute("begin; insert into t values (1)").await.unwrap();
    assert_eq!(watching.round().await.unwrap(), []);

    set_free(1 << 20);
    let actions = watching.round().await.unwrap();
    let taken: Vec<_> = actions.iter().map(|a| (a.role.as_str(), a.reason, a.measure)).collect();
    assert_eq!(taken, [(project.as_str(), Reason::WritesRefused, Measure::Ended)]);
    assert!(!lives(&writer).await);
    // Sessions that are there read the new setting between two statements.
    let read_only = Some(SqlState::READ_ONLY_SQL_TRANSACTION);
    let write = "insert into t values (2)";
    test_support::eventually("read-only", async || (code(&owner, write).await == read_only).then_some(())).await;
    test_support::eventually("read-only", async || (code(&services, write).await == read_only).then_some(())).await;
    for client in [&owner, &services] {
        assert_eq!(code(client, "table t").await, None);
    }
    // A process without a watchdog says the same, instead of PostgreSQL's words.
    let elsewhere =
        Directory::new(&scene.config, database::pool(&scene.config).unwrap(), Arc::new(ProjectTable::new()));
    let gate = base::WriteGate::new();
    assert_eq!(elsewhere.follow_writes(&gate).await, Some(guard.health()));
    assert!(!gate.is_open());
    // Removing projects is what frees the disk.
    let platform = if lives(&platform).await { platform } else { connect(&platform_url).await };
    assert_eq!(code(&platform, "create temp table t (); drop table t").await, None);
    let DatabaseTarget { user, password, database, .. } = &scene.config.admin;
    let superuser = connect(&url(&scene.config, user, password.expose(), database)).await;
    assert_eq!(code(&superuser, "create table t (); drop table t").await, None);

    // Whoever insists is ended, and then kept out.
    superuser.batch_execute(&format!("alter role {hostile} set default_transaction_read_only = off")).await.unwrap();
    for _ in 0..3 {
        let insists = scene.owner(&hostile).await;
        insists.batch_execute("begin; create table t ()").await.unwrap();
        assert_eq!(watching.round().await.unwrap().len(), 1);
        assert!(!lives(&insists).await);
    }
    let refused = async || tokio_postgres::connect(&scene.owner_url(&hostile), tokio_postgres::NoTls).await.err();
    assert_eq!(refused().await.unwrap().code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
    assert!(lives(&scene.owner(&project).await).await);
    assert_eq!(watching.round().await.unwrap(), []);

    // The process ends while the disk is full; the next one finds it with room.
    drop(watching);
    set_free(TOTAL);
    watchdog().round().await.unwrap();
    test_support::eventually("writable", async || code(&owner, write).await.is_none().then_some(())).await;
    assert!(refused().await.is_none());
    assert_eq!(elsewhere.follow_writes(&gate).await, Some(guard.health()));
    assert!(gate.is_open());
    let sql = "select rolconnlimit from pg_roles where rolname = $1";
    let limit: i32 = scene.admin.query_one(sql, &[&hostile.as_str()]).await.unwrap().get(0);
    assert_eq!(limit, ConnectionLimits::default().owner);
}

#[tokio::test]
async fn a_disk_that_is_full_does_not_blind_the_watchdog() {
    let scene = Scene::own().await;
    let project = scene.project().await;
    let folder = ScratchDir::new();
    let (guard, free) = guard(&scene, &folder, 4096);
    guard.look();
    let ballast = folder.path().join("ballast");
    assert!(ballast.exists());
    let mut watchdog = Watchdog::with_disk(scene.provisioner.clone(), WatchdogConfig::default(), Some(guard.clone()));
    assert_eq!(watchdog.round().await.unwrap(), []);
    let writer = async || {
        let writer = scene.owner(&project).await;
        writer.batch_execute("begin; create table t ()").await.unwrap();
        writer
    };
    let elsewhere =
        Directory::new(&scene.config, database::pool(&scene.config).unwrap(), Arc::new(ProjectTable::new()));
    let gate = base::WriteGate::new();
    let setting = async || {
        let sql = "select setting from pg_file_settings where name = 'default_transaction_read_only'";
        scene.admin.query_opt(sql, &[]).await.unwrap().map(|row| row.get::<_, String>(0))
    };

    // PostgreSQL cannot write the file in which ALTER SYSTEM puts the setting.
    let data = scene.own.as_ref().unwrap().1.postgres_dir().join("data");
    let new_file = data.join("postgresql.auto.conf.tmp");
    std::fs::create_dir(&new_file).unwrap();
    free.store(100 << 20, Ordering::Relaxed);
    assert_eq!(guard.look(), DiskState::Low);
    for _ in 0..2 {
        let writer = writer().await;
        let actions = watchdog.round().await.unwrap();
        let taken: Vec<_> = actions.iter().map(|a| (a.role.as_str(), a.reason, a.measure)).collect();
        assert_eq!(taken, [(project.as_str(), Reason::WritesRefused, Measure::Ended)]);
        assert!(!lives(&writer).await);
    }
    elsewhere.follow_writes(&gate).await;
    assert!(!gate.is_open(), "other processes know");
    assert_eq!(setting().await, None);
    assert!(ballast.exists());

    // With the message of a full disk, once: the ballast is room for the second try.
    std::fs::remove_dir(&new_file).unwrap();
    std::os::unix::fs::symlink("/dev/full", &new_file).unwrap();
    let writer = writer().await;
    assert_eq!(watchdog.round().await.unwrap().len(), 1);
    assert!(!lives(&writer).await);
    assert_eq!(setting().await.as_deref(), Some("on"));
    assert_eq!((ballast.exists(), guard.state()), (false, DiskState::Critical));

    free.store(TOTAL, Ordering::Relaxed);
    guard.look();
    watchdog.round().await.unwrap();
    assert_eq!(setting().await, None);
    elsewhere.follow_writes(&gate).await;
    assert!(gate.is_open(), "the mark was taken once");
    assert!(ballast.exists());
}
