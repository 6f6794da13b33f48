use super::{USER_A, Who, World};
use crate::reconcile::{Report, Scope};

const NOW: Scope = Scope { checksums: true, repair: false, grace: 0, uploads_grace: 0 };
const REPAIR: Scope = Scope { repair: true, ..NOW };

async fn reconcile(world: &World, scope: Scope) -> Report {
    world.settled().await;
    world.storage.reconcile(&world.project, scope).await.unwrap()
}

#[tokio::test]
async fn what_agrees_is_left_alone() {
    let world = World::with_buckets().await;
    for key in ["a", "a/b", "c"] {
        world.put(Who::User(USER_A), &format!("private/{key}"), "content").await;
    }
    let expected = Report { objects: 3, files: 3, bytes_read: 21, ..Report::default() };
    assert_eq!(reconcile(&world, NOW).await, expected);
    assert_eq!(reconcile(&world, REPAIR).await, expected);
}

#[tokio::test]
async fn files_without_a_row_go_once_they_are_old_enough() {
    let world = World::with_buckets().await;
    world.put(Who::Service, "private/a", "content").await;
    let file = world.root.path().join(&world.files()[0]);
    let orphan = file.with_file_name("%00000000-0000-4000-8000-000000000000");
    std::fs::copy(&file, &orphan).unwrap();
    let staging = world.root.path().join(world.project.project_ref.as_str()).join("%staging");
    std::fs::create_dir_all(&staging).unwrap();
    std::fs::write(staging.join("left"), "half").unwrap();
    let young = reconcile(&world, Scope { grace: 3600, uploads_grace: 3600, ..REPAIR }).await;
    assert_eq!((young.orphans, young.files), (0, 2));
    let seen = reconcile(&world, NOW).await;
    assert_eq!((seen.orphans, seen.repaired, seen.is_clean()), (1, 0, false));
    let repaired = reconcile(&world, REPAIR).await;
    assert_eq!((repaired.orphans, repaired.repaired, repaired.is_clean()), (1, 1, true));
    assert!(!orphan.exists() && !staging.join("left").exists());
    assert_eq!(world.get(Who::Service, "/object/private/a").await.text(), "content");
}

#[tokio::test]
async fn damage_is_told_and_what_sql_renamed_is_found_again() {
    let world = World::with_buckets().await;
    for key in ["gone", "short", "torn", "renamed", "torn-md5", "whole-md5"] {
        world.put(Who::Service, &format!("private/{key}"), "content").await;
    }
    // As S3's clients, and versions before, have it.
    let md5 = r#"{"eTag": "\"9a0364b9e99bb480dd25e1f0284c8555\""}"#;
    let as_md5 =
        format!("update storage.objects set metadata = metadata - 'contentBlake3' || '{md5}' where name like '%md5'");
    world.sql(&as_md5).await;
    let path = |key: &str| {
        let found = world.files().into_iter().find(|path| path.contains(&format!("/{key}/%"))).unwrap();
        world.root.path().join(found)
    };
    std::fs::remove_file(path("gone")).unwrap();
    std::fs::write(path("short"), "cont").unwrap();
    for torn in ["torn", "torn-md5"] {
        std::fs::write(path(torn), "CONTENT").unwrap();
    }
    world.sql("update storage.objects set name = 'elsewhere' where name = 'renamed'").await;
    let report = reconcile(&world, REPAIR).await;
    let faults: Vec<_> = report.faults.iter().map(|fault| format!("{}: {}", fault.object, fault.what)).collect();
    assert_eq!(
        faults,
        [
            "private/gone: its file is missing",
            "private/short: its file has another size",
            "private/torn: its file has another checksum",
            "private/torn-md5: its file has another checksum",
        ]
    );
    assert_eq!((report.orphans, report.repaired), (1, 1));
    assert_eq!(world.get(Who::Service, "/object/private/elsewhere").await.text(), "content");
    assert_eq!(world.get(Who::Service, "/object/private/gone").await.outcome(), "400 404 not_found");
}

#[tokio::test]
async fn rows_that_sql_deletes_take_their_files_along() {
    let world = World::with_buckets().await;
    world.put(Who::Service, "private/a", "content").await;
    world.put(Who::Service, "private/b", "content").await;
    world.sql("set storage.allow_delete_query = 'true'; delete from storage.objects where name = 'a'").await;
    // A dump that is loaded again brings the row back.
    world
        .sql(
            "set storage.allow_delete_query = 'true'; begin;
        create temp table kept as select id, bucket_id, name, version, metadata from storage.objects where name = 'b';
        delete from storage.objects where name = 'b';
        insert into storage.objects (id, bucket_id, name, version, metadata) select * from kept; commit",
        )
        .await;
    let report = world.storage.reconcile(&world.project, REPAIR).await.unwrap();
    assert_eq!((report.objects, report.files, report.is_clean()), (1, 1, true), "{report:?}");
    assert_eq!(world.get(Who::Service, "/object/private/b").await.text(), "content");
}

/// What notes removals has the superuser's rights; the owner gives the columns types and casts of their own.
#[tokio::test]
async fn noting_a_removal_runs_nothing_of_the_owners() {
    let world = World::with_buckets().await;
    world
        .sql(
            "create table ran (what text);
             create type evil as (t text);
             create function pwn(evil) returns text language plpgsql as
                 $$ begin insert into public.ran values (current_user); return 'x'; end $$;
             create cast (evil as text) with function pwn(evil) as assignment;
             alter table storage.objects drop constraint \"objects_bucketId_fkey\";
             drop policy own on storage.objects;
             alter table storage.objects alter column bucket_id type evil using row(bucket_id)::evil;
             insert into storage.objects (bucket_id, name, version) values (row('b'), 'n', 'v1');
             set storage.allow_delete_query = 'true'; delete from storage.objects",
        )
        .await;
    assert_eq!(world.value("select count(*) from ran").await, "0");
    assert_eq!(world.value("select bucket_id || name || version from _launchdb.storage_removals").await, "(b)nv1");
}

/// A backup is put back by mistake: what was uploaded since can be rescued for a week.
#[tokio::test]
async fn what_a_restore_took_the_row_from_stays_for_a_week() {
    let world = World::with_buckets().await;
    world.put(Who::Service, "private/a", "content").await;
    world.put(Who::Service, "private/b", "content").await;
    let path = |key: &str| world.files().into_iter().find(|path| path.contains(&format!("/{key}/%"))).unwrap();
    let file = world.root.path().join(path("b"));
    // As a database of before has it: no trigger has noted anything.
    world.sql("alter table storage.objects disable trigger user; delete from storage.objects where name = 'b'").await;
    world.storage.shared.config.staging.note_restore(Some(&world.project.project_ref)).unwrap();
    let later = async |seconds: i64| {
        world.clock.advance(seconds);
        let report = world.storage.reconcile(&world.project, Scope { grace: 3600, ..REPAIR }).await.unwrap();
        (report.kept, report.repaired, report.is_clean(), file.exists())
    };
    assert_eq!(later(7_200).await, (1, 0, true, true));
    assert_eq!(later(6 * 24 * 3600).await, (1, 0, true, true));
    assert_eq!(later(24 * 3600).await, (0, 1, true, false));
    assert_eq!(world.get(Who::Service, "/object/private/a").await.text(), "content");
    // What comes after it goes as ever.
    world.storage.shared.config.staging.note_restore(None).unwrap();
}
