//! An owner's own backups, at the wire.

use serde_json::{Value, json};

use super::*;
use crate::tests::Server;

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_makes_a_backup_and_sees_own_ones_only() {
    let (server, store) = (Server::start().await, Store::new());
    let provisioner = server.platform.provisioner().clone();
    server.platform.offer_backups(Backups::new(store.config(), provisioner, CancellationToken::new()));
    let (path, other) = (
        format!("/api/projects/{}/backups", server.project().await),
        format!("/api/projects/{}/backups", server.project().await),
    );
    assert_eq!(server.ok("GET", &path, Value::Null).await, json!({ "backups": [] }));
    let begun = server.call("POST", &path, Value::Null).await;
    assert_eq!((begun.status.as_u16(), &begun.body), (202, &json!({ "status": "started" })));
    // One at a time.
    assert_eq!(server.call("POST", &other, Value::Null).await.code(), "project_busy");
    let listed = test_support::eventually("the backup", async || {
        let listed = server.ok("GET", &path, Value::Null).await["backups"].take();
        listed.as_array().is_some_and(|files| !files.is_empty()).then_some(listed)
    })
    .await;
    let file = listed[0]["file"].as_str().unwrap();
    assert!(BackupName::parse(file).is_some_and(|name| path.contains(&name.database)), "{listed}");
    assert!(listed[0]["bytes"].as_u64().unwrap() > 1000 && listed[0]["verified_at"].is_null(), "{listed}");
    assert_eq!(server.ok("GET", &other, Value::Null).await, json!({ "backups": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_told_that_the_disk_has_no_room_for_a_backup() {
    let (server, store) = (Server::start().await, Store::new());
    let provisioner = server.platform.provisioner().clone();
    // So near to all that the eighth for the backups of the clock decides.
    let stat = rustix::fs::statvfs(store.dir.path()).unwrap();
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let config = BackupConfig {
        least_free_bytes: free.saturating_sub(stat.f_blocks.saturating_mul(stat.f_frsize) / 16),
        spared_bytes: u64::MAX,
        ..store.config()
    };
    let backups = Backups::new(config, provisioner, CancellationToken::new());
    server.platform.offer_backups(backups.clone());
    let id = ProjectRef::parse(&server.project().await).unwrap();
    let path = format!("/api/projects/{id}/backups");
    let refused = server.call("POST", &path, Value::Null).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "disk_nearly_full"));
    assert_eq!(server.ok("GET", &path, Value::Null).await, json!({ "backups": [] }));
    // The clock's have that eighth.
    assert!(backed_up(&backups, &id).await.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owners_backups_take_the_place_of_each_other_and_have_a_number_a_day() {
    let (server, store) = (Server::start().await, Store::new());
    let provisioner = server.platform.provisioner().clone();
    let backups = Backups::new(store.config(), provisioner, CancellationToken::new());
    server.platform.offer_backups(backups.clone());
    let id = ProjectRef::parse(&server.project().await).unwrap();
    let path = format!("/api/projects/{id}/backups");
    let by_the_clock = backed_up(&backups, &id).await;
    let mut made: Vec<PathBuf> = Vec::new();
    for _ in 0..6 {
        tokio::time::sleep(std::time::Duration::from_millis(1001)).await;
        test_support::eventually("a turn", async || {
            let answer = server.call("POST", &path, Value::Null).await;
            (answer.status == 202).then_some(())
        })
        .await;
        let newest = test_support::eventually("the only one that was asked for", async || {
            let files = backups.folder().list().unwrap();
            let asked: Vec<_> = files.into_iter().map(|file| file.path).filter(|path| *path != by_the_clock).collect();
            (asked.len() == 1 && made.last() != asked.last()).then(|| asked[0].clone())
        })
        .await;
        made.push(newest);
    }
    let answer = test_support::eventually("the end of the day's", async || {
        let answer = server.call("POST", &path, Value::Null).await;
        (answer.status != 409).then_some(answer)
    })
    .await;
    assert_eq!((answer.status.as_u16(), answer.code()), (429, "rate_limited"));
    assert!(by_the_clock.exists());
}
