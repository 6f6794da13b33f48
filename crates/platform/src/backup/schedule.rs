//! Backups by the clock, in the server or in a process of their own.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::error::BackupError;
use super::{Backups, Cron, Progress, Subject};

/// Longest sleep at once: the system's clock may be set meanwhile.
const NAP: Duration = Duration::from_secs(30);
/// By how much backups are begun sooner than the verification of the same minute.
const HEAD_START: Duration = Duration::from_secs(2);

/// When what is done; none is never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Back up everything and remove what is old.
    pub run: Option<Cron>,
    /// Verify the newest backup of each database.
    pub verify: Option<Cron>,
}

impl Backups {
    /// Works by the schedule until the shutdown. What fails is told in the log, and is tried again at its next time. Backups
    /// are made at their time however long others take to be verified: that is up to what is in them. `also` is done after
    /// the databases were backed up: what is not in them.
    pub async fn follow<Also: Future<Output = ()>>(
        self,
        schedule: Schedule,
        also: impl Fn(CancellationToken) -> Also,
        shutdown: CancellationToken,
    ) {
        // Of the same minute the backups come first, so that they are what is verified. They wait for no verification.
        let running = Mutex::new(());
        let runs = async {
            let mut since = self.now();
            while self.is_time(schedule.run.as_ref(), &mut since, &shutdown).await {
                let _running = running.lock().await;
                self.run_all().await;
                also(shutdown.clone()).await;
            }
        };
        let verifications = async {
            let mut since = self.now();
            while self.is_time(schedule.verify.as_ref(), &mut since, &shutdown).await {
                tokio::time::sleep(HEAD_START).await;
                drop(running.lock().await);
                self.verify_all().await;
            }
        };
        tokio::join!(runs, verifications);
        shutdown.cancelled().await;
    }

    /// Waits for the next of these times after `since`, which becomes now; false at the shutdown, or when none comes.
    async fn is_time(&self, times: Option<&Cron>, since: &mut i64, shutdown: &CancellationToken) -> bool {
        while !shutdown.is_cancelled() {
            let Some(due) = times.and_then(|cron| cron.next_after(*since)) else { return false };
            let now = self.now();
            if now >= due {
                *since = now;
                return true;
            }
            // Also after the clock went back: then what was done already comes again, which is as good.
            *since = (*since).min(now);
            let wait = Duration::from_secs(u64::try_from(due - now).unwrap_or_default()).min(NAP);
            let _ = shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
        false
    }

    async fn run_all(&self) {
        let subjects = match self.subjects().await {
            Ok(subjects) => subjects,
            Err(error) => return tell("the backups could not be begun", &error),
        };
        for subject in &subjects {
            match self.run(subject, &Progress::default()).await {
                Ok(file) => tracing::info!(file = %file.path.display(), bytes = file.bytes, "backed up"),
                // Deleted since the list was made.
                Err(BackupError::NoSuchProject(_)) => {}
                Err(BackupError::Cancelled) => return,
                Err(error) => tell("a backup failed", &error),
            }
        }
        if let Err(error) = self.prune() {
            tell("old backups could not be removed", &error);
        }
    }

    async fn verify_all(&self) {
        let newest = match self.folder().newest() {
            Ok(newest) => newest,
            Err(error) => return tell("backups cannot be listed", &BackupError::writing(self.folder().path(), error)),
        };
        for file in newest {
            match self.verify(&file.path, &Progress::default()).await {
                Ok(verified) => tracing::info!(
                    file = %file.path.display(), tables = verified.tables, rows = verified.rows, "a backup was verified"
                ),
                Err(BackupError::Cancelled) => return,
                Err(error) => tell("a backup cannot be restored", &error),
            }
        }
    }
}

fn tell(what: &str, error: &BackupError) {
    tracing::error!(cause = %web::error::chain(error), "{what}");
}

impl Subject {
    /// The name that people use.
    pub fn name(&self) -> &str {
        match self {
            Self::Platform => "platform",
            Self::Project(id) => id.as_str(),
        }
    }
}
