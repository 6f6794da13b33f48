//! Keys of the installation are replaced through the API while projects are used.

use std::path::PathBuf;
use std::sync::Arc;

use base::sealed::MasterKey;

use super::*;
use crate::rotation::{InstallationKey, KeyFile, KeyFileError};

/// Writes what it is told to a file of its own.
struct Notes(PathBuf);

impl KeyFile for Notes {
    fn begin(&self, key: InstallationKey, fresh: &Secret<String>) -> Result<(), KeyFileError> {
        std::fs::write(self.0.join(key.variable()), fresh.expose()).map_err(KeyFileError::Io)
    }

    fn end(&self, key: InstallationKey) -> Result<(), KeyFileError> {
        std::fs::write(self.0.join(format!("{}.ended", key.variable())), "").map_err(KeyFileError::Io)
    }
}

async fn rotated(server: &Server) {
    until("everything is sealed anew", async || {
        let status = server.ok("GET", "/api/rotations", Value::Null).await;
        status["master_key"] == json!({ "rotating": false, "secrets_left": 0 })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_replaced_while_projects_are_used() {
    let server = Server::start().await;
    let notes = tempfile::tempdir().unwrap();
    let id = server.project().await;
    let at = |rest: &str| format!("/api/projects/{id}{rest}");
    server.ok("POST", &at("/s3-keys"), json!({ "name": "backup" })).await;
    check(&server, &[("POST", "/api/rotations/master-key", json!({}), 422, "unsupported")]).await;
    server.platform.offer_key_file(Arc::new(Notes(notes.path().to_owned())));
    let before = server.ok("GET", &at("/connection"), Value::Null).await;
    let sealed = async || -> Vec<i32> {
        let admin = server.cluster.connect(&server.platform.config().database.database).await;
        const SQL: &str = "select distinct key_version from (select key_version from platform.secrets
            union all select key_version from platform.s3_access_keys) as all_of_them";
        admin.query(SQL, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(sealed().await, [1]);
    let started = server.call("POST", "/api/rotations/master-key", json!({})).await;
    assert_eq!(started.status, 202);
    rotated(&server).await;
    let key = server.platform.config().master_key.clone();
    assert_eq!(sealed().await, [key.version()]);
    assert!(notes.path().join("LAUNCHDB_MASTER_KEY.ended").exists());
    assert_eq!(server.ok("GET", &at("/connection"), Value::Null).await, before);
    server.platform.directory().load().await.unwrap();
    assert_eq!(server.snapshot(&id).unwrap().s3.access_keys.len(), 1);

    // What was written down opens everything after a start.
    let written = std::fs::read_to_string(notes.path().join("LAUNCHDB_MASTER_KEY")).unwrap();
    let again = MasterKey::with_previous(&written, None).unwrap();
    assert_eq!(again.version(), key.version());
    let log = server.ok("GET", "/api/audit", Value::Null).await.to_string();
    assert!(log.contains("master_key.rotate") && log.contains("master_key.resealed"), "{log}");
    assert!(!log.contains(&written));

    // Not for every owner.
    let stranger = server.other_owner().await;
    for (method, path) in [("GET", ""), ("POST", "/master-key"), ("POST", "/internal-key"), ("DELETE", "/internal-key")]
    {
        let answer = server.call_as(&stranger, method, &format!("/api/rotations{path}"), Value::Null).await;
        assert_eq!(answer.code(), "admin_required", "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_cut_off_goes_on() {
    let server = Server::start().await;
    let notes = tempfile::tempdir().unwrap();
    server.platform.offer_key_file(Arc::new(Notes(notes.path().to_owned())));
    let id = server.project().await;
    let at = format!("/api/projects/{id}/connection");
    let before = server.ok("GET", &at, Value::Null).await;
    // As a process that was killed leaves it: the new key is written down, some secrets are sealed with it.
    let key = &server.platform.config().master_key;
    key.begin_rotation(&MasterKey::generate_base64()).unwrap();
    server.ok("POST", &format!("/api/projects/{id}/s3-keys"), json!({ "name": "new" })).await;
    let status = server.ok("GET", "/api/rotations", Value::Null).await;
    assert!(status["master_key"]["rotating"] == true && status["master_key"]["secrets_left"].as_u64() > Some(5));
    check(&server, &[("POST", "/api/rotations/master-key", json!({}), 409, "limit_reached")]).await;
    // A secret that nothing opens keeps the old key, and is named in the log.
    let admin = server.cluster.connect(&server.platform.config().database.database).await;
    let spoil = "insert into platform.secrets (project_id, kind, key_version, sealed) values ('gone', 'x', 1, '\\x00')";
    admin.batch_execute(spoil).await.unwrap();
    let resealed = server.platform.reseal().await.unwrap();
    assert_eq!((resealed.unreadable, resealed.left), (1, 1), "{resealed:?}");
    server.platform.resume_rotation();
    assert_eq!(server.ok("GET", "/api/rotations", Value::Null).await["master_key"]["secrets_left"], 1);
    assert!(key.is_rotating());
    admin.batch_execute("delete from platform.secrets where project_id = 'gone'").await.unwrap();
    server.platform.resume_rotation();
    rotated(&server).await;
    assert_eq!(server.ok("GET", &at, Value::Null).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_internal_key_of_before_is_accepted_until_it_is_ended() {
    let server = Server::start().await;
    let notes = tempfile::tempdir().unwrap();
    server.platform.offer_key_file(Arc::new(Notes(notes.path().to_owned())));
    let id = server.project().await;
    let old = random::hex::<32>();
    let internal = server.platform.internal_router(Secret::new(old.clone()));
    let status = async |key: &str| {
        let request = Request::post("/internal/migrations/run").header("x-internal-key", key);
        let request = request.body(Body::from(json!({ "project_id": id }).to_string())).unwrap();
        internal.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!((status(&old).await, status("another").await), (200, 401));
    let made = server.call("POST", "/api/rotations/internal-key", json!({})).await;
    assert_eq!(made.status, 201);
    let new = made.body["internal_key"].as_str().unwrap().to_owned();
    assert_eq!((status(&old).await, status(&new).await, status("another").await), (200, 200, 401));
    check(&server, &[("POST", "/api/rotations/internal-key", json!({}), 409, "limit_reached")]).await;
    assert_eq!(server.call("DELETE", "/api/rotations/internal-key", Value::Null).await.status, 204);
    assert_eq!((status(&old).await, status(&new).await), (401, 200));
    assert_eq!(std::fs::read_to_string(notes.path().join("INTERNAL_API_KEY")).unwrap(), new);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_passwords_are_replaced_and_sessions_stay() {
    let server = Server::start().await;
    let id = server.project().await;
    let at = |rest: &str| format!("/api/projects/{id}{rest}");
    let before = server.ok("GET", &at("/connection"), Value::Null).await;
    let uri = |connection: &Value| connection["db_uri"].as_str().unwrap().to_owned();
    let session = test_support::connect(&uri(&before)).await;
    let old_password = server.snapshot(&id).unwrap().database.password.expose().clone();
    let rotated = server.ok("POST", &at("/database/rotate-passwords"), json!({})).await;
    assert_ne!(uri(&rotated), uri(&before));
    assert_eq!(rotated, server.ok("GET", &at("/connection"), Value::Null).await);
    test_support::connect(&uri(&rotated)).await.batch_execute("select 1").await.unwrap();
    session.batch_execute("select 1").await.unwrap();
    assert_ne!(server.snapshot(&id).unwrap().database.password.expose(), &old_password, "the services know it at once");
    let (client, _) = match tokio_postgres::connect(&uri(&before), tokio_postgres::NoTls).await {
        Ok(connected) => connected,
        Err(error) => {
            assert_eq!(error.code().map(|code| code.code()), Some("28P01"));
            return;
        }
    };
    drop(client);
    panic!("the old password still works");
}
