//! All instances: what operators and the platform ask for, and what the projects' settings do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::settings::DataApiInstance;
use base::{Project, ProjectRef, ProjectStatus, ProjectTable};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::{Backend, BackendConfig, container_name};
use crate::conf::{self, Conf, Listen};
use crate::error::Error;
use crate::folder::{Folder, Note, Origin};
pub use crate::keeper::Status;
use crate::keeper::{Rendered, Slot, State, Wanted, Workshop, keep};

/// How long after a project's change its instance may be the old one.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an instance that a setting does not want any more stays, so that every gateway has heard of it.
const GRACE: Duration = Duration::from_secs(5);
/// How long a request waits for an instance to be ready, or gone.
const PATIENCE: Duration = Duration::from_secs(25);
/// Instances that start at once.
const STARTS: usize = 4;

/// How instances are kept.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Where configuration files are, `/etc/postgrest/projects` in the specification.
    pub folder: PathBuf,
    pub backend: BackendConfig,
    /// Most instances.
    pub most: usize,
    /// The server's public URL, without a slash at its end.
    pub public_url: String,
}

/// An instance as it is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub id: ProjectRef,
    /// Process or container; none while there is none.
    pub container_id: Option<String>,
    pub container_name: String,
    /// None: the manager's own host.
    pub host: Option<String>,
    pub port: u16,
    pub status: Status,
    pub problem: Option<String>,
    pub restarts: u64,
}

/// The instances of this server. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    workshop: Arc<Workshop>,
    projects: Arc<ProjectTable>,
    most: usize,
    public_url: String,
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    keepers: TaskTracker,
    shutdown: CancellationToken,
}

impl Fleet {
    /// Takes the folder; starts nothing before [`Fleet::run`].
    ///
    /// # Errors
    /// When the folder cannot be used, or another manager has it.
    pub fn open(config: FleetConfig, projects: Arc<ProjectTable>, shutdown: CancellationToken) -> Result<Self, Error> {
        let workshop = Workshop {
            backend: Backend::new(config.backend)?,
            folder: Folder::open(&config.folder)?,
            starting: Semaphore::new(STARTS),
        };
        Ok(Self(Arc::new(Inner {
            workshop: Arc::new(workshop),
            projects,
            most: config.most,
            public_url: config.public_url,
            slots: Mutex::default(),
            keepers: TaskTracker::new(),
            shutdown,
        })))
    }

