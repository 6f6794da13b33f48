//! The task that gets certificates and renews them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::folder::Held;
use super::order::{Authority, NotIssued};
use super::{Allowed, Certificates, Challenges, MOST_WISHES, Wish};

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(5);
/// Orders under way at the same time.
const ORDERS: usize = 4;

/// Runs beside the listener.
pub struct Worker {
    certificates: Arc<Certificates>,
    authority: Authority,
    challenges: Arc<Challenges>,
    allowed: Allowed,
    wished: mpsc::Receiver<Wish>,
    orders: Arc<Semaphore>,
    /// Names that are seen to, and who waits for each.
    under_way: HashMap<String, Vec<oneshot::Sender<()>>>,
    /// Names that no certificate could be got for, of those that may have one.
    failing: HashMap<String, Backoff>,
}

/// What became of a name.
struct Outcome {
    name: String,
    state: State,
}

enum State {
    /// There is a certificate, or nothing was to do.
    Good,
    /// It may have none (any more).
    NotAllowed,
    Failing(Backoff),
}

impl Worker {
    pub(super) fn new(
        certificates: Arc<Certificates>,
        authority: Authority,
        challenges: Arc<Challenges>,
        allowed: Allowed,
        wished: mpsc::Receiver<Wish>,
    ) -> Self {
        Self {
            certificates,
            authority,
            challenges,
            allowed,
            wished,
            orders: Arc::new(Semaphore::new(ORDERS)),
            under_way: HashMap::new(),
            failing: HashMap::new(),
        }
    }

    /// Until `shutdown`; what is under way then is left, and done again at the next start.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut work = JoinSet::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.take_over_kept(&mut work);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(Wish { name, done }) = self.wished.recv() => self.see_to(name, Some(done), &mut work),
                Some(ended) = work.join_next() => match ended {
                    Ok(outcome) => self.end(outcome),
                    Err(error) => tracing::error!(%error, "a certificate was not seen to"),
                },
                _ = looks.tick() => self.look(&mut work),
            }
        }
    }

    /// The server's own name, and all that were kept: those that are due are renewed whether somebody asks or not.
    fn take_over_kept(&mut self, work: &mut JoinSet<Outcome>) {
        let kept = self.authority.folder.list().unwrap_or_else(|error| {
            tracing::warn!(%error, "the certificates that were kept cannot be listed");
            Vec::new()
        });
        for name in &kept {
            match self.authority.folder.read_certificate(name) {
                Ok(Some(held)) => self.certificates.store.put(name, held),
                Ok(None) => {}
                Err(error) => tracing::warn!(name, cause = %format!("{error:#}"), "a certificate is unusable"),
            }
        }
        self.see_to(self.certificates.store.own.clone(), None, work);
    }

    fn look(&mut self, work: &mut JoinSet<Outcome>) {
        let now = self.certificates.clock.unix_seconds();
        let again = self.failing.iter().filter(|(_, backoff)| backoff.seconds_left(now) == 0);
        let names: Vec<String> = again.map(|(name, _)| name.clone()).collect();
        for name in names.into_iter().chain(self.certificates.store.due(now)) {
            if self.under_way.len() < MOST_WISHES {
                self.see_to(name, None, work);
            }
        }
    }

    /// Begins with a name, unless somebody has.
    fn see_to(&mut self, name: String, waits: Option<oneshot::Sender<()>>, work: &mut JoinSet<Outcome>) {
        if let Some(waiting) = self.under_way.get_mut(&name) {
            waiting.extend(waits);
            return;
        }
        // Dropping `waits` tells the connection.
        if self.under_way.len() >= MOST_WISHES {
            return;
        }
        self.under_way.insert(name.clone(), waits.into_iter().collect());
        let seen = Seen {
            certificates: self.certificates.clone(),
            authority: self.authority.clone(),
            challenges: self.challenges.clone(),
            allowed: self.allowed.clone(),
            orders: self.orders.clone(),
            backoff: self.failing.get(&name).copied(),
        };
        work.spawn(async move { Outcome { state: seen.to(&name).await, name } });
    }

    fn end(&mut self, Outcome { name, state }: Outcome) {
        for waiting in self.under_way.remove(&name).into_iter().flatten() {
            // A client that hung up.
            let _ = waiting.send(());
        }
        match state {
            State::Failing(backoff) => drop(self.failing.insert(name, backoff)),
            State::Good | State::NotAllowed => drop(self.failing.remove(&name)),
        }
        self.certificates.set_failing(self.failing.len());
    }
}

/// What one look at a name needs.
struct Seen {
    certificates: Arc<Certificates>,
    authority: Authority,
    challenges: Arc<Challenges>,
    allowed: Allowed,
    orders: Arc<Semaphore>,
    backoff: Option<Backoff>,
}

impl Seen {
    async fn to(&self, name: &str) -> State {
        let (store, clock, folder) = (&self.certificates.store, &self.certificates.clock, &self.authority.folder);
        let now = clock.unix_seconds();
        if !store.due(now).iter().any(|due| due == name) && store.has(name, now) {
            return State::Good;
        }
        if name != store.own && !(self.allowed)(name.to_owned()).await {
            if store.forget_if_over(name, now)
                && let Err(error) = folder.forget_name(name)
            {
                tracing::warn!(%error, name, "what is kept of a name cannot be removed");
            }
            return State::NotAllowed;
        }
        let backoff = self.backoff.unwrap_or_else(|| folder.read_backoff(name));
        if backoff.seconds_left(now) > 0 {
            return State::Failing(backoff);
        }
        let Ok(_turn) = self.orders.acquire().await else { return State::Failing(backoff) };
        match self.order(name).await {
            Ok(held) => {
                store.put(name, held);
                tracing::info!(name, "a new TLS certificate is in use");
                State::Good
            }
            Err(NotIssued { failure, cause }) => {
                let backoff = backoff.failed(failure, clock.unix_seconds());
                let again_in_seconds = backoff.seconds_left(clock.unix_seconds());
                tracing::warn!(
                    name,
                    cause = %format!("{cause:#}"),
                    again_in_seconds,
                    mend = "port 443 of the name has to lead to this server, and the directory (LAUNCHDB_ACME_DIRECTORY) has \
                            to be reachable",
                    "no certificate could be got"
                );
                if let Err(error) = folder.write_backoff(name, &backoff) {
                    tracing::warn!(%error, "the try cannot be written down");
                }
                State::Failing(backoff)
            }
        }
    }

    async fn order(&self, name: &str) -> Result<Held, NotIssued> {
        let pem = self.authority.obtain(name, &self.challenges).await?;
        let held = Held::parse(&pem)?;
        // In use even when it cannot be kept: the disk may be full.
        if let Err(error) = self.authority.folder.write_certificate(name, &pem) {
            tracing::warn!(%error, name, "the new certificate cannot be kept");
        }
        Ok(held)
    }
}
