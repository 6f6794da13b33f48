//! Passwords: Argon2id (RFC 9106), a few at a time. Hashes that came with an import (bcrypt) are verified and replaced at
//! the next sign-in.

mod threads;

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base::{ProjectRef, Secret, random};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::threads::Threads;
use crate::error::{Error, ErrorCode};

/// Longest password in bytes: GoTrue's limit, which is bcrypt's.
pub(crate) const LONGEST: usize = 72;
/// A hash that no known password has: what an unknown user's password is compared with, so that it takes as long.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$YjJkNTk4ZGE1OGI2NDkxYw$5W2mCq0cXkzY0oQz1m2yq0o3k1l9x8vN7c6b5a4Z3Y0";
/// Beginning of the hashes that we make.
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

/// Hashes and verifies, each in memory of 19 MiB and some 20 ms of a processor (m=19456, t=2, p=1: OWASP's second choice,
/// as strong as its first in less memory). Projects take turns: whoever has one password to check waits for one of each other
/// project, however many these have.
pub(crate) struct PasswordHasher {
    queue: Arc<Semaphore>,
    running: Arc<Semaphore>,
    /// Passwords that are hashed at once.
    workers: usize,
    threads: Threads,
    lines: Lines,
    /// Refusals that wait.
    held: Semaphore,
}

/// The places of all projects, and who has them.
#[derive(Clone)]
struct Lines {
    /// Places that one project may have of all.
    share: usize,
    /// From so many taken places on a project has few, so that there is one for whoever has none.
    crowded: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    of: HashMap<ProjectRef, Line>,
}

/// The passwords of one project.
struct Line {
    count: usize,
    /// Those of them that stand in line with other projects'.
    turns: Arc<Semaphore>,
}

/// What the refusal of a password takes at most that there is no place for, and refusals that are held back at once: a
/// quarter of the requests that a project may have under way at the gateway.
const REFUSAL: Duration = Duration::from_millis(1_500);
const MOST_HELD: usize = 256;

const SHARE_IN_A_CROWD: usize = 2;

/// A place for one password, until it is dropped.
pub(crate) struct Reserved {
    share: Place,
    _place: OwnedSemaphorePermit,
}

/// A place of a project, until it is dropped.
struct Place {
    project: ProjectRef,
    lines: Lines,
    turns: Arc<Semaphore>,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a password of this project, if it has not too many already.
    fn place(&self, project: &ProjectRef, workers: usize) -> Option<Place> {
        let mut taken = self.lock();
        let share = if taken.all >= self.crowded { SHARE_IN_A_CROWD } else { self.share };
        let new = || Line { count: 0, turns: Arc::new(Semaphore::new(workers)) };
        let line = taken.of.entry(project.clone()).or_insert_with(new);
        if line.count >= share {
            return None;
        }
        line.count += 1;
        let turns = line.turns.clone();
        taken.all += 1;
        Some(Place { project: project.clone(), lines: self.clone(), turns })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.lines.lock();
        taken.all -= 1;
        if let Some(line) = taken.of.get_mut(&self.project) {
            line.count -= 1;
            if line.count == 0 {
                taken.of.remove(&self.project);
            }
        }
    }
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wrong,
    Right,
    /// Right, and its hash should be replaced by one of ours.
    RightButOld,
}

impl PasswordHasher {
    /// `workers` may hash at once, by default half of the processors, so that a flood of sign-ins never stops everything
    /// else; `queue` more may wait, of one project at most half of all.
    pub(crate) fn new(workers: Option<usize>, queue: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let running = workers.unwrap_or(processors / 2).max(1);
        let places = queue + running;
        let lines = Lines { share: places.div_ceil(2), crowded: places - places / 4, taken: Arc::default() };
        Self {
            queue: Arc::new(Semaphore::new(places)),
            running: Arc::new(Semaphore::new(running)),
            workers: running,
            threads: Threads::start(running),
            lines,
            held: Semaphore::new(MOST_HELD),
        }
    }

    /// The PHC string of a password.
    pub(crate) async fn hash(&self, project: &ProjectRef, password: Secret<String>) -> Result<String, Error> {
        let place = self.reserve(project).await?;
        let work = move || {
            let salt = random::bytes::<16>();
            let hash: PasswordHash = Argon2::default()
                .hash_password_with_salt(password.expose().as_bytes(), &salt)
                .map_err(|error| Error::internal("Error hashing the password", error.to_string()))?;
            Ok(hash.to_string())
        };
        self.run(place, work).await?
    }

    /// Compares a password with a stored hash. Without a hash it is wrong, after the same time.
    pub(crate) async fn verify(
        &self,
        project: &ProjectRef,
        password: Secret<String>,
        hash: Option<String>,
    ) -> Result<Verdict, Error> {
        let place = self.reserve(project).await?;
        self.verify_at(place, password, hash).await
    }

