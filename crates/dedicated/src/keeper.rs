//! One instance's keeper: starts it, waits until it is ready, looks whether it lives, and starts it again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::ProjectRef;
use procs::backoff::Backoff;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Running, RunningId};
use crate::conf::{Conf, Listen};
use crate::folder::{Folder, Note};
use crate::probe;

/// Between two looks while an instance starts, and afterwards.
const EAGER: Duration = Duration::from_millis(50);
const CALM: Duration = Duration::from_secs(2);
/// Looks in a row without an answer after which an instance is taken for hung.
const HUNG: u32 = 4;
/// How long a starting instance keeps others from starting.
const START: Duration = Duration::from_secs(10);

/// How long an instance goes on after it was said to be stopped; longer than a gateway's pause between two looks.
const HANDOVER: Duration = Duration::from_millis(1_500);

/// What is wanted of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Counts up when what runs has to be replaced.
    Run(u64),
    /// Its project is suspended.
    Pause,
    Stop,
}

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Starting,
    Running,
    /// It ended, and is started again after a while.
    Restarting,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) running: Option<RunningId>,
    /// Why it last ended or did not start.
    pub(crate) problem: Option<String>,
    /// How often it was started again.
    pub(crate) restarts: u64,
}

/// What is rendered for an instance, and of which version of its project.
pub(crate) struct Rendered {
    pub(crate) conf: Conf,
    pub(crate) revision: i64,
}

/// One instance.
pub(crate) struct Slot {
    pub(crate) id: ProjectRef,
    pub(crate) listen: Listen,
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) rendered: Mutex<Rendered>,
    pub(crate) note: Mutex<Note>,
    /// Since when its project's setting does not ask for it any more.
    pub(crate) unwanted_since: Mutex<Option<Instant>>,
    /// Held while somebody changes it.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

