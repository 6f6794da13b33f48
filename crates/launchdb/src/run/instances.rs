//! Data APIs in processes of their own: the manager, when this process is it, and the way to its instances.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use base::{ProjectTable, Secret, WriteGate};
use dedicated::backend::{DockerConfig, ProcessConfig, Program};
use dedicated::fleet::Status;
use dedicated::{BackendConfig, Fleet, FleetConfig, Way, WayConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use web::HttpService;
use web::health::HealthPart;

use super::server::Start;
use super::storage::Storage;
use crate::config::secrets::PlatformSecrets;
use crate::config::{Config, InstanceBackend, Service, source};
use crate::exit::{self, Exit, ResultExt as _};

const KEY: &str = "INTERNAL_API_KEY";

pub(super) struct Instances {
    /// In the manager's own process.
    pub(super) fleet: Option<Fleet>,
    /// Where a manager is known.
    way: Option<Way>,
}

impl Instances {
    /// Starts what there is to start.
    pub(super) fn open(
        start: &Start,
        storage: &Storage,
        public_url: &str,
        projects: &Arc<ProjectTable>,
        shutdown: &CancellationToken,
        loops: &mut JoinSet<()>,
    ) -> Result<Self, Exit> {
        let config = &start.config;
        let mut instances = Self { fleet: None, way: None };
        if start.only == Some(Service::PostgrestManager) {
            key(&storage.secrets)?;
            let fleet_config = fleet_config(config, storage.data_path(), public_url)?;
            let fleet = Fleet::open(fleet_config, projects.clone(), shutdown.clone()).exit(exit::CONFIG)?;
            loops.spawn(fleet.clone().run());
            instances.fleet = Some(fleet);
        } else if let (Some(url), true) = (&config.instances.manager_url, start.answers(Service::Rest)) {
            let key = key(&storage.secrets)?;
            let way = Way::new(WayConfig { manager_url: url.parse().exit(exit::CONFIG)?, key });
            loops.spawn(way.clone().run(shutdown.clone()));
            instances.way = Some(way);
        }
        Ok(instances)
    }

    /// The data API with dedicated instances in front of the shared engine.
    pub(super) fn before(&self, shared: HttpService, gate: &WriteGate) -> HttpService {
        match &self.way {
            Some(way) => way.service(shared, gate.clone()),
            None => shared,
        }
    }
}

fn key(secrets: &PlatformSecrets) -> Result<Secret<String>, Exit> {
    secrets.get(KEY).cloned().ok_or_else(|| {
        Exit::message(
            exit::CONFIG,
            "the postgrest-manager and those who ask it need INTERNAL_API_KEY: set INTERNAL_API_KEY=$(openssl rand -hex 32)",
        )
    })
}

/// The manager's API.
pub(super) fn router(fleet: &Fleet, secrets: &PlatformSecrets) -> Result<Router, Exit> {
    let keys = [Some(key(secrets)?), secrets.get("POSTGREST_ADMIN_KEY").cloned()];
    Ok(dedicated::api::router(fleet.clone(), keys.into_iter().flatten().collect()))
}

/// The manager serves whatever its instances do.
pub(super) fn health(fleet: &Fleet) -> HealthPart {
    const PART: &str = "instances";
    let views = fleet.list();
    let away = views.iter().filter(|view| view.status == Status::Restarting).count();
    match away {
        0 => HealthPart::ok(PART),
        away => HealthPart::limited(PART, format!("{away} of {} do not run", views.len())),
    }
}

fn fleet_config(config: &Config, data: Option<&Path>, public_url: &str) -> Result<FleetConfig, Exit> {
    let settings = &config.instances;
    let folder = std::path::absolute(settings.folder(data)).exit(exit::CONFIG)?;
    let backend = match settings.backend {
        InstanceBackend::Process => BackendConfig::Process(ProcessConfig {
            program: program(settings.program.as_deref())?,
            bind: settings.bind,
            ports: settings.ports,
        }),
        InstanceBackend::Docker => {
            // An image of another name is a real postgrest's.
            let is_launchdb = settings.image.rsplit('/').next().is_some_and(|name| name.starts_with("launchdb"));
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            BackendConfig::Docker(DockerConfig {
                host: settings.docker_host.clone().unwrap_or_default(),
                image: settings.image.clone(),
                command: if is_launchdb { vec!["rest".to_owned()] } else { Vec::new() },
                network: settings.network.clone(),
                volume: settings.volume.clone(),
                mount: folder.parent().unwrap_or(&folder).display().to_string(),
                folder: folder.display().to_string(),
                user: format!("{uid}:{gid}"),
                is_launchdb,
                checker: if is_launchdb { Some(program(None)?) } else { None },
            })
        }
    };
    Ok(FleetConfig { folder, backend, most: settings.most, public_url: public_url.to_owned() })
}

/// The program of instances: this one, or the one that is named, which says itself what it is.
fn program(named: Option<&Path>) -> Result<Program, Exit> {
    let Some(named) = named else {
        let path = source::own_program().exit(exit::FAILURE)?;
        return Ok(Program { path, arguments: vec!["rest".to_owned()], is_launchdb: true });
    };
    let output = std::process::Command::new(named).arg("--version").env_clear().output();
    let refused =
        |why: String| Exit::message(exit::CONFIG, format!("{} (LAUNCHDB_POSTGREST_BIN): {why}", named.display()));
    let output = output.map_err(|error| refused(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || !text.contains("PostgREST") {
        return Err(refused("it is no postgrest: --version does not say so".to_owned()));
    }
    Ok(Program { path: named.to_owned(), arguments: Vec::new(), is_launchdb: text.contains("LaunchDB") })
}
