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