impl Slot {
    pub(crate) fn new(id: ProjectRef, listen: Listen, wanted: Wanted, rendered: Rendered, note: Note) -> Self {
        let state = State { status: Status::Starting, running: None, problem: None, restarts: 0 };
        Self {
            id,
            listen,
            wanted: watch::Sender::new(wanted),
            state: watch::Sender::new(state),
            rendered: Mutex::new(rendered),
            note: Mutex::new(note),
            unwanted_since: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn note(&self) -> Note {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets what is wanted; whether that is something else than before.
    pub(crate) fn want(&self, wanted: Wanted) -> bool {
        self.wanted.send_if_modified(|now| std::mem::replace(now, wanted) != wanted)
    }

    /// Has what runs replaced by a fresh one.
    pub(crate) fn replace_running(&self) {
        self.wanted.send_if_modified(|now| match now {
            Wanted::Run(generation) => {
                *generation += 1;
                true
            }
            Wanted::Pause | Wanted::Stop => false,
        });
    }

    fn show(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }
}

/// What all keepers share.
pub(crate) struct Workshop {
    pub(crate) backend: Backend,
    pub(crate) folder: Folder,
    /// Starting takes the processor: a crowd would make everybody's start late.
    pub(crate) starting: Semaphore,
}

/// Why an instance does not run on.
enum Outcome {
    Ended(String),
    Hung,
    /// Something else is wanted.
    Wanted,
    Shutdown,
}

/// Keeps one instance until it is to stop, or until `shutdown`.
pub(crate) async fn keep(workshop: Arc<Workshop>, slot: Arc<Slot>, shutdown: CancellationToken) {
    let mut wanted = slot.wanted.subscribe();
    let mut backoff = Backoff::default();
    while !shutdown.is_cancelled() {
        let now = *wanted.borrow_and_update();
        match now {
            Wanted::Run(_) => {}
            Wanted::Pause => {
                slot.show(|state| (state.status, state.running) = (Status::Stopped, None));
                tokio::select! {
                    _ = wanted.changed() => {}
                    () = shutdown.cancelled() => {}
                }
                continue;
            }
            Wanted::Stop => break,
        }
        let began = Instant::now();
        let Some(problem) = run(&workshop, &slot, &mut wanted, &shutdown).await else { continue };
        let wait = backoff.after(began.elapsed());
        let wait_ms = wait.as_millis();
        tracing::warn!(project.r#ref = %slot.id, problem, wait_ms, "an instance of the data API is started again");
        slot.show(|state| {
            *state = State {
                status: Status::Restarting,
                running: None,
                problem: Some(problem),
                restarts: state.restarts + 1,
            };
        });
        tokio::select! {
            () = sleep(wait) => {}
            _ = wanted.changed() => {}
            () = shutdown.cancelled() => {}
        }
    }
    slot.show(|state| (state.status, state.running) = (Status::Stopped, None));
}

/// One life of an instance; its problem, when nobody wanted its end.
async fn run(
    workshop: &Workshop,
    slot: &Slot,
    wanted: &mut watch::Receiver<Wanted>,
    shutdown: &CancellationToken,
) -> Option<String> {
    let (backend, folder) = (&workshop.backend, &workshop.folder);
    let permit = tokio::select! {
        permit = workshop.starting.acquire() => permit.ok(),
        _ = wanted.changed() => return None,
        () = shutdown.cancelled() => return None,
    };
    let conf = folder.conf(&slot.id);
    let mut running = match backend.start(&slot.id, &conf, slot.note().process_id()).await {
        Ok((running, adopted)) => {
            if adopted {
                tracing::info!(project.r#ref = %slot.id, "an instance that runs already is taken over");
            }
            running
        }
        Err(error) => return Some(web::error::chain(&error)),
    };
    let id = backend.id_of(&running);
    let note = {
        let mut note = slot.note.lock().unwrap_or_else(PoisonError::into_inner);
        note.process = match &id {
            RunningId::Process(id) => Some((id.pid, id.started())),
            RunningId::Container { .. } => None,
        };
        note.clone()
    };
    // Without it the next manager would replace the instance instead of taking it over.
    if let Err(error) = folder.write_note(&slot.id, &note) {
        tracing::warn!(project.r#ref = %slot.id, %error, "an instance's process cannot be written down");
    }
    slot.show(|state| (state.status, state.running) = (Status::Starting, Some(id)));
    let health = watch_health(backend, slot, permit);
    let outcome = tokio::select! {
        why = backend.ended(&mut running) => Outcome::Ended(why),
        () = health => Outcome::Hung,
        _ = wanted.changed() => Outcome::Wanted,
        () = shutdown.cancelled() => Outcome::Shutdown,
    };
    match outcome {
        Outcome::Ended(why) => {
            backend.end(&mut running, false).await;
            Some(why)
        }
        Outcome::Hung => {
            backend.end(&mut running, false).await;
            Some("it did not answer any more".to_owned())
        }
        Outcome::Wanted => {
            // Nobody is to be sent there from now on; whoever sends hears of it within a moment.
            slot.show(|state| state.status = Status::Stopped);
            let _ = shutdown.run_until_cancelled(sleep(HANDOVER)).await;
            end(backend, &mut running).await;
            None
        }
        Outcome::Shutdown => {
            if backend.ends_with_manager() {
                end(backend, &mut running).await;
            }
            None
        }
    }
}

async fn end(backend: &Backend, running: &mut Running) {
    backend.end(running, true).await;
}

/// Returns when an instance hangs.
async fn watch_health(backend: &Backend, slot: &Slot, permit: Option<tokio::sync::SemaphorePermit<'_>>) {
    let (host, port) = (backend.host(&slot.id), slot.listen.admin_port);
    let began = Instant::now();
    let mut permit = permit;
    let (mut ready, mut silent) = (false, 0);
    loop {
        if permit.is_some() && (ready || began.elapsed() > START) {
            permit = None;
        }
        let path = if ready { "/live" } else { "/ready" };
        match probe::status(&host, port, path).await {
            Some(200) if !ready => {
                ready = true;
                slot.show(|state| (state.status, state.problem) = (Status::Running, None));
            }
            Some(_) => silent = 0,
            // One that has just been started does not listen yet.
            None if ready || began.elapsed() > START => silent += 1,
            None => {}
        }
        if silent >= HUNG {
            return;
        }
        let eager = !ready && began.elapsed() < START;
        sleep(if eager { EAGER } else { CALM }).await;
    }
}
