//! Passwords: Argon2id (RFC 9106), a few at a time. Hashes that came with an import (bcrypt) are verified and replaced at
//! the next sign-in.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base::{Secret, random};
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
    /// else; `queue` more may wait.
    pub(crate) fn new(workers: Option<usize>, queue: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let running = workers.unwrap_or(processors / 2).max(1);
        Self { queue: Arc::new(Semaphore::new(queue + running)), running: Arc::new(Semaphore::new(running)) }
    }

    /// The PHC string of a password.
    pub(crate) async fn hash(&self, password: Secret<String>) -> Result<String, Error> {
        self.run(move || {
            let salt = random::bytes::<16>();
            let hash: PasswordHash = Argon2::default()
                .hash_password_with_salt(password.expose().as_bytes(), &salt)
                .map_err(|error| Error::internal("Error hashing the password", error.to_string()))?;
            Ok(hash.to_string())
        })
        .await?
    }

    /// Compares a password with a stored hash. Without a hash it is wrong, after the same time.
    pub(crate) async fn verify(&self, password: Secret<String>, hash: Option<String>) -> Result<Verdict, Error> {
        self.run(move || compare(password.expose(), hash.as_deref())).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let place = self.queue.clone().try_acquire_owned().map_err(|_| {
            Error::new(ErrorCode::OverRequestRateLimit, "Too many passwords are being checked; try again")
                .retry_after(2)
        })?;
        // Neither semaphore is ever closed.
        let turn = self.running.clone().acquire_owned().await;
        let turn = turn.map_err(|error| Error::internal("Error checking the password", error))?;
        // Place and turn go with the work: a client that hangs up does not stop it.
        let work = move || {
            let _held = (place, turn);
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Error::internal("Error checking the password", error))
    }
}

fn compare(password: &str, hash: Option<&str>) -> Verdict {
    let hash = hash.filter(|hash| !hash.is_empty());
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

/// Whether a hash of the admin API is one that can be verified and costs no more than a request may.
pub(crate) fn is_supported_hash(hash: &str) -> bool {
    if is_bcrypt(hash) {
        // Each step doubles the time; 14 is a second.
        let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
        return hash.len() == 60 && cost.is_some_and(|cost| (4..=14).contains(&cost));
    }
    let Ok(parsed) = PasswordHash::new(hash) else { return false };
    let param = |name: &str| parsed.params.get_decimal(name).unwrap_or(u32::MAX);
    parsed.algorithm.as_str().starts_with("argon2")
        && parsed.hash.is_some()
        && param("m") <= 262_144
        && param("t") <= 10
        && param("p") <= 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords_are_verified_and_old_hashes_reported() {
        let hasher = PasswordHasher::new(Some(1), 4);
        let ours = hasher.hash(Secret::new("correct horse".to_owned())).await.unwrap();
        assert!(ours.starts_with(OURS), "{ours}");
        let bcrypt = bcrypt::hash("correct horse", 4).unwrap();
        let check = async |password: &str, hash: Option<&str>, expected: Verdict| {
            let verdict = hasher.verify(Secret::new(password.to_owned()), hash.map(str::to_owned)).await.unwrap();
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
            all.spawn(async move { hasher.hash(Secret::new("x".to_owned())).await.map(drop) });
        }
        let results = all.join_all().await;
        let refused = results.iter().filter(|result| result.is_err()).count();
        assert!((10..20).contains(&refused), "{refused}");
        let error = results.into_iter().find_map(Result::err).unwrap();
        assert_eq!((error.status().as_u16(), error.code().name()), (429, "over_request_rate_limit"));
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
