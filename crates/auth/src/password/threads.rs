//! Threads that compute passwords. They yield to all others of the machine: a flood of sign-ins takes the time that is left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// How much less urgent they are, in the steps of `nice`: on a machine that is busy all the time they get a tenth of what
/// another thread gets.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// They end when this is dropped.
pub(super) struct Threads(Sender<Job>);

impl Threads {
    pub(super) fn start(count: usize) -> Self {
        let (jobs, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        for n in 0..count {
            let receiver = receiver.clone();
            let thread = std::thread::Builder::new().name(format!("password-{n}"));
            if let Err(cause) = thread.spawn(move || work(&receiver)) {
                tracing::error!(%cause, "a thread for passwords could not be started");
            }
        }
        Self(jobs)
    }

    /// The result of a job; none when it broke off, or there is no thread.
    pub(super) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        // Whoever waited may be gone.
        self.0.send(Box::new(move || drop(done.send(job())))).ok()?;
        result.await.ok()
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    // Of this thread alone, which only Linux has. Without it all is as right, and slower for others.
    #[cfg(target_os = "linux")]
    if let Err(cause) = rustix::process::nice(NICE) {
        tracing::debug!(%cause, "threads for passwords are as urgent as all others");
    }
    loop {
        // One waits with the lock, the others for it.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("the computation of a password broke off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn threads_go_on_when_a_job_breaks_off_and_are_less_urgent() {
        let threads = Threads::start(1);
        assert_eq!(threads.run(|| 1 + 1).await, Some(2));
        assert_eq!(threads.run(|| -> u8 { panic!("of the test") }).await, None);
        assert_eq!(threads.run(|| "again").await, Some("again"));
        assert_eq!(Threads::start(0).run(|| 1).await, None);
        #[cfg(target_os = "linux")]
        {
            // Field 19 of `stat`, behind the name in parentheses.
            let urgency = |stat: String| -> i32 {
                let fields = stat.rsplit_once(") ").unwrap().1;
                fields.split(' ').nth(16).unwrap().parse().unwrap()
            };
            let read = || std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let (own, theirs) = (urgency(read()), urgency(threads.run(read).await.unwrap()));
            assert_eq!(theirs, (own + NICE).min(19));
        }
    }
}
