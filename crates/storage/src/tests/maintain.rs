//! What the service does without being asked.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::{ProjectRef, ProjectTable};
use tokio_util::sync::CancellationToken;

use super::{Who, World};
use crate::Rounds;

/// A file that no row means, as old as it gets: nobody waits for its grace in a test.
fn orphan(world: &World) -> std::path::PathBuf {
    let file = world.root.path().join(&world.files()[0]);
    let orphan = file.with_file_name("%00000000-0000-4000-8000-000000000000");
    std::fs::copy(&file, &orphan).unwrap();
    orphan
}

fn table(world: &World) -> ProjectTable {
    let table = ProjectTable::new();
    table.replace_all(vec![(*world.project).clone()]);
    table
}

#[tokio::test]
async fn files_of_projects_that_are_purged_go_and_of_no_others() {
    let world = World::with_buckets().await;
    world.put(Who::Service, "private/a", "content").await;
    let root = world.root.path();
    // Deleted: the platform does not know it any more; one of the two was purged.
    for (id, file) in [("proj_purged", "b/k/%v"), ("proj_restorable", "b/k/%v"), ("proj_purged", "%tus/x")] {
        let file = root.join(id).join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "content").unwrap();
    }
    std::fs::write(root.join("not-ours"), "").unwrap();
    let projects = table(&world);
    let none = async |_: Vec<ProjectRef>| Ok::<_, Infallible>(Vec::new());
    world.storage.round(&projects, &|unknown| none(unknown)).await;
    assert!(root.join("proj_purged/b/k/%v").exists(), "not known is not yet purged");
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = asked.clone();
    let purged = move |unknown: Vec<ProjectRef>| {
        noted.lock().unwrap().clone_from(&unknown);
        async move { Ok::<_, Infallible>(unknown.into_iter().filter(|id| id.as_str() == "proj_purged").collect()) }
    };
    world.storage.round(&projects, &purged).await;
    let asked: Vec<String> = asked.lock().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(asked, ["proj_purged", "proj_restorable"], "of projects that are there nobody asks");
    assert!(!root.join("proj_purged").exists());
    assert!(root.join("proj_restorable/b/k/%v").exists() && root.join("not-ours").exists());
    assert_eq!(world.get(Who::Service, "/object/private/a").await.text(), "content");
}

#[tokio::test]
async fn when_the_platform_does_not_answer_nothing_goes() {
    let world = World::with_buckets().await;
    let file = world.root.path().join("proj_unknown/b/k/%v");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "content").unwrap();
    let failing = async |_: Vec<ProjectRef>| Err::<Vec<ProjectRef>, _>(std::io::Error::other("no platform"));
    world.storage.round(&table(&world), &|unknown| failing(unknown)).await;
    assert!(file.exists());
}

#[tokio::test]
async fn rounds_come_again_until_the_shutdown() {
    let world = World::start_with(|_, config| {
        config.rounds =
            Rounds { first: Duration::from_millis(1), between: Duration::from_millis(1), ..Rounds::default() };
    })
    .await;
    world.add_buckets().await;
    world.put(Who::Service, "private/a", "content").await;
    let file = orphan(&world);
    let (shutdown, rounds) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let counted = rounds.clone();
    let purged = move |_: Vec<ProjectRef>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, Infallible>(Vec::new()) }
    };
    let looping = tokio::spawn(world.storage.clone().maintain(Arc::new(table(&world)), purged, shutdown.clone()));
    test_support::eventually("two rounds", async || (rounds.load(Ordering::Relaxed) >= 2).then_some(())).await;
    assert!(file.exists(), "an hour has not passed");
    world.clock.advance(3_601);
    test_support::eventually("the orphan is gone", async || (!file.exists()).then_some(())).await;
    shutdown.cancel();
    looping.await.unwrap();
    assert_eq!(world.get(Who::Service, "/object/private/a").await.text(), "content");
}
