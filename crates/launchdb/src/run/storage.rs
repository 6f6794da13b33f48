//! What a server stands on: data folder, secrets and PostgreSQL, opened in the order in which a refusal touches nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base::project::DatabaseTarget;
use base::{Clock, Secret};
use platform::watchdog::{DiskConfig, MemoryConfig};
use platform::{Address, Ceilings, PlatformConfig, SettingDefaults};
use procs::binaries::{Binaries, Search};
use procs::data_dir::{DataDir, DataDirError};
use procs::machine;
use procs::pgbackrest::PgBackRest;
use procs::postgres::{Backends, Cluster, ClusterConfig, ClusterError};

use crate::config::secrets::{PLATFORM_DB_PASSWORD, PlatformSecrets};
use crate::config::{Config, source};
use crate::exit::{self, Exit, ResultExt as _};
use crate::secrets_file;

const MIB: u64 = 1024 * 1024;

/// Name of the platform database of an embedded cluster, and of the role that owns it.
pub const PLATFORM_DATABASE: &str = "platform";

/// Data folder and PostgreSQL, held until the server's end.
pub struct Storage {
    /// Locked for this process; none with a given database and no folder.
    pub data: Option<DataDir>,
    /// None when PostgreSQL is not ours.
    pub cluster: Option<Cluster>,
    pub secrets: PlatformSecrets,
}

impl Storage {
    /// Takes the data folder, reads or makes the secrets, starts PostgreSQL.
    pub async fn open(config: &Config) -> Result<Self, Exit> {
        if !config.is_embedded() {
            let data = config.data.as_deref().map(open_data).transpose()?;
            let secrets = match &data {
                Some(data) => secrets_file::complete(data.path(), &config.secrets, false)?,
                None => {
                    PlatformSecrets::new(config.secrets.iter().map(|(name, value)| (name, value.clone())).collect())
                        .exit(exit::CONFIG)?
                }
            };
            return Ok(Self { data, cluster: None, secrets });
        }
        let path = config.data.clone().unwrap_or_else(|| PathBuf::from(crate::config::DATA_FOLDER_NAME));
        let search = Search { bin_dir: config.database.bin_dir.clone(), path: source::executable_path() };
        // Without PostgreSQL not even the folder is made.
        if !path.exists() {
            Binaries::find(&search).exit(exit::POSTGRES)?;
        }
        let data = open_data(&path)?;
        let first_start = !data.postgres_dir().join("data").exists();
        let secrets = secrets_file::complete(data.path(), &config.secrets, first_start)?;
        // Checked before anything is sealed with it.
        secrets.master_key().exit(exit::CONFIG)?;
        let password = secret(&secrets, "POSTGRES_SUPERUSER_PASSWORD")?;
        if first_start {
            tracing::info!(data = %data.path().display(), "making a new PostgreSQL cluster");
        }
        let project_memory = project_memory(config.platform.project_memory, machine::memory_bytes());
        // Enabled and without the program, the log would pile up until the disk is full.
        let archive_command = match PgBackRest::is_enabled(data.path()) {
            true => {
                let found = PgBackRest::find(data.path(), data.run_as().clone(), &search).exit(exit::POSTGRES)?;
                Some(found.archive_command())
            }
            false => None,
        };
        let cluster_config = ClusterConfig {
            superuser: config.database.superuser.clone(),
            port: config.database.port,
            backend_memory: project_memory.map(backend_memory),
            archive_command,
            ..ClusterConfig::new(data.postgres_dir(), data.run_as().clone(), search, password)
        };
        let cluster = Cluster::open(cluster_config).await.map_err(cluster_refused)?;
        Ok(Self { data: Some(data), cluster: Some(cluster), secrets })
    }

    /// The disk that the watchdog guards: PostgreSQL's, when that is ours.
    pub fn disk(&self, config: &Config) -> Option<DiskConfig> {
        let reserve = config.platform.disk_reserve;
        let folder = self.data_path().filter(|_| self.cluster.is_some() && reserve > 0)?;
        Some(DiskConfig { low_bytes: reserve, ballast_bytes: reserve / 8, ..DiskConfig::new(folder.to_owned()) })
    }

    /// PostgreSQL's processes, when it is ours.
    pub fn backends(&self) -> Option<Backends> {
        self.cluster.as_ref().map(Cluster::backends)
    }

    /// The memory that the watchdog guards.
    pub fn memory(&self, config: &Config) -> Option<MemoryConfig> {
        let cluster = self.cluster.as_ref()?;
        let bytes = project_memory(config.platform.project_memory, machine::memory_bytes())?;
        Some(MemoryConfig::new(cluster.backends(), bytes))
    }

    /// Bytes that a project's database may have.
    pub fn quota(&self, config: &Config) -> Option<i64> {
        let folder = self.data_path().filter(|_| self.cluster.is_some())?;
        let disk = rustix::fs::statvfs(folder).ok().map(|stat| stat.f_blocks.saturating_mul(stat.f_frsize));
        project_quota(config.platform.project_quota, disk)
    }