    /// As [`Self::verify`], at a place that was reserved.
    pub(crate) async fn verify_at(
        &self,
        place: Reserved,
        password: Secret<String>,
        hash: Option<String>,
    ) -> Result<Verdict, Error> {
        self.run(place, move || compare(password.expose(), hash.as_deref())).await
    }

    /// A place in the line for one password; an error when there is none. Taken before anything is looked up, a flood costs
    /// the least.
    pub(crate) async fn reserve(&self, project: &ProjectRef) -> Result<Reserved, Error> {
        let share = self.lines.place(project, self.workers);
        if let Some((share, place)) = share.zip(self.queue.clone().try_acquire_owned().ok()) {
            return Ok(Reserved { share, _place: place });
        }
        // Who asks again as soon as there is an answer would take more time with these than with passwords, from everybody.
        if let Ok(_held) = self.held.try_acquire() {
            // Apart from each other: a flood that is answered at once asks again at once.
            let part = f64::from(random::bytes::<1>()[0]) / 255.0;
            tokio::time::sleep(REFUSAL.mul_f64(1.0 - 2.0 / 3.0 * part)).await;
        }
        let what = "Too many passwords are being checked; try again";
        Err(Error::new(ErrorCode::OverRequestRateLimit, what).retry_after(2))
    }

    async fn run<T: Send + 'static>(
        &self,
        reserved: Reserved,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |cause: &dyn Display| Error::internal("Error checking the password", cause.to_string());
        // First in the project's line, then with the first ones of the others. None of the semaphores is ever closed.
        let first = reserved.share.turns.clone().acquire_owned().await.map_err(|error| failed(&error))?;
        let turn = self.running.clone().acquire_owned().await.map_err(|error| failed(&error))?;
        // Place and turn go with the work: a client that hangs up does not stop it.
        let work = move || {
            let _held = (turn, first, reserved);
            work()
        };
        self.threads.run(work).await.ok_or_else(|| failed(&"it broke off"))
    }
}

fn compare(password: &str, hash: Option<&str>) -> Verdict {
    // A hash says itself what it costs, and project owners can store any.
    let hash = hash.filter(|hash| is_supported_hash(hash));
    let stored = hash.unwrap_or(NOBODY);
    let fits = if is_bcrypt(stored) {
        bcrypt::verify(password, stored).unwrap_or_default()
    } else {
        Argon2::default().verify_password(password.as_bytes(), stored).is_ok()
    };
    match (fits && hash.is_some(), stored.starts_with(OURS)) {
        (false, _) => Verdict::Wrong,
        (true, true) => Verdict::Right,
        (true, false) => Verdict::RightButOld,
    }
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix))
}

