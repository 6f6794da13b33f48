//! The schedule goes by the clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use base::Clock;

use super::*;

/// Moves the clock to the last second before a full minute, a number of seconds from now.
fn before_a_minute(clock: &Clock, seconds: i64) {
    let now = clock.unix_seconds() + seconds;
    clock.advance(seconds + 59 - now.rem_euclid(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_verified_and_removed_by_the_clock() {
    let (world, store) = (World::start().await, Store::new());
    let id = world.project().await;
    let clock = world.config.clock.clone();
    let backups = store.of(&world);
    let old = backed_up(&backups, &id).await;
    // Old enough to go, as soon as there is a newer one.
    before_a_minute(&clock, 30 * 86_400);
    let every_minute: Cron = "* * * * *".parse().unwrap();
    let schedule = Schedule { run: Some(every_minute.clone()), verify: Some(every_minute) };
    let (shutdown, also) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let counted = also.clone();
    let following = tokio::spawn(backups.clone().follow(
        schedule,
        move |_| {
            let counted = counted.clone();
            async move {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        },
        shutdown.clone(),
    ));
    let databases = |verified: bool| {
        let mut names: Vec<String> = Vec::new();
        for file in backups.folder().list().unwrap() {
            if !verified || file.verified_at.is_some() {
                names.push(file.name.database);
            }
        }
        names.sort();
        names
    };
    let mut expected = vec![world.config.database.database.clone(), id.to_string()];
    expected.sort();
    test_support::eventually("the first round", async || (databases(true) == expected).then_some(())).await;
    assert!(!old.exists(), "the retention is over");
    assert_eq!(also.load(Ordering::Relaxed), 1, "what else is to be backed up");

    shutdown.cancel();
    following.await.unwrap();
}
