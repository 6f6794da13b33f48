//! A project that is busy, for as long as its owner likes, is the only one that waits.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::*;

/// What others want of the server meanwhile.
async fn assert_others_are_served(world: &World) {
    let work = async {
        let id = world.project().await;
        world.provisioner.suspend(&id).await.unwrap();
        world.provisioner.resume(&id).await.unwrap();
        world.provisioner.check_logins().await.unwrap();
        world.provisioner.reconcile().await.unwrap();
    };
    let started = Instant::now();
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("nobody else waits");
    println!("others were served in {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_a_busy_project_hold_nothing_that_others_need() {
    let world = World::start().await;
    let busy = world.project().await;
    // As a restore or a verification has it for hours.
    let holder = world.cluster.connect(&world.config.database.database).await;
    holder.execute("select pg_advisory_lock(hashtextextended($1, 0))", &[&busy.as_str()]).await.unwrap();
    let requests = (0..12).map(|_| {
        let (provisioner, busy) = (world.provisioner.clone(), busy.clone());
        tokio::spawn(async move { provisioner.suspend(&busy).await })
    });
    let requests: Vec<_> = requests.collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_others_are_served(&world).await;
    let started = Instant::now();
    for request in join_all(requests).await {
        let result = request.unwrap();
        assert!(matches!(result, Err(ProvisionError::Busy)), "{result:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "each waits a while, all at the same time");
    drop(holder);
    test_support::eventually("the lock", async || world.provisioner.suspend(&busy).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_shared_catalog_that_an_owner_locks_is_waited_for_briefly() {
    let world = World::start().await;
    let (me, victim) = (world.project().await, world.project().await);
    let mine = world.owner_session(&me).await;
    // Grants nothing, and writes the row all the same.
    mine.batch_execute(&format!("begin; grant connect on database {victim} to {me}")).await.unwrap();
    let (provisioner, id) = (world.provisioner.clone(), victim.clone());
    let suspending = tokio::spawn(async move { provisioner.suspend(&id).await });
    let result = tokio::time::timeout(Duration::from_secs(10), suspending).await.expect("an end").unwrap();
    println!("suspending a project whose row is locked: {result:?}");
    mine.batch_execute("rollback").await.unwrap();
    test_support::eventually("the suspension", async || match world.provisioner.suspend(&victim).await {
        Ok(()) | Err(ProvisionError::WrongStatus { .. }) => Some(()),
        Err(_) => None,
    })
    .await;
}