    /// What the control plane has to know.
    pub fn platform_config(&self, config: &Config, public_url: &str) -> Result<PlatformConfig, Exit> {
        let (database, admin, own_address) = match (&self.cluster, &config.database.url) {
            (Some(cluster), _) => {
                let target = |user: &str, password: Secret<String>, database: &str| DatabaseTarget {
                    host: cluster.socket_dir().display().to_string(),
                    port: cluster.port(),
                    database: database.to_owned(),
                    user: user.to_owned(),
                    password,
                };
                let own = secret(&self.secrets, PLATFORM_DB_PASSWORD)?;
                let superuser = secret(&self.secrets, "POSTGRES_SUPERUSER_PASSWORD")?;
                (
                    target(PLATFORM_DATABASE, own, PLATFORM_DATABASE),
                    target(cluster.superuser(), superuser, "postgres"),
                    Address { host: "127.0.0.1".to_owned(), port: cluster.port() },
                )
            }
            (None, Some(database)) => {
                // The platform's own database may have to be made yet, so the way in is the one that always exists.
                let fallback = || DatabaseTarget { database: "postgres".to_owned(), ..database.clone() };
                let admin = config.database.admin_url.clone().unwrap_or_else(fallback);
                let address = Address { host: admin.host.clone(), port: admin.port };
                (database.clone(), admin, address)
            }
            (None, None) => return Err(Exit::message(exit::CONFIG, "there is neither a cluster nor DATABASE_URL")),
        };
        let address = |given: &Option<(String, u16)>| given.clone().map(|(host, port)| Address { host, port });
        Ok(PlatformConfig {
            database,
            admin,
            master_key: Arc::new(self.secrets.master_key().exit(exit::CONFIG)?),
            public_url: public_url.to_owned(),
            domain: config.listen.domain.clone(),
            sign_up_allowed: config.platform.signup_enabled,
            retention: config.platform.retention,
            spare_count: config.platform.spares,
            new_certificates_per_week: config.platform.new_certificates_per_week,
            database_address: address(&config.database.public_address).unwrap_or(own_address),
            pooler_address: address(&config.database.pooler_address),
            service_pooler: None,
            ceilings: Ceilings {
                max_body_bytes: config.limits.project_body_bytes,
                db_pool: config.limits.project_db_pool,
                statement_timeout_ms: config.limits.project_statement_timeout_ms,
                file_size_limit: config.files.max_file_bytes,
                dedicated_instances: config.instances.manager_url.is_some(),
            },
            setting_defaults: SettingDefaults {
                jwt_exp: config.platform.access_token_seconds,
                sessions_inactivity_timeout: config.platform.refresh_token_seconds,
            },
            clock: Clock::system(),
        })
    }

    pub fn data_path(&self) -> Option<&Path> {
        self.data.as_ref().map(DataDir::path)
    }

    /// Where PostgreSQL is, for people.
    pub fn database_text(&self) -> String {
        match &self.cluster {
            Some(cluster) => {
                format!("{} on 127.0.0.1:{} (private)", cluster.binaries().version(), cluster.port())
            }
            None => "the server of DATABASE_URL".to_owned(),
        }
    }

    /// Stops PostgreSQL, when it is ours, and lets the data folder go.
    pub async fn close(self) {
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
        drop(self.data);
    }
}

/// Bytes that the sessions of one project may have together: as given, or a quarter of the machine's within reason. None
/// when that is switched off.
fn project_memory(given: Option<u64>, machine: Option<u64>) -> Option<u64> {
    match (given, machine) {
        (Some(0), _) => None,
        (Some(given), _) => Some(given),
        (None, Some(machine)) => Some((machine / 4).clamp(256 * MIB, 4096 * MIB)),
        (None, None) => Some(512 * MIB),
    }
}

/// A quarter of the disk, unless given: a project that fills it would make all others read-only.
fn project_quota(given: Option<u64>, disk: Option<u64>) -> Option<i64> {
    let bytes = match given {
        Some(0) => return None,
        Some(given) => given,
        None => (disk? / 4).max(1024 * MIB),
    };
    Some(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Bytes that one backend may have of them: the statement that wants more fails, before the project has to lose a session.
fn backend_memory(project: u64) -> u64 {
    (project / 2).clamp(64 * MIB, 512 * MIB)
}

fn secret(secrets: &PlatformSecrets, name: &str) -> Result<Secret<String>, Exit> {
    secrets.get(name).cloned().with_context(|| format!("{name} is missing")).exit(exit::CONFIG)
}

fn open_data(path: &Path) -> Result<DataDir, Exit> {
    DataDir::open(path).map_err(|error| {
        let code = match &error {
            DataDirError::Locked { .. } => exit::DATA_LOCKED,
            DataDirError::Io { .. } => exit::FAILURE,
            _ => exit::DATA_REFUSED,
        };
        Exit::new(code, error)
    })
}

fn cluster_refused(error: ClusterError) -> Exit {
    let code = match &error {
        ClusterError::PortTaken { .. } => exit::PORT_USED,
        ClusterError::Access(_) | ClusterError::Owner { .. } | ClusterError::Damaged { .. } => exit::DATA_REFUSED,
        ClusterError::Io { .. } => exit::FAILURE,
        _ => exit::POSTGRES,
    };
    Exit::new(code, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_survives_a_greedy_project() {
        let check = |given, machine: u64, project, backend| {
            let bytes = project_memory(given, Some(machine * MIB));
            assert_eq!(bytes.map(|bytes| (bytes / MIB, backend_memory(bytes) / MIB)), Some((project, backend)));
        };
        check(None, 1024, 256, 128);
        check(None, 2048, 512, 256);
        check(None, 4096, 1024, 512);
        check(None, 65_536, 4096, 512);
        check(Some(128 * MIB), 2048, 128, 64);
        assert_eq!(project_memory(Some(0), Some(1)), None);
        for (given, disk, quota) in [
            (None, Some(100 * 1024 * MIB), Some(25 * 1024 * MIB)),
            (None, Some(MIB), Some(1024 * MIB)),
            (None, None, None),
            (Some(64 * MIB), Some(MIB), Some(64 * MIB)),
            (Some(0), Some(MIB), None),
        ] {
            assert_eq!(project_quota(given, disk), quota.map(|bytes| bytes.cast_signed()), "{given:?} {disk:?}");
        }
        assert_eq!(project_memory(None, None), Some(512 * MIB));
    }
}
