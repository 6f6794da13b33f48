//! Writes while the disk is nearly full, from every side.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::ProjectTable;

use super::*;
use crate::Directory;
use crate::provision::ConnectionLimits;

const TOTAL: u64 = 10 << 30;

#[tokio::test]
async fn a_nearly_full_disk_stops_writers_and_nobody_else() {
    let scene = Scene::own().await;
    let (project, hostile) = (scene.project().await, scene.project().await);
    let free = Arc::new(AtomicU64::new(TOTAL));
    let figures = free.clone();
    let source: SpaceSource = Arc::new(move || Ok(DiskSpace { free: figures.load(Ordering::Relaxed), total: TOTAL }));
    let folder = ScratchDir::new();
    let config = DiskConfig { ballast_bytes: 0, ..DiskConfig::new(folder.path().to_owned()) };
    let guard = DiskGuard::with_source(config, scene.provisioner.write_gate().clone(), source);
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
