//! Passwords: Argon2id (RFC 9106), a few at a time. Hashes that came with an import (bcrypt) are verified and replaced at
//! the next sign-in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base::{ProjectRef, Secret, random};
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorCode};

/// Longest password in bytes: GoTrue's limit, which is bcrypt's.
pub(crate) const LONGEST: usize = 72;
/// A hash that no known password has: what an unknown user's password is compared with, so that it takes as long.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$YjJkNTk4ZGE1OGI2NDkxYw$5W2mCq0cXkzY0oQz1m2yq0o3k1l9x8vN7c6b5a4Z3Y0";
/// Beginning of the hashes that we make.
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

/// Hashes and verifies, each in memory of 19 MiB and some 20 ms of a processor (m=19456, t=2, p=1: OWASP's second choice,
/// as strong as its first in less memory).
pub(crate) struct PasswordHasher {
    queue: Arc<Semaphore>,
    running: Arc<Semaphore>,
    /// Places that one project may have of all.
    share: usize,
    taken: Arc<Mutex<HashMap<ProjectRef, usize>>>,
}

/// A place of a project, until it is dropped.
struct Place {
    project: ProjectRef,
    taken: Arc<Mutex<HashMap<ProjectRef, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.project) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.project);
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
        Self {
            queue: Arc::new(Semaphore::new(places)),
            running: Arc::new(Semaphore::new(running)),
            share: places.div_ceil(2),
            taken: Arc::default(),
        }
    }

    /// The PHC string of a password.
    pub(crate) async fn hash(&self, project: &ProjectRef, password: Secret<String>) -> Result<String, Error> {
        self.run(project, move || {
            let salt = random::bytes::<16>();
            let hash: PasswordHash = Argon2::default()
                .hash_password_with_salt(password.expose().as_bytes(), &salt)
                .map_err(|error| Error::internal("Error hashing the password", error.to_string()))?;
            Ok(hash.to_string())
        })
        .await?
    }

    /// Compares a password with a stored hash. Without a hash it is wrong, after the same time.
    pub(crate) async fn verify(
        &self,
        project: &ProjectRef,
        password: Secret<String>,
        hash: Option<String>,
    ) -> Result<Verdict, Error> {
        self.run(project, move || compare(password.expose(), hash.as_deref())).await
    }

    /// A place for a password of this project, if it has not too many already.
    fn place(&self, project: &ProjectRef) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(project.clone()).or_default();
        if *count >= self.share {
            return None;
        }
        *count += 1;
        Some(Place { project: project.clone(), taken: self.taken.clone() })
    }

    async fn run<T: Send + 'static>(
        &self,
        project: &ProjectRef,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let busy = || {
            let what = "Too many passwords are being checked; try again";
            Error::new(ErrorCode::OverRequestRateLimit, what).retry_after(2)
        };
        let share = self.place(project).ok_or_else(busy)?;
        let place = self.queue.clone().try_acquire_owned().map_err(|_| busy())?;
        // Neither semaphore is ever closed.
        let turn = self.running.clone().acquire_owned().await;
        let turn = turn.map_err(|error| Error::internal("Error checking the password", error))?;
        // Place and turn go with the work: a client that hangs up does not stop it.
        let work = move || {
            let _held = (share, place, turn);
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Error::internal("Error checking the password", error))
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
    let param = |name: &str| parsed.params.get_decimal(name).unwrap_or(u32::MAX);
    parsed.algorithm.as_str().starts_with("argon2")
        && parsed.hash.is_some()
        && param("m") <= 65_536
        && param("t") <= 5
        && param("p") <= 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> ProjectRef {
        ProjectRef::parse(&format!("proj_{name}bc")).unwrap()
    }

    #[test]
    fn one_project_does_not_take_every_place() {
        let hasher = PasswordHasher::new(Some(1), 9);
        let (ours, theirs) = (project("a"), project("b"));
        let places: Vec<_> = std::iter::from_fn(|| hasher.place(&ours)).collect();
        assert_eq!(places.len(), 5);
        let other = hasher.place(&theirs);
        assert!(other.is_some());
        drop((places, other));
        assert!(hasher.taken.lock().unwrap().is_empty());
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
        ] {
            assert!(!is_supported_hash(bad), "{bad}");
        }
    }
}