/// Whether a hash is one that can be verified and costs no more than a request may.
pub(crate) fn is_supported_hash(hash: &str) -> bool {
    if is_bcrypt(hash) {
        // Each step doubles the time; 12 is a quarter of a second.
        let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
        return hash.len() == 60 && cost.is_some_and(|cost| (4..=12).contains(&cost));
    }
    let Ok(parsed) = PasswordHash::new(hash) else { return false };
    // Of two of a name the first would be looked at here, and the last would be computed.
    let param = |name: &str| {
        let mut all =
            parsed.params.iter().filter(|(ident, _)| ident.as_str() == name).map(|(_, value)| value.decimal());
        match (all.next(), all.next()) {
            (Some(Ok(value)), None) => value,
            _ => u32::MAX,
        }
    };
    parsed.algorithm.as_str().starts_with("argon2")
        && parsed.hash.is_some()
        && param("m") <= 65_536
        && param("t") <= 5
        && param("p") <= 8
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn project(name: &str) -> ProjectRef {
        ProjectRef::parse(&format!("proj_{name}bc")).unwrap()
    }

    #[test]
    fn no_number_of_projects_takes_every_place() {
        let hasher = PasswordHasher::new(Some(1), 64);
        let place = |name: &str| hasher.lines.place(&project(name), 1);
        let all = |name: &str| -> Vec<Place> { std::iter::from_fn(|| place(name)).collect() };
        let (first, second) = (all("a"), all("b"));
        assert_eq!((first.len(), second.len()), (33, 16));
        for name in ["c", "d", "e"] {
            assert_eq!(all(name).len(), 2, "{name}");
        }
        drop(first);
        assert_eq!(all("a").len(), 33);
        drop(second);
        assert!(hasher.lines.lock().of.is_empty() && hasher.lines.lock().all == 0);
    }

    #[tokio::test]
    async fn a_project_under_a_flood_keeps_no_other_waiting() {
        let hasher = Arc::new(PasswordHasher::new(Some(1), 64));
        let done = Arc::new(AtomicUsize::new(0));
        let mut flood = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let (hasher, done) = (hasher.clone(), done.clone());
            flood.spawn(async move {
                hasher.verify(&project("a"), Secret::new("x".to_owned()), None).await.unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        // When all of them stand in line.
        while hasher.lines.lock().all < 30 {
            tokio::task::yield_now().await;
        }
        hasher.verify(&project("b"), Secret::new("x".to_owned()), None).await.unwrap();
        let before = done.load(Ordering::Relaxed);
        assert!(before <= 4, "{before} of the flood came first");
        flood.join_all().await;
    }

    #[tokio::test]
    async fn passwords_are_verified_and_old_hashes_reported() {
        let hasher = PasswordHasher::new(Some(1), 4);
        let ours = hasher.hash(&project("a"), Secret::new("correct horse".to_owned())).await.unwrap();
        assert!(ours.starts_with(OURS), "{ours}");
        let bcrypt = bcrypt::hash("correct horse", 4).unwrap();
        let check = async |password: &str, hash: Option<&str>, expected: Verdict| {
            let verdict =
                hasher.verify(&project("a"), Secret::new(password.to_owned()), hash.map(str::to_owned)).await.unwrap();
            assert_eq!(verdict, expected, "{password} {hash:?}");
        };
        check("correct horse", Some(&ours), Verdict::Right).await;
        check("wrong horse", Some(&ours), Verdict::Wrong).await;
        check("correct horse", Some(&bcrypt), Verdict::RightButOld).await;
        check("wrong horse", Some(&bcrypt), Verdict::Wrong).await;
        check("correct horse", None, Verdict::Wrong).await;
        check("", Some(""), Verdict::Wrong).await;
        check("correct horse", Some("garbage"), Verdict::Wrong).await;
    }

    #[tokio::test]
    async fn a_flood_is_refused_and_not_queued_for_ever() {
        let hasher = Arc::new(PasswordHasher::new(Some(1), 2));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let hasher = hasher.clone();
            all.spawn(async move { hasher.hash(&project("a"), Secret::new("x".to_owned())).await.map(drop) });
        }
        let results = all.join_all().await;
        let refused = results.iter().filter(|result| result.is_err()).count();
        assert!((10..20).contains(&refused), "{refused}");
        let error = results.into_iter().find_map(Result::err).unwrap();
        assert_eq!((error.status().as_u16(), error.code().name()), (429, "over_request_rate_limit"));
    }

    #[test]
    fn no_hash_takes_as_long_as_a_wrong_one() {
        let time = |hash: Option<&str>| {
            let start = std::time::Instant::now();
            assert_eq!(compare("x", hash), Verdict::Wrong);
            start.elapsed()
        };
        let salted: PasswordHash = Argon2::default().hash_password_with_salt(b"y", &[7; 16]).unwrap();
        let salted = salted.to_string();
        // The fastest of several: others run beside this one.
        let least = |hash: Option<&str>| (0..5).map(|_| time(hash)).min().unwrap();
        let (wrong, none) = (least(Some(&salted)), least(None));
        assert!(none > wrong / 2 && none < wrong * 2, "{none:?} and {wrong:?}");
    }

    #[test]
    fn hashes_of_the_admin_api_are_bounded() {
        for good in [NOBODY, "$2y$10$SXEz2HeT8PUIGQXo9yeUIem8KzNxgG0d7o/.eGj2rj8KbRgAuRVlq"] {
            assert!(is_supported_hash(good), "{good}");
        }
        for bad in [
            "",
            "x",
            "$2y$31$SXEz2HeT8PUIGQXo9yeUIem8KzNxgG0d7o/.eGj2rj8KbRgAuRVlq",
            "$2y$10$short",
            "$argon2id$v=19$m=4194304,t=2,p=1$YjJkNTk4ZGE1OGI2NDkxYw$5W2mCq0cXkzY0oQz1m2yq0o3k1l9x8vN7c6b5a4Z3Y0",
            "$argon2id$v=19$m=19456,t=4294967295,p=1$YjJkNTk4ZGE1OGI2NDkxYw$5W2mCq0cXkzY0oQz1m2yq0o3k1l9x8vN7c6b5a4Z3Y0",
            "$argon2id$v=19$m=19456,t=2,p=1,t=4294967295$YjJkNTk4ZGE1OGI2NDkxYw$5W2mCq0cXkzY0oQz1m2yq0o3k1l9x8vN7c6b5a4Z3Y0",
            "$argon2id$v=19$m=19456,t=2$YjJkNTk4ZGE1OGI2NDkxYw$5W2mCq0cXkzY0oQz1m2yq0o3k1l9x8vN7c6b5a4Z3Y0",
        ] {
            assert!(!is_supported_hash(bad), "{bad}");
            // Nor is it computed when it stands in a row: the time is that of a hash of ours.
            let began = std::time::Instant::now();
            assert_eq!(compare("x", Some(bad)), Verdict::Wrong);
            assert!(began.elapsed() < std::time::Duration::from_secs(5), "{bad}");
        }
    }
}
