//! What comes back is what was there.

use base::sealed::{SealContext, Sealed};

use super::*;
use crate::secrets::{kind, open, s3_kind};

const APPLICATION: &str = include_str!("application.sql");

async fn application(world: &World) -> ProjectRef {
    let id = world.project().await;
    let owner = world.owner_session(&id).await;
    owner.batch_execute(APPLICATION).await.unwrap();
    // One table of the login role itself.
    owner
        .batch_execute("set role none; create table public.of_login (a int); insert into public.of_login values (7)")
        .await
        .unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_comes_back_as_it_was() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let id = application(&world).await;
    let before = shape(&world.cluster, id.database());
    let file = backed_up(&backups, &id).await;
    let anon_key = world.secret(&id, kind::ANON_KEY).await;

    let owner = world.owner_session(&id).await;
    owner
        .batch_execute("drop table public.tasks cascade; delete from auth.users; create table added (a int)")
        .await
        .unwrap();
    let settings = "insert into platform.project_settings values ($1, 'data_api', '{\"max_rows\": 5}')";
    world.admin.execute(settings, &[&id.as_str()]).await.unwrap();
    let rotated = "delete from platform.secrets where project_id = $1 and kind = 'anon_key'";
    world.admin.execute(rotated, &[&id.as_str()]).await.unwrap();

    let restored = restore(&backups, &file, &onto(&id)).await.unwrap();
    assert_eq!((restored.project.clone(), restored.rows > 500), (id.clone(), true), "{restored:?}");
    assert_eq!(shape(&world.cluster, id.database()), before);
    assert_eq!(world.secret(&id, kind::ANON_KEY).await, anon_key);
    let left: i64 = world
        .admin
        .query_one("select count(*) from platform.project_settings where project_id = $1", &[&id.as_str()])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0, "settings are those of the backup");
    test_support::eventually("the old session's end", async || owner.is_closed().then_some(())).await;
    world.assert_usable(&id).await;
    assert_eq!(others(&world, &id).await, [""; 0]);

    // What the restored project does, it does as before.
    let owner = world.owner_session(&id).await;
    let add = "insert into auth.users (id, email) values ('6f1b2ab8-2f4e-4c53-9e0c-000000000002', 'b@example.org')";
    owner.batch_execute(add).await.unwrap();
    let welcome = "select count(*) from tasks where owner = '6f1b2ab8-2f4e-4c53-9e0c-000000000002'";
    assert_eq!(owner.query_one(welcome, &[]).await.unwrap().get::<_, i64>(0), 1);
    let twice = backed_up(&backups, &id).await;
    backups.verify(&twice, &Progress::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_machine_needs_only_file_and_key() {
    let (first, store) = (World::start().await, Store::new());
    let id = application(&first).await;
    s3_key_put(&first, &id).await;
    let file = backed_up(&store.of(&first), &id).await;
    let before = shape(&first.cluster, id.database());
    let keys = "select string_agg(name || encode(hash, 'hex'), ',' order by name) from platform.api_keys where project_id = $1";
    let key_rows: String = first.admin.query_one(keys, &[&id.as_str()]).await.unwrap().get(0);
    let kinds = [kind::JWT_SECRET, kind::DB_PASSWORD, kind::AUTHENTICATOR_PASSWORD, kind::ANON_KEY, kind::SECRET_KEY];
    let mut secrets = Vec::new();
    for kind in kinds {
        secrets.push(first.secret(&id, kind).await);
    }
    first.provisioner.delete(&id).await.unwrap();
    first.provisioner.purge(&id).await.unwrap();
    first.assert_gone(&id).await;

    // Another installation: other master key, other owners.
    let second = World::start().await;
    second.admin.batch_execute("update platform.owners set is_admin = true").await.unwrap();
    let backups = store.of(&second);
    restore(&backups, &file, &onto(&id)).await.unwrap();
    second.assert_usable(&id).await;
    assert_eq!(shape(&second.cluster, id.database()), before);
    for (kind, secret) in kinds.into_iter().zip(&secrets) {
        assert_eq!(second.secret(&id, kind).await, *secret, "{kind}");
    }
    assert_eq!(second.admin.query_one(keys, &[&id.as_str()]).await.unwrap().get::<_, String>(0), key_rows);
    assert_eq!(s3_keys(&second, &id).await, [("backup".to_owned(), "0a1b".to_owned(), "the secret".to_owned())]);
    // And it is a project like others.
    assert_eq!(second.provisioner.reconcile().await.unwrap().missing_databases, []);
    second.provisioner.suspend(&id).await.unwrap();
    second.provisioner.resume(&id).await.unwrap();
    second.assert_usable(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_keys_of_its_own() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let id = application(&world).await;
    s3_key_put(&world, &id).await;
    let signing = crate::store::secret::secret_put_in_tx;
    let sealed = world.config.master_key.seal(SealContext { owner: id.as_str(), kind: kind::SIGNING_KEYS }, b"[]");
    signing(&world.admin, id.as_str(), kind::SIGNING_KEYS, &sealed).await.unwrap();
    let file = backed_up(&backups, &id).await;
    let copy = ProjectRef::generate();
    let target = RestoreTarget { into: Some(copy.clone()), ..onto(&id) };
    assert_eq!(restore(&backups, &file, &target).await.unwrap().project, copy);
    for id in [&id, &copy] {
        world.assert_usable(id).await;
        let count: i64 =
            world.owner_session(id).await.query_one("select count(*) from tasks", &[]).await.unwrap().get(0);
        assert_eq!(count, 501);
    }
    for kind in [kind::JWT_SECRET, kind::ANON_KEY, kind::DB_PASSWORD] {
        assert_ne!(world.secret(&id, kind).await, world.secret(&copy, kind).await, "{kind}");
    }
    assert_eq!((s3_keys(&world, &id).await.len(), s3_keys(&world, &copy).await), (1, Vec::new()));
    let signs = "select project_id from platform.secrets where kind = 'signing_keys'";
    let signs: Vec<String> = world.admin.query(signs, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(signs, [id.to_string()]);
    let shapes = [&id, &copy].map(|id| shape(&world.cluster, id.database()).replace(id.as_str(), "proj_x"));
    assert_eq!(shapes[0], shapes[1]);
    let again = restore(&backups, &file, &target).await;
    assert!(matches!(again, Err(BackupError::Refused(_))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_own_database_is_read_to_its_end() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let id = world.project().await;
    assert_eq!(backups.subjects().await.unwrap(), [Subject::Platform, Subject::Project(id.clone())]);
    let file = backups.run(&Subject::Platform, &Progress::default()).await.unwrap();
    assert_eq!(file.name.database, world.config.database.database);
    let verified = backups.verify(&file.path, &Progress::default()).await.unwrap();
    assert!(!verified.restored && verified.rows > 3, "{verified:?}");
    let listed = backups.folder().newest().unwrap();
    assert!(listed.len() == 1 && listed[0].verified_at.is_some(), "{listed:?}");
}

/// An access key of the S3 protocol.
async fn s3_key_put(world: &World, id: &ProjectRef) {
    let kind = s3_kind("0a1b");
    let sealed = world.config.master_key.seal(SealContext { owner: id.as_str(), kind: &kind }, b"the secret");
    crate::store::s3_key::s3_key_insert(&world.admin, id, "backup", "0a1b", &sealed).await.unwrap();
}

/// Name, access key id and secret of a project's keys.
async fn s3_keys(world: &World, id: &ProjectRef) -> Vec<(String, String, String)> {
    let kept = super::super::store::kept_s3_keys(&world.admin, id).await.unwrap();
    let opened =
        |sealed: &Sealed, key: &str| open(&world.config.master_key, id.as_str(), &s3_kind(key), sealed).unwrap();
    kept.into_iter().map(|(name, key, sealed)| (name, key.clone(), opened(&sealed, &key).expose().clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_were_revoked_since_are_counted() {
    let world = World::start().await;
    let id = world.project().await;
    let kept = super::super::store::kept_keys(&world.admin, &id).await.unwrap();
    let missing = async || super::super::store::keys_missing(&world.admin, &id, &kept).await.unwrap();
    assert_eq!((kept.len(), missing().await), (2, 0));
    let revoke = "update platform.api_keys set revoked_at = now() where project_id = $1 and kind = 'secret'";
    world.admin.execute(revoke, &[&id.as_str()]).await.unwrap();
    assert_eq!(missing().await, 1);
}
