//! Wrong keys, damage, hostile dumps, busy databases: a clear error, and nothing half-done.

use std::io::Write as _;
use std::time::Duration;

use super::*;
use crate::backup::manifest::{self, End, Tally};
use crate::backup::openpgp::{Decryptor, Encryptor};

/// A project with one row, and its backup.
pub(super) async fn small(world: &World, backups: &Backups) -> (ProjectRef, PathBuf) {
    let id = world.project().await;
    let sql = "create table kept (a int); insert into kept values (1)";
    world.owner_session(&id).await.batch_execute(sql).await.unwrap();
    let file = backed_up(backups, &id).await;
    (id, file)
}

/// The project has its row, and nothing of a restore is left.
pub(super) async fn assert_untouched(world: &World, id: &ProjectRef) {
    world.assert_usable(id).await;
    let count: i64 = world.owner_session(id).await.query_one("select count(*) from kept", &[]).await.unwrap().get(0);
    assert_eq!((count, others(world, id).await), (1, Vec::new()));
}

/// The file with `sql` put in before its end, and an end that fits.
pub(super) fn altered(store: &Store, file: &Path, sql: &str) -> PathBuf {
    rewritten(store, file, manifest::FORMAT, sql)
}

/// As [`altered`], in another format.
fn rewritten(store: &Store, file: &Path, format: u32, sql: &str) -> PathBuf {
    let mut plain = String::new();
    let mut decryptor = Decryptor::new(std::fs::File::open(file).unwrap(), &store.key).unwrap();
    std::io::Read::read_to_string(&mut decryptor, &mut plain).unwrap();
    let (dump, _) = plain.rsplit_once(&format!("-- {}", manifest::END)).unwrap();
    let written = |format| format!("{}{{\"format\":{format},", manifest::HEADER);
    let dump = format!("{dump}{sql}\n").replace(&written(manifest::FORMAT), &written(format));
    let (mut tally, mut scanner) = (Tally::of_format(format), pg::statements::StatementScanner::default());
    let mut count = |piece: pg::statements::Piece<'_>| -> Result<(), ()> {
        tally.count(&piece);
        Ok(())
    };
    scanner.feed(dump.as_bytes(), &mut count).unwrap();
    scanner.finish(&mut count).unwrap();
    let end: End = tally.finish();
    let path = file.with_file_name(format!("altered-{}", base::random::hex::<4>()));
    let mut encryptor = Encryptor::new(std::fs::File::create(&path).unwrap(), &store.key).unwrap();
    writeln!(encryptor, "{dump}-- {}{}", manifest::END, serde_json::to_string(&end).unwrap()).unwrap();
    encryptor.finish().unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_fit_changes_nothing() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let (id, file) = small(&world, &backups).await;
    let check = async |result: Result<Restored, BackupError>, expected: &str| {
        let error = web::error::chain(&result.unwrap_err()).to_string();
        assert!(error.contains(expected), "{error}");
        assert_untouched(&world, &id).await;
    };

    let other_key = BackupConfig { key: Some(Secret::new("another".to_owned())), ..store.config() };
    check(restore(&store.with(&world, other_key), &file, &onto(&id)).await, "the key does not open it").await;
    let no_key = BackupConfig { key: None, ..store.config() };
    check(restore(&store.with(&world, no_key), &file, &onto(&id)).await, "BACKUP_ENCRYPTION_KEY").await;
    let other = RestoreTarget { project: "proj_somebody".to_owned(), ..onto(&id) };
    check(restore(&backups, &file, &other).await, &format!("holds {id}, not proj_somebody")).await;
    check(restore(&backups, Path::new("/nonexistent"), &onto(&id)).await, "cannot be read").await;

    let whole = std::fs::read(&file).unwrap();
    let damaged = file.with_file_name("damaged");
    for (bytes, expected) in [
        (&whole[..0], "cut off"),
        (&whole[..100], "cut off"),
        (&whole[..whole.len() - 1], "cut off"),
        (&whole[..whole.len() * 2 / 3], "cut off"),
        (b"-- plain SQL\nselect 1;\n", "no backup"),
    ] {
        std::fs::write(&damaged, bytes).unwrap();
        check(restore(&backups, &damaged, &onto(&id)).await, expected).await;
    }
    let mut flipped = whole.clone();
    flipped[whole.len() - 10] ^= 1;
    std::fs::write(&damaged, &flipped).unwrap();
    check(restore(&backups, &damaged, &onto(&id)).await, "altered or cut off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_dump_gets_no_rights() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let (id, file) = small(&world, &backups).await;
    let proof = store.dir.path().join("proof");
    for (sql, expected) in [
        (format!("alter role \"{id}\" superuser;"), "42501"),
        ("reset session authorization; create role intruder superuser;".to_owned(), "42501"),
        (format!("\\! touch {}", proof.display()), "command of psql"),
        (format!("copy public.kept to program 'touch {}';", proof.display()), "42501"),
        ("do $$ begin execute 'drop database postgres'; end $$;".to_owned(), "25001"),
        (
            "create table public.broken (a int check (a > 0));\nCOPY public.broken (a) FROM stdin;\n0\n\\.\n"
                .to_owned(),
            "23514",
        ),
        ("delete from _launchdb.baseline_migrations;".to_owned(), "42501"),
        // Ours would read it with the superuser's rights.
        (
            "create type public.evil as (a text); alter table storage.objects drop column path_tokens;
             alter table storage.objects drop column version cascade;
             alter table storage.objects add column version public.evil;"
                .to_owned(),
            "storage.objects has columns of other types",
        ),
        ("select 'no end".to_owned() + "';\nselect (;", "42601"),
    ] {
        let altered = altered(&store, &file, &sql);
        let error = restore(&backups, &altered, &onto(&id)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{sql}: {error}");
        assert_untouched(&world, &id).await;
        assert!(!proof.exists(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_the_schema_do_not_break_a_backup() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let id = world.project().await;
    let owner = world.owner_session(&id).await;
    owner.batch_execute("create table kept (a int); insert into kept values (1)").await.unwrap();
    let stop = CancellationToken::new();
    let changing = async {
        for n in 0..10_000 {
            if stop.is_cancelled() {
                return;
            }
            let sql = format!(
                "create table t{n} as select * from generate_series(1, 100); drop table if exists t{}",
                0.max(n - 3)
            );
            owner.batch_execute(&sql).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let working = async {
        let mut files = Vec::new();
        for _ in 0..3 {
            files.push(backed_up(&backups, &id).await);
            tokio::time::sleep(Duration::from_millis(1001)).await;
        }
        stop.cancel();
        files
    };
    let ((), files) = tokio::join!(changing, working);
    drop(owner);
    restore(&backups, files.last().unwrap(), &onto(&id)).await.unwrap();
    assert_untouched(&world, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_left_is_put_right() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let (id, file) = small(&world, &backups).await;
    let comment: String = world
        .admin
        .query_one("select shobj_description(oid, 'pg_database') from pg_database where datname = $1", &[&id.as_str()])
        .await
        .unwrap()
        .get(0);
    let left = async || {
        for suffix in ["restoring", "verifying", "replaced"] {
            let name = format!("{id}_{suffix}");
            world.admin.batch_execute(&format!("create database {name}")).await.unwrap();
            world.admin.batch_execute(&format!("comment on database {name} is '{comment}'")).await.unwrap();
        }
        world.admin.batch_execute(&format!("alter database {id} with allow_connections false")).await.unwrap();
    };
    left().await;
    world.provisioner.reconcile().await.unwrap();
    assert_untouched(&world, &id).await;
    left().await;
    restore(&backups, &file, &onto(&id)).await.unwrap();
    assert_untouched(&world, &id).await;

    // Of a project that never came to be, roles and database go.
    let absent = ProjectRef::generate();
    let role = format!(
        "create role {absent} login; comment on role {absent} is '{}'",
        comment.replace(id.as_str(), absent.as_str())
    );
    world.admin.batch_execute(&role).await.unwrap();
    world.provisioner.reconcile().await.unwrap();
    world.assert_gone(&absent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_named() {
    let (world, store) = (World::start().await, Store::new());
    let blocked = store.dir.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let config = BackupConfig { folder: BackupFolder::new(blocked.join("backups")), ..store.config() };
    let error = store.with(&world, config).run(&Subject::Platform, &Progress::default()).await.unwrap_err();
    assert!(error.to_string().contains("cannot write to"), "{error}");
    let config = BackupConfig { least_free_bytes: u64::MAX, ..store.config() };
    let error = store.with(&world, config).run(&Subject::Platform, &Progress::default()).await.unwrap_err();
    assert!(matches!(error, BackupError::DiskFull { .. }), "{error:?}");
    assert_eq!(std::fs::read_dir(store.of(&world).folder().path()).unwrap().count(), 0);
    let full = BackupError::writing(Path::new("/backups"), std::io::ErrorKind::StorageFull.into());
    assert!(full.to_string().contains("is full"), "{full}");
    let missing = Search { bin_dir: Some("/nonexistent".into()), path: None };
    let config = BackupConfig { search: missing, ..store.config() };
    let error = store.with(&world, config).run(&Subject::Platform, &Progress::default()).await.unwrap_err();
    assert!(matches!(error, BackupError::NoPgDump(_)), "{error:?}");
    assert_eq!(store.of(&world).folder().list().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_that_says_nothing_does_not_hold_up_the_shutdown() {
    use std::os::unix::fs::PermissionsExt as _;

    let (world, store) = (World::start().await, Store::new());
    let programs = tempfile::tempdir().unwrap();
    let pg_dump = programs.path().join("pg_dump");
    let script =
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'pg_dump (PostgreSQL) 99.0'; else exec sleep 600; fi\n";
    std::fs::write(&pg_dump, script).unwrap();
    for path in [programs.path(), &pg_dump] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let search = Search { bin_dir: Some(programs.path().to_owned()), path: None };
    let (config, shutdown) = (BackupConfig { search, ..store.config() }, CancellationToken::new());
    let backups = Backups::new(config, world.provisioner.clone(), shutdown.clone());
    let progress = Progress::default();
    let running = backups.run(&Subject::Platform, &progress);
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        shutdown.cancel();
    };
    let (result, ()) =
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(running, stopping) }).await.expect("an end");
    assert!(matches!(result, Err(BackupError::Cancelled)), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_did_not_come_back_is_noticed() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let (id, file) = small(&world, &backups).await;
    let sql = "CREATE POLICY \"p\" ON \"public\".\"kept\" USING (true);\nDROP POLICY \"p\" ON \"public\".\"kept\";";
    let altered = altered(&store, &file, sql);
    let error = backups.verify(&altered, &Progress::default()).await.unwrap_err();
    assert!(matches!(&error, BackupError::Differs(what) if what.contains("policies")), "{error:?}");
    assert_untouched(&world, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_are_read() {
    let (world, store) = (World::start().await, Store::new());
    let backups = store.of(&world);
    let (id, file) = small(&world, &backups).await;
    for format in 1..=manifest::FORMAT {
        let file = rewritten(&store, &file, format, "");
        assert_eq!(backups.read_header(&file).await.unwrap().format, format);
        backups.verify(&file, &Progress::default()).await.unwrap();
        restore(&backups, &file, &onto(&id)).await.unwrap();
        assert_untouched(&world, &id).await;
    }
    let newer = rewritten(&store, &file, manifest::FORMAT + 1, "");
    let error = backups.verify(&newer, &Progress::default()).await.unwrap_err();
    assert!(matches!(error, BackupError::Newer { .. }), "{error:?}");
}
