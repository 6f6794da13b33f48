//! What an instance is: a child process, or a container.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use base::ProjectRef;
use procs::process::ProcessId;

use crate::conf::Listen;
use crate::docker::Docker;
pub use crate::docker::DockerConfig;
use crate::error::Error;
use crate::process::Instance;
pub use crate::process::{ProcessConfig, Program};

/// How long requests under way may take when an instance ends. Shorter than a server's own patience with its tasks.
pub(crate) const ENDING: Duration = Duration::from_millis(1_500);

/// Ports of an instance inside its container, where it is alone.
const CONTAINER_PORTS: (u16, u16) = (3000, 3001);

/// Which of the two, and how.
#[derive(Clone, Debug)]
pub enum BackendConfig {
    Process(ProcessConfig),
    Docker(DockerConfig),
}

pub(crate) enum Backend {
    Process(ProcessConfig),
    Docker(Box<Docker>),
}

/// What runs.
pub(crate) enum Running {
    Process(Instance),
    Container { name: String, id: String },
}

/// What a running instance goes by, for signals and lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunningId {
    Process(ProcessId),
    Container { name: String, id: String },
}

impl RunningId {
    /// `containerId` of the contract.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Process(id) => id.pid.to_string(),
            Self::Container { id, .. } => id.clone(),
        }
    }
}

impl Backend {
    pub(crate) fn new(config: BackendConfig) -> Result<Self, Error> {
        Ok(match config {
            BackendConfig::Process(config) => Self::Process(config),
            BackendConfig::Docker(config) => Self::Docker(Box::new(Docker::new(config)?)),
        })
    }

    /// Where a new instance can listen; `taken` are first ports of others.
    pub(crate) fn listen(&self, taken: &BTreeSet<u16>) -> Result<Listen, Error> {
        match self {
            Self::Docker(_) => {
                Ok(Listen { host: "*".to_owned(), port: CONTAINER_PORTS.0, admin_port: CONTAINER_PORTS.1 })
            }
            Self::Process(config) => {
                let (first, last) = config.ports;
                let is_free = |port: u16| TcpListener::bind((config.bind, port)).is_ok();
                let mut pairs = (first..last).step_by(2).filter(|port| !taken.contains(port));
                let port = pairs.find(|port| is_free(*port) && is_free(port + 1)).ok_or(Error::NoPort(first, last))?;
                Ok(Listen { host: config.bind.to_string(), port, admin_port: port + 1 })
            }
        }
    }

    /// The same with ports that are known already.
    pub(crate) fn listen_at(&self, (port, admin_port): (u16, u16)) -> Listen {
        match self {
            Self::Docker(_) => Listen { host: "*".to_owned(), port, admin_port },
            Self::Process(config) => Listen { host: config.bind.to_string(), port, admin_port },
        }
    }

    /// The host of an instance as the manager reaches it.
    pub(crate) fn host(&self, id: &ProjectRef) -> String {
        match self {
            Self::Docker(_) => container_name(id),
            Self::Process(config) => match config.bind {
                ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST).to_string(),
                ip => ip.to_string(),
            },
        }
    }

    /// The host as others reach it; none is the manager's own.
    pub(crate) fn public_host(&self, id: &ProjectRef) -> Option<String> {
        matches!(self, Self::Docker(_)).then(|| container_name(id))
    }

    /// Starts an instance, or takes over the one that runs.
    pub(crate) async fn start(
        &self,
        id: &ProjectRef,
        conf: &Path,
        noted: Option<ProcessId>,
    ) -> Result<(Running, bool), Error> {
        match self {
            Self::Docker(docker) => {
                let name = container_name(id);
                let (container, adopted) = docker.start(id, &name).await?;
                Ok((Running::Container { name, id: container }, adopted))
            }
            Self::Process(config) => {
                if let Some(instance) = config.program.adopt(conf, noted).await {
                    return Ok((Running::Process(instance), true));
                }
                let started = config.program.start(conf);
                let started =
                    started.map_err(Error::io(format!("{} cannot be started", config.program.path.display())));
                started.map(|instance| (Running::Process(instance), false))
            }
        }
    }

    pub(crate) fn id_of(&self, running: &Running) -> RunningId {
        match running {
            Running::Process(instance) => RunningId::Process(instance.id.clone()),
            Running::Container { name, id } => RunningId::Container { name: name.clone(), id: id.clone() },
        }
    }

    /// Waits for the end of an instance.
    pub(crate) async fn ended(&self, running: &mut Running) -> String {
        match (self, running) {
            (_, Running::Process(instance)) => instance.ended().await,
            (Self::Docker(docker), Running::Container { id, .. }) => docker.ended(id).await,
            (Self::Process(_), Running::Container { .. }) => "it is no process".to_owned(),
        }
    }

    /// Ends an instance, in order or at once.
    pub(crate) async fn end(&self, running: &mut Running, in_order: bool) {
        match (self, running) {
            (_, Running::Process(instance)) if in_order => instance.end().await,
            (_, Running::Process(instance)) => instance.kill().await,
            (Self::Docker(docker), Running::Container { id, .. }) => {
                if let Err(error) = docker.remove(id, in_order).await {
                    tracing::warn!(%error, "a container cannot be removed");
                }
            }
            (Self::Process(_), Running::Container { .. }) => {}
        }
    }

    /// Removes what may be left of an instance that no keeper has.
    pub(crate) async fn clear(&self, id: &ProjectRef, conf: &Path) {
        match self {
            Self::Docker(docker) => docker.remove_ours(&container_name(id)).await,
            Self::Process(config) => drop(config.program.adopt(conf, None).await),
        }
    }

    /// Whether instances end with the manager: containers have a life of their own.
    pub(crate) fn ends_with_manager(&self) -> bool {
        matches!(self, Self::Process(_))
    }

    /// What is wrong with a configuration file, where a program is at hand that reads it.
    pub(crate) async fn check(&self, conf: &Path) -> Result<(), Error> {
        let program = match self {
            Self::Process(config) => Some(&config.program),
            Self::Docker(docker) => docker.config.checker.as_ref(),
        };
        let Some(program) = program else { return Ok(()) };
        let file = || conf.display().to_string();
        program.check(conf).await.map_err(|problem| Error::Conf { file: file(), problem })
    }

    pub(crate) async fn reload(&self, id: &RunningId) -> Result<(), Error> {
        match (self, id) {
            (Self::Process(config), RunningId::Process(id)) => {
                config.program.reload(id).map_err(Error::io(format!("process {} cannot be signalled", id.pid)))
            }
            (Self::Docker(docker), RunningId::Container { id, .. }) => docker.reload(id).await,
            _ => Ok(()),
        }
    }
}

/// `postgrest-<project id>`, as the specification has it.
pub(crate) fn container_name(id: &ProjectRef) -> String {
    format!("postgrest-{id}")
}