    /// Takes up what an earlier manager left, then follows the projects until the shutdown.
    pub async fn run(self) {
        if let Err(error) = self.take_up().await {
            tracing::error!(cause = %web::error::chain(&error), "instances of an earlier manager cannot be read");
        }
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.0.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            for project in self.0.projects.all() {
                self.follow(&project).await;
            }
            for slot in self.slots() {
                if self.0.projects.get(&slot.id).is_none() {
                    self.spawn_deletion(slot);
                }
            }
        }
        self.0.keepers.close();
        self.0.keepers.wait().await;
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn slot(&self, id: &ProjectRef) -> Option<Arc<Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).get(id.as_str()).cloned()
    }

    async fn take_up(&self) -> Result<(), Error> {
        let folder = &self.0.workshop.folder;
        for id in folder.projects()? {
            let conf = folder.read_conf(&id);
            let note = folder.note(&id).unwrap_or_else(|| Note::new(Origin::Request));
            let Some(project) = self.0.projects.get(&id) else {
                tracing::warn!(project.r#ref = %id, "an instance of a project that is gone is removed");
                self.0.workshop.backend.clear(&id, &folder.conf(&id)).await;
                folder.forget(&id)?;
                continue;
            };
            if note.held_off {
                continue;
            }
            let known = conf.as_deref().and_then(conf::ports).map(|ports| self.0.workshop.backend.listen_at(ports));
            if let Err(error) = self.put(&project, note, known) {
                tracing::warn!(project.r#ref = %id, cause = %web::error::chain(&error), "an instance cannot be taken up");
            }
        }
        Ok(())
    }

    /// Writes the configuration and starts a keeper.
    fn put(&self, project: &Project, note: Note, listen: Option<Listen>) -> Result<Arc<Slot>, Error> {
        let (inner, id) = (&self.0, &project.project_ref);
        let mut slots = inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.contains_key(id.as_str()) {
            return Err(Error::Running(id.clone()));
        }
        if slots.len() >= inner.most {
            return Err(Error::Full(inner.most));
        }
        let taken: BTreeSet<u16> = slots.values().map(|slot| slot.listen.port).collect();
        let listen = match listen.filter(|listen| !taken.contains(&listen.port) || listen.host == "*") {
            Some(listen) => listen,
            None => inner.workshop.backend.listen(&taken)?,
        };
        let conf = Conf::of(project, &listen, &inner.public_url);
        inner.workshop.folder.write_conf(id, conf.clone(), None)?;
        inner.workshop.folder.write_note(id, &note)?;
        let rendered = Rendered { conf, revision: project.revision };
        let slot = Arc::new(Slot::new(id.clone(), listen, wanted_of(project, None), rendered, note));
        slots.insert(id.to_string(), slot.clone());
        drop(slots);
        inner.keepers.spawn(keep(inner.workshop.clone(), slot.clone(), inner.shutdown.clone()));
        Ok(slot)
    }

    /// Brings what there is of a project's instance to what the project is now.
    async fn follow(&self, project: &Project) {
        let id = &project.project_ref;
        let asks = project.data_api.instance == DataApiInstance::Dedicated;
        let Some(slot) = self.slot(id) else {
            if asks && project.status == ProjectStatus::Active {
                let held_off = self.0.workshop.folder.note(id).is_some_and(|note| note.held_off);
                if !held_off && let Err(error) = self.put(project, Note::new(Origin::Setting), None) {
                    tracing::warn!(project.r#ref = %id, cause = %web::error::chain(&error), "no instance can be started");
                }
            }
            return;
        };
        // Who changes it now looks at the project, too.
        let Ok(changing) = slot.changing.try_lock() else { return };
        let is_unwanted = slot.note().origin == Origin::Setting && !asks;
        let since = {
            let mut since = slot.unwanted_since.lock().unwrap_or_else(PoisonError::into_inner);
            *since = if is_unwanted { since.or_else(|| Some(Instant::now())) } else { None };
            *since
        };
        let is_gone = project.status == ProjectStatus::Deleted;
        if is_gone || since.is_some_and(|since| since.elapsed() >= GRACE) {
            drop(changing);
            self.spawn_deletion(slot);
            return;
        }
        let now = *slot.wanted.borrow();
        if now == Wanted::Stop {
            return;
        }
        slot.want(wanted_of(project, Some(now)));
        if let Err(error) = self.refresh(&slot, project).await {
            tracing::warn!(project.r#ref = %id, cause = %web::error::chain(&error), "an instance cannot be told of a change");
        }
    }

    /// Writes the configuration anew when the project is another, and has the instance take it over.
    async fn refresh(&self, slot: &Slot, project: &Project) -> Result<(), Error> {
        let inner = &self.0;
        let (conf, before) = {
            let rendered = slot.rendered.lock().unwrap_or_else(PoisonError::into_inner);
            if rendered.revision == project.revision {
                return Ok(());
            }
            (Conf::of(project, &slot.listen, &inner.public_url), rendered.conf.clone())
        };
        inner.workshop.folder.write_conf(&slot.id, conf.clone(), Some(&before))?;
        let (is_other, starts_anew) = (conf != before, conf.fixed != before.fixed);
        *slot.rendered.lock().unwrap_or_else(PoisonError::into_inner) = Rendered { conf, revision: project.revision };
        let running = slot.state.borrow().running.clone();
        match running {
            _ if starts_anew => slot.replace_running(),
            Some(running) if is_other => inner.workshop.backend.reload(&running).await?,
            _ => {}
        }
        Ok(())
    }

    /// Starts an instance and waits until it is ready. When it does not start, nothing is left of it.
    pub async fn spawn(&self, id: &ProjectRef) -> Result<View, Error> {
        let project = self.0.projects.get(id).ok_or_else(|| Error::NoSuchProject(id.clone()))?;
        match project.status {
            ProjectStatus::Active => {}
            ProjectStatus::Deleted => return Err(Error::NoSuchProject(id.clone())),
            _ => return Err(Error::NotActive(id.clone())),
        }
        if let Some(present) = self.slot(id) {
            let is_ending = *present.wanted.borrow() == Wanted::Stop;
            return Err(if is_ending { Error::Busy(id.clone()) } else { Error::Running(id.clone()) });
        }
        let slot = self.put(&project, Note::new(Origin::Request), None)?;
        let mut state = slot.state.subscribe();
        let settled = |state: &State| matches!(state.status, Status::Running | Status::Restarting | Status::Stopped);
        let problem = match timeout(PATIENCE, state.wait_for(settled)).await {
            Ok(Ok(state)) if state.status == Status::Restarting => state.problem.clone(),
            _ => None,
        };
        match problem {
            None => Ok(self.view(&slot)),
            Some(problem) => {
                let (backend, folder) = (&self.0.workshop.backend, &self.0.workshop.folder);
                // The program itself knows better what it does not like.
                let problem = match backend.check(&folder.conf(id)).await {
                    Err(Error::Conf { problem, .. }) => problem,
                    _ => problem,
                };
                self.take_down(&slot, false).await?;
                Err(Error::Start { project: id.clone(), problem })
            }
        }
    }

    /// Has an instance read its configuration again, without a request dropped. A file that was edited by hand is looked
    /// at first: one that is wrong is refused, and the instance goes on as it is.
    pub async fn reload(&self, id: &ProjectRef) -> Result<View, Error> {
        let slot = self.slot(id).ok_or_else(|| Error::NotRunning(id.clone()))?;
        let Ok(_changing) = slot.changing.try_lock() else { return Err(Error::Busy(id.clone())) };
        if let Some(project) = self.0.projects.get(id) {
            self.refresh(&slot, &project).await?;
        }
        let (workshop, conf) = (&self.0.workshop, self.0.workshop.folder.conf(id));
        if !conf.exists() {
            let rendered = slot.rendered.lock().unwrap_or_else(PoisonError::into_inner).conf.clone();
            workshop.folder.write_conf(id, rendered, None)?;
        }
        workshop.backend.check(&conf).await?;
        let running = slot.state.borrow().running.clone();
        match running {
            Some(running) => workshop.backend.reload(&running).await?,
            None => return Err(Error::NotRunning(id.clone())),
        }
        Ok(self.view(&slot))
    }

    /// Ends an instance and forgets it. That there is none is no error.
    pub async fn delete(&self, id: &ProjectRef) -> Result<(), Error> {
        let Some(slot) = self.slot(id) else {
            self.hold_off(id)?;
            return Ok(());
        };
        self.take_down(&slot, true).await
    }

    async fn take_down(&self, slot: &Arc<Slot>, is_asked: bool) -> Result<(), Error> {
        // Two that take it down wait for each other.
        let _changing = slot.changing.lock().await;
        slot.want(Wanted::Stop);
        let mut state = slot.state.subscribe();
        let ended = |state: &State| state.status == Status::Stopped && state.running.is_none();
        let ended = timeout(PATIENCE, state.wait_for(ended)).await.is_ok();
        if !ended {
            return Err(Error::Busy(slot.id.clone()));
        }
        let is_known = {
            let slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.get(slot.id.as_str()).is_some_and(|present| Arc::ptr_eq(present, slot))
        };
        if is_known {
            self.0.workshop.folder.forget(&slot.id)?;
            if is_asked {
                self.hold_off(&slot.id)?;
            }
            self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(slot.id.as_str());
        }
        Ok(())
    }

    /// Notes that an operator does not want the instance that the project's setting asks for.
    fn hold_off(&self, id: &ProjectRef) -> Result<(), Error> {
        let asks = |project: &Arc<Project>| project.data_api.instance == DataApiInstance::Dedicated;
        if self.0.projects.get(id).as_ref().is_some_and(asks) {
            let note = Note { held_off: true, ..Note::new(Origin::Setting) };
            self.0.workshop.folder.write_note(id, &note)?;
            self.0.workshop.folder.forget_conf(id);
        }
        Ok(())
    }

    fn spawn_deletion(&self, slot: Arc<Slot>) {
        // A second one at once would find nothing to do.
        if !slot.want(Wanted::Stop) {
            return;
        }
        let fleet = self.clone();
        self.0.keepers.spawn(async move {
            if let Err(error) = fleet.take_down(&slot, false).await {
                tracing::warn!(project.r#ref = %slot.id, cause = %web::error::chain(&error), "an instance is not gone yet");
            }
        });
    }

    /// Does something to its end: a caller that hangs up must not leave it half-done.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let lost = |error| Error::Io { what: "the request".to_owned(), source: std::io::Error::other(error) };
        self.0.keepers.spawn(work).await.map_err(lost)?
    }

    /// Every instance, by its project's id.
    pub fn list(&self) -> Vec<View> {
        self.slots().iter().map(|slot| self.view(slot)).collect()
    }

    fn view(&self, slot: &Slot) -> View {
        let state = slot.state.borrow().clone();
        View {
            id: slot.id.clone(),
            container_id: state.running.as_ref().map(crate::backend::RunningId::text),
            container_name: container_name(&slot.id),
            host: self.0.workshop.backend.public_host(&slot.id),
            port: slot.listen.port,
            status: state.status,
            problem: state.problem,
            restarts: state.restarts,
        }
    }
}

/// What a project's status wants of its instance.
fn wanted_of(project: &Project, now: Option<Wanted>) -> Wanted {
    match (project.status, now) {
        (ProjectStatus::Active, Some(run @ Wanted::Run(_))) => run,
        (ProjectStatus::Active, _) => Wanted::Run(0),
        _ => Wanted::Pause,
    }
}
