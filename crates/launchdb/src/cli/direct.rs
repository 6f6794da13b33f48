//! Commands that work on PostgreSQL themselves, beside the server or without it: what they have to know of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::project::DatabaseTarget;
use base::{Clock, Secret};
use platform::backup::{BackupConfig, BackupFolder};
use platform::{Address, Ceilings, PlatformConfig, SettingDefaults};
use procs::binaries::Search;
use procs::unprivileged::RunAs;

use super::discovery;
use crate::config::secrets::{PLATFORM_DB_PASSWORD, PlatformSecrets};
use crate::config::{Config, Invocation, Source, source};
use crate::exit::{self, Exit, ResultExt as _};
use crate::run::storage::PLATFORM_DATABASE;
use crate::secrets_file;

/// The server's PostgreSQL and where its backups are.
pub struct Direct {
    pub platform: PlatformConfig,
    pub backup: BackupConfig,
    pub settings: crate::config::BackupSettings,
}

/// The server's settings, and its data folder.
pub fn config(source: &Source, data: Option<&Path>) -> Result<(Config, Option<PathBuf>), Exit> {
    let data = discovery::find_data_folder(source, data)?;
    let invocation = Invocation { data: data.clone(), ..Invocation::default() };
    Ok((Config::load(source, &invocation).exit(exit::CONFIG)?, data))
}

/// Finds out from the settings and the data folder, as the server does.
pub fn find(source: &Source, data: Option<&Path>) -> Result<Direct, Exit> {
    let (config, data) = config(source, data)?;
    let secrets = secrets(&config, data.as_deref())?;
    let (database, admin) = match &config.database.url {
        Some(database) => {
            let fallback = || DatabaseTarget { database: "postgres".to_owned(), ..database.clone() };
            (database.clone(), config.database.admin_url.clone().unwrap_or_else(fallback))
        }
        None => embedded(data.as_deref(), &config.database.superuser, &secrets)?,
    };
    let backup = BackupConfig {
        folder: BackupFolder::new(config.backup.folder(data.as_deref())),
        key: secrets.get("BACKUP_ENCRYPTION_KEY").cloned(),
        retention_days: config.backup.retention_days,
        least_free_bytes: crate::run::backups::least_free_bytes(&config),
        spared_bytes: crate::run::backups::SPARED_BYTES,
        search: Search { bin_dir: config.database.bin_dir.clone(), path: source::executable_path() },
        run_as: RunAs::for_this_process().exit(exit::FAILURE)?,
    };
    let platform = PlatformConfig {
        master_key: Arc::new(secrets.master_key().exit(exit::CONFIG)?),
        public_url: config.listen.public_url.clone(),
        domain: config.listen.domain.clone(),
        sign_up_allowed: false,
        retention: config.platform.retention,
        spare_count: 0,
        new_certificates_per_week: 0,
        database_address: Address { host: admin.host.clone(), port: admin.port },
        pooler_address: None,
        service_pooler: None,
        ceilings: Ceilings::default(),
        setting_defaults: SettingDefaults::default(),
        clock: Clock::system(),
        database,
        admin,
    };
    Ok(Direct { platform, backup, settings: config.backup })
}

/// The secrets that were given, and those of the data folder.
pub fn secrets(config: &Config, data: Option<&Path>) -> Result<PlatformSecrets, Exit> {
    let mut values = match data {
        Some(data) => secrets_file::read(&secrets_file::path(data))?,
        None => Default::default(),
    };
    values.extend(config.secrets.iter().map(|(name, value)| (name, value.clone())));
    PlatformSecrets::new(values).exit(exit::CONFIG)
}

/// The platform's database and the superuser's way into an embedded cluster.
fn embedded(
    data: Option<&Path>,
    superuser: &str,
    secrets: &PlatformSecrets,
) -> Result<(DatabaseTarget, DatabaseTarget), Exit> {
    let Some(data) = data else {
        return Err(Exit::message(
            exit::NOT_FOUND,
            "no data folder was found here, above, or in /var/lib/launchdb: name it with --data DIR, or set DATABASE_URL",
        ));
    };
    let port = std::fs::read_to_string(data.join("postgres").join("port")).ok();
    let port = port.and_then(|text| text.trim().parse::<u16>().ok());
    let address = port.map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    let is_open =
        |address: &std::net::SocketAddr| std::net::TcpStream::connect_timeout(address, Duration::from_secs(2)).is_ok();
    let Some(address) = address.filter(is_open) else {
        return Err(Exit::message(
            exit::UNREACHABLE,
            format!("PostgreSQL of {} does not run: start the server first", data.display()),
        ));
    };
    let target = |user: &str, secret: &str, database: &str| DatabaseTarget {
        host: address.ip().to_string(),
        port: address.port(),
        database: database.to_owned(),
        user: user.to_owned(),
        password: secrets.get(secret).cloned().unwrap_or_else(|| Secret::new(String::new())),
    };
    Ok((
        target(PLATFORM_DATABASE, PLATFORM_DB_PASSWORD, PLATFORM_DATABASE),
        target(superuser, "POSTGRES_SUPERUSER_PASSWORD", "postgres"),
    ))
}

/// Where the backups are; asks nobody.
pub fn backup_folder(source: &Source, data: Option<&Path>) -> Result<BackupFolder, Exit> {
    let data = discovery::find_data_folder(source, data)?;
    let mut reader = crate::config::reader::Reader::new(source);
    let settings = crate::config::BackupSettings::read(&mut reader, &Invocation::default());
    Ok(BackupFolder::new(settings.folder(data.as_deref())))
}
