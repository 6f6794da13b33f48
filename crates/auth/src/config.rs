//! The service and what the binary tells it.

use std::sync::Arc;

use base::{Clock, WriteGate};
use mailer::Mailer;
use pg::ServicePools;
use tokio_util::task::TaskTracker;
use web::HttpService;

use crate::password::PasswordHasher;
use crate::provider::Documents;
use crate::rate_limit::RateLimiter;
use crate::router;
use crate::sms::Took;
use crate::sweep::Noted;

/// What the service needs from the process that it is part of.
pub struct AuthConfig {
    /// Every URL handed out begins with it; without a slash at the end.
    pub public_url: String,
    /// Connections to the projects' databases.
    pub pools: Arc<ServicePools>,
    pub clock: Clock,
    /// Background work of requests; it ends at shutdown.
    pub tasks: TaskTracker,
    /// Closed while the disk is nearly full: nothing new is taken in then.
    pub write_gate: WriteGate,
    /// The way out to hooks, providers and captcha services of projects.
    pub outbound: outbound::Client,
    /// Sends what requests put into the queues.
    pub mailer: Mailer,
    /// Where captchas are checked in place of the services' own addresses; for a service that speaks like them.
    pub captcha_verifier: Option<String>,
    /// Where SMS services are asked in place of their own addresses; for a service that speaks like them.
    pub sms_service: Option<String>,
    /// Passwords that are hashed at once; none is half of the processors.
    pub password_workers: Option<usize>,
    /// Passwords that may wait for their turn; a request beyond is refused.
    pub password_queue: usize,
}

/// The auth service of every project. Clones share it.
#[derive(Clone)]
pub struct Auth(pub(crate) Arc<Shared>);

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) config: AuthConfig,
    pub(crate) passwords: PasswordHasher,
    pub(crate) limiter: RateLimiter,
    /// What providers publish of themselves.
    pub(crate) documents: Documents,
    pub(crate) noted: Noted,
    pub(crate) took: Took,
}

impl Auth {
    pub fn new(config: AuthConfig) -> Self {
        let passwords = PasswordHasher::new(config.password_workers, config.password_queue);
        let limiter = RateLimiter::new(config.clock.instant());
        let (documents, noted, took) = (Documents::default(), Noted::default(), Took::default());
        Self(Arc::new(Shared { config, passwords, limiter, documents, noted, took }))
    }

    /// Answers requests that carry `Arc<Project>` and [`base::Caller`] in their extensions and a path below the
    /// service's base.
    pub fn service(&self) -> HttpService {
        let auth = self.clone();
        HttpService::from_fn(move |request| router::handle(auth.clone(), request))
    }
}
