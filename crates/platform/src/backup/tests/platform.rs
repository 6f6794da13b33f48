//! The platform's own database comes back whole, or nothing changes.

use super::*;
use crate::provision::ProvisionError;
use crate::secrets::kind;

async fn platform_backup(backups: &Backups) -> PathBuf {
    backups.run(&Subject::Platform, &Progress::default()).await.unwrap().path
}

/// Ids of the platform's projects, in a session of its own: the restore ends all others.
async fn projects(world: &World) -> Vec<String> {
    let admin = world.cluster.connect(&world.config.database.database).await;
    const SQL: &str = "select id from platform.projects where not is_spare order by created_at, id";
    admin.query(SQL, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Nothing of a restore is left.
async fn assert_clean(world: &World) {
    let admin = world.cluster.connect("postgres").await;
    const SQL: &str = "select count(*) from pg_database where datname like $1 || '\\_%'";
    let left: i64 = admin.query_one(SQL, &[&world.config.database.database]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

fn refusal<T: std::fmt::Debug>(result: Result<T, BackupError>) -> String {
    web::error::chain(&result.unwrap_err()).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_projects_and_secrets_come_back() {
    let (mut world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let kept = world.project().await;
    let password = world.secret(&kept, kind::DB_PASSWORD).await;
    world
        .admin
        .execute("insert into platform.owners (email, password_hash) values ('b@b.org', 'x')", &[])
        .await
        .unwrap();
    let file = platform_backup(&backups).await;
    world.admin.batch_execute("delete from platform.owners where email = 'b@b.org'").await.unwrap();
    let later = world.project().await;

    let progress = Progress::default();
    let refused = refusal(backups.restore_platform(&file, false, &progress).await);
    assert!(refused.contains(later.as_str()) && refused.contains("--forget-unknown"), "{refused}");
    assert_eq!(projects(&world).await.len(), 2);
    assert_clean(&world).await;

    let restored = backups.restore_platform(&file, true, &progress).await.unwrap();
    assert!(restored.rows > 5 && restored.without_database.is_empty(), "{restored:?}");
    assert!(restored.unknown.len() == 1 && restored.unknown[0].contains(later.as_str()), "{restored:?}");
    assert_eq!(projects(&world).await, [kept.as_str()]);
    assert_clean(&world).await;
    world.admin = world.cluster.connect(&world.config.database.database).await;
    assert_eq!(world.secret(&kept, kind::DB_PASSWORD).await, password);
    world.assert_usable(&kept).await;
    let owners = "select count(*) from platform.owners where email = 'b@b.org'";
    assert_eq!(world.admin.query_one(owners, &[]).await.unwrap().get::<_, i64>(0), 1);
    let audit = "select count(*) from platform.audit_log where action = 'platform.restore_backup'";
    assert_eq!(world.admin.query_one(audit, &[]).await.unwrap().get::<_, i64>(0), 1);
    // The control plane goes on with it, and what nobody knows any more is kept.
    let report = world.provisioner.reconcile().await.unwrap();
    assert_eq!((report.missing_databases, report.lost_databases), (vec![], vec![later.to_string()]));
    world.create("after it").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_changes_nothing() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let id = world.project().await;
    let (file, progress) = (platform_backup(&backups).await, Progress::default());
    let of_project = backed_up(&backups, &id).await;
    assert!(refusal(backups.restore_platform(&of_project, true, &progress).await).contains("holds"));
    assert!(refusal(restore(&backups, &file, &onto(&id)).await).contains("holds"));
    let whole = std::fs::read(&file).unwrap();
    let cut = file.with_file_name("cut");
    std::fs::write(&cut, &whole[..whole.len() * 2 / 3]).unwrap();
    assert!(refusal(backups.restore_platform(&cut, true, &progress).await).contains("cut off"));
    // Two at once.
    let scratch = world.provisioner.platform_scratch().await.unwrap();
    let second = backups.restore_platform(&file, true, &progress).await;
    assert!(matches!(second, Err(BackupError::Provision(ProvisionError::Refused(_)))), "{second:?}");
    world.provisioner.platform_scratch_discard(scratch).await;
    // Another master key: nothing in it could be read.
    let other = World::start().await;
    let refused = refusal(store.of(&other).restore_platform(&file, true, &progress).await);
    assert!(refused.contains("LAUNCHDB_MASTER_KEY"), "{refused}");
    for world in [&world, &other] {
        assert_clean(world).await;
    }
    assert_eq!(projects(&world).await, [id.as_str()]);
    world.assert_usable(&id).await;
}
