//! Data APIs in processes of their own: where their manager is, and how it keeps them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use super::reader::Reader;

/// The specification's folder.
const SYSTEM_FOLDER: &str = "/etc/postgrest/projects";
/// Ports of instances when nobody says which.
const PORTS: (u16, u16) = (30_000, 30_999);
const MOST: usize = 200;
/// The image that `docker-compose build` makes.
const IMAGE: &str = "launchdb:local";

/// What an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceBackend {
    Process,
    Docker,
}

/// Dedicated instances of the data API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceSettings {
    /// Where the gateway finds the manager; without it there are no dedicated instances.
    pub manager_url: Option<String>,
    folder: Option<PathBuf>,
    pub backend: InstanceBackend,
    /// The program of an instance; none is this one.
    pub program: Option<PathBuf>,
    pub bind: IpAddr,
    pub ports: (u16, u16),
    pub most: usize,
    /// `DOCKER_HOST`, and what containers are made of.
    pub docker_host: Option<String>,
    pub image: String,
    pub network: String,
    pub volume: String,
}

impl InstanceSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        const BACKEND: &str = "LAUNCHDB_POSTGREST_BACKEND";
        let backend = match reader.text(BACKEND).as_deref() {
            None | Some("process") => InstanceBackend::Process,
            Some("docker") => InstanceBackend::Docker,
            Some(_) => {
                reader.problem(BACKEND, "is unknown", "set it to process or docker");
                InstanceBackend::Process
            }
        };
        let docker_host = reader.text("DOCKER_HOST");
        if backend == InstanceBackend::Docker && docker_host.is_none() {
            reader.problem(
                "DOCKER_HOST",
                "is missing, so containers could not be made",
                "set DOCKER_HOST=tcp://docker-proxy:2375, a proxy that lets through what is needed only",
            );
        }
        let manager_url = reader.checked_text(
            "LAUNCHDB_POSTGREST_MANAGER_URL",
            "where the manager is, for instance http://127.0.0.1:9000",
            |text| url::Url::parse(text).is_ok_and(|url| url.scheme() == "http" && url.host().is_some()),
        );
        Self {
            manager_url: manager_url.map(|url| url.trim_end_matches('/').to_owned()),
            folder: reader.text("LAUNCHDB_POSTGREST_DIR").map(PathBuf::from),
            backend,
            program: reader.text("LAUNCHDB_POSTGREST_BIN").map(PathBuf::from),
            bind: reader
                .parsed_opt("LAUNCHDB_POSTGREST_BIND", "an IP address", |_: &IpAddr| true)
                .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ports: ports(reader),
            most: reader.parsed("LAUNCHDB_POSTGREST_MAX", MOST, "a number of instances above 0", |n| *n > 0),
            docker_host,
            image: reader.text("LAUNCHDB_POSTGREST_IMAGE").unwrap_or_else(|| IMAGE.to_owned()),
            network: reader.text("LAUNCHDB_POSTGREST_NETWORK").unwrap_or_else(|| "launchdb_internal".to_owned()),
            volume: reader.text("LAUNCHDB_POSTGREST_VOLUME").unwrap_or_else(|| "launchdb_postgrest-configs".to_owned()),
        }
    }

    /// Where configuration files are.
    pub fn folder(&self, data: Option<&Path>) -> PathBuf {
        match (&self.folder, data) {
            (Some(folder), _) => folder.clone(),
            (None, Some(data)) => data.join("postgrest"),
            (None, None) => PathBuf::from(SYSTEM_FOLDER),
        }
    }
}

fn ports(reader: &mut Reader<'_>) -> (u16, u16) {
    const NAME: &str = "LAUNCHDB_POSTGREST_PORTS";
    let Some(text) = reader.text(NAME) else { return PORTS };
    let parts = text.split_once('-');
    match parts.and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?))) {
        Some((first, last)) if first > 0 && first < last => (first, last),
        _ => {
            reader.problem(NAME, "is no range of ports", "write it as 30000-30999; each instance takes two");
            PORTS
        }
    }
}
