//! Passwords of owners: Argon2id (RFC 9106), a few at a time.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use base::{Secret, random};
use tokio::sync::Semaphore;

use crate::error::Error;

/// Hashes that may wait for their turn; a request beyond is refused.
const QUEUE: usize = 32;
/// Seconds after which a refused request may come again.
const RETRY_AFTER: u64 = 2;

/// A hash that no known password has: what an unknown address is compared with, so that it takes as long.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$YjJkNTk4ZGE1OGI2NDkxYw$5W2mCq0cXkzY0oQz1m2yq0o3k1l9x8vN7c6b5a4Z3Y0";

/// Hashes and verifies, each in memory of 19 MiB and some 20 ms of a processor.
#[derive(Clone)]
pub(crate) struct Passwords {
    queue: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Passwords {
    /// Half of the processors may hash at once, so that logins never stop everything else.
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let running = (processors / 2).max(1);
        Self { queue: Arc::new(Semaphore::new(QUEUE + running)), running: Arc::new(Semaphore::new(running)) }
    }

    /// The PHC string of a password.
    pub(crate) async fn hash(&self, password: Secret<String>) -> Result<String, Error> {
        self.run(move || {
            let salt = random::bytes::<16>();
            let hash: PasswordHash = Argon2::default()
                .hash_password_with_salt(password.expose().as_bytes(), &salt)
                .map_err(|error| Error::Internal(error.to_string().into()))?;
            Ok(hash.to_string())
        })
        .await?
    }

    /// Whether the password fits the PHC string; without one, no, after the same time.
    pub(crate) async fn verify(&self, password: Secret<String>, hash: Option<String>) -> Result<bool, Error> {
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(NOBODY);
            let fits = Argon2::default().verify_password(password.expose().as_bytes(), hash).is_ok();
            fits && known
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let _place = self.queue.clone().try_acquire_owned().map_err(|_| Error::TooManyRequests(RETRY_AFTER))?;
        // Neither semaphore is ever closed.
        let turn = self.running.clone().acquire_owned().await.map_err(|error| Error::Internal(error.into()))?;
        // The turn goes with the work: a client that hangs up does not stop it.
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn passwords_are_hashed_and_verified() {
        let passwords = Passwords::new();
        let hash = passwords.hash(secret("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify(secret("correct horse"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(secret("wrong horse"), Some(hash)).await.unwrap());
        assert!(!passwords.verify(secret("correct horse"), None).await.unwrap());
    }

    #[test]
    fn the_hash_of_nobody_costs_what_others_cost() {
        let hash = PasswordHash::new(NOBODY).unwrap();
        assert_eq!(hash.algorithm.as_str(), "argon2id");
        assert_eq!(hash.hash.unwrap().len(), 32);
    }
}
