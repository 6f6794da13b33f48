//! Configuration: read once, at the start, from a [`Source`]; validated into [`Config`], with every problem reported together.
//!
//! No other module of the project reads the environment. The names are those of the specification; ours start with
//! `LAUNCHDB_`.

mod backup;
pub mod files;
mod instances;
mod limits;
mod names;
mod pooler;
pub mod postgrest;
pub mod reader;
pub mod secrets;
mod service;
pub mod source;
pub mod strength;
mod tls;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base::Secret;
use base::project::DatabaseTarget;
use procs::unprivileged::RunAs;

pub use self::backup::BackupSettings;
pub use self::files::FilesConfig;
pub use self::instances::{InstanceBackend, InstanceSettings};
pub use self::limits::LimitConfig;
use self::names::{KNOWN_NAMES, is_known_name};
pub use self::pooler::PoolerSettings;
use self::reader::Reader;
pub use self::secrets::GivenSecrets;
pub use self::service::Service;
pub use self::source::Source;
pub use self::tls::{AcmeConfig, TlsConfig, TlsFiles};
use crate::secrets_file;

/// One thing that is wrong with the configuration, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting's name, or the file's.
    pub name: String,
    /// What is wrong; reads as a sentence behind the name, and never holds the value of a secret.
    pub what: String,
    /// What to do, often a command.
    pub mend: String,
}

impl Problem {
    pub fn new(name: &str, what: &str, mend: &str) -> Self {
        Self { name: name.to_owned(), what: what.to_owned(), mend: mend.to_owned() }
    }
}

/// Everything that is wrong with a configuration; its text lists all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig(pub Vec<Problem>);

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "one setting is" } else { "some settings are" })?;
        f.write_str(" missing or wrong:")?;
        for problem in &self.0 {
            write!(f, "\n  {} {}\n      mend: {}", problem.name, problem.what, problem.mend)?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidConfig {}

/// What the command line says; it wins over the source.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// `serve` rather than `dev`: secrets and URLs have to be given, not invented.
    pub serve: bool,
    pub only: Option<Service>,
    pub data: Option<PathBuf>,
    pub port: Option<u16>,
    pub bind: Option<IpAddr>,
    /// Connections of the public port are TLS.
    pub tls: bool,
}

const HTTP_PORT: u16 = 80;
/// The port that https:// leads to without one.
pub const HTTPS_PORT: u16 = 443;

/// Listeners and what the outside sees.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    pub public: SocketAddr,
    /// Where the status page also answers, as the specification's dashboard port; none switches it off.
    pub status_port: Option<u16>,
    /// Whether the status port was asked for by name: then it has to be free.
    pub status_port_required: bool,
    /// Loopback port of metrics and health; 0 lets the system choose one.
    pub admin_port: u16,
    pub admin_port_required: bool,
    /// Builds every URL that is handed out; without a slash at its end.
    pub public_url: String,
    /// The part of project subdomains behind the project's label, when there is wildcard DNS.
    pub domain: Option<String>,
    pub trusted_proxies: Vec<String>,
    /// Origins that browsers may call the platform API from.
    pub cors_origins: Vec<String>,
    /// How long requests may take to end after SIGTERM.
    pub drain: Duration,
    /// None serves plain HTTP, behind a proxy that does TLS.
    pub tls: Option<TlsConfig>,
    /// Where plain HTTP is sent on to TLS; whether it was asked for by name.
    pub redirect_port: Option<(u16, bool)>,
}

/// Where PostgreSQL is.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// The platform database; none means the embedded cluster of the data folder.
    pub url: Option<DatabaseTarget>,
    /// The same server without a pooler between, as a role that may create databases and roles.
    pub admin_url: Option<DatabaseTarget>,
    /// PostgreSQL as outside clients reach it, when that differs from how we do: host and port.
    pub public_address: Option<(String, u16)>,
    /// The pooler as outside clients reach it.
    pub pooler_address: Option<(String, u16)>,
    /// Name of the cluster's superuser.
    pub superuser: String,
    /// Folder of PostgreSQL's programs; none searches the usual places.
    pub bin_dir: Option<PathBuf>,
    /// Loopback port of the embedded cluster; none lets the data folder's choice stand.
    pub port: Option<u16>,
    /// Most connections the data APIs of all projects may hold together.
    pub connection_budget: u32,
    /// A connection of a project is closed when it was idle for this long.
    pub idle: Duration,
}

/// The control plane.
#[derive(Clone, Debug)]
pub struct PlatformConfig {
    /// Whether anybody may sign up as an owner.
    pub signup_enabled: bool,
    /// E-mail address of the owner made at the first start.
    pub owner_email: String,
    pub owner_password: Option<Secret<String>>,
    /// How many complete projects are kept ready.
    pub spares: usize,
    /// Names of projects that get their first certificate in seven days; 0 is no limit.
    pub new_certificates_per_week: u32,
    /// How long a deleted project can be restored.
    pub retention: Duration,
    /// Free bytes of the embedded cluster's disk below which projects become read-only; 0 switches the guard off.
    pub disk_reserve: u64,
    /// Bytes that the sessions of one project may take of an embedded cluster's memory; 0 is off, none leaves it to the
    /// machine's size.
    pub project_memory: Option<u64>,
    /// Whether hooks, providers and mail servers of projects may be at private addresses and without TLS.
    pub private_targets_allowed: bool,
    /// Bytes that a project's database may have on an embedded cluster's disk; 0 is off, none leaves it to the disk's size.
    pub project_quota: Option<u64>,
    /// How long access tokens are valid in projects that do not say, in seconds.
    pub access_token_seconds: Option<i64>,
    /// How long a refresh token that nobody uses is good in projects that do not say, in seconds.
    pub refresh_token_seconds: Option<i64>,
}

/// The mail server that projects use when they set none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailConfig {
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<Secret<String>>,
    pub from: String,
    /// Most mails of one project in an hour; with a mail server of its own a project is not limited by this.
    pub(crate) project_hourly: u32,
}

/// What is written to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A filter of `tracing-subscriber`, for instance `info,rest=debug`.
    pub filter: String,
    pub format: LogFormat,
    pub colour: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Pretty,
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
}

/// The whole configuration of a server, without secrets that may have to be generated first.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder; with a given database none is used unless it was named.
    pub data: Option<PathBuf>,
    pub listen: ListenConfig,
    pub database: DatabaseConfig,
    pub platform: PlatformConfig,
    pub mail: Option<MailConfig>,
    pub limits: LimitConfig,
    pub files: FilesConfig,
    pub backup: BackupSettings,
    pub pooler: PoolerSettings,
    pub instances: InstanceSettings,
    pub log: LogConfig,
    pub secrets: GivenSecrets,
    /// Threads of the runtime; none means one for each core.
    pub workers: Option<usize>,
    /// Things that are allowed and yet deserve a word.
    pub warnings: Vec<Problem>,
}

/// Name of the data folder inside a working folder.
pub const DATA_FOLDER_NAME: &str = ".launchdb";

/// Where an installed server keeps its data.
pub const SYSTEM_DATA_FOLDER: &str = "/var/lib/launchdb";

impl Config {
    /// Reads and checks everything; one error lists all problems.
    pub fn load(source: &Source, invocation: &Invocation) -> Result<Self, InvalidConfig> {
        let mut reader = Reader::new(source);
        let database = database(&mut reader);
        let listen = listen(&mut reader, invocation);
        let data = invocation
            .data
            .clone()
            .or_else(|| reader.text("LAUNCHDB_DATA").map(PathBuf::from))
            .or_else(|| database.url.is_none().then(|| default_data_folder(invocation)));
        if data.is_none() && matches!(listen.tls, Some(TlsConfig::Acme(_))) {
            let mend = "set LAUNCHDB_DATA=/var/lib/launchdb";
            reader.problem("LAUNCHDB_DATA", "is missing, where the certificates are kept", mend);
        }
        let must_exist = database.url.is_some();
        let stored = data.as_deref().filter(|_| must_exist).map(|data| secrets_file::read(&secrets_file::path(data)));
        let stored = match stored {
            Some(Err(refused)) => {
                let problems = refused.error.downcast::<InvalidConfig>().map(|invalid| invalid.0).unwrap_or_default();
                problems.iter().for_each(|problem| reader.problem(&problem.name, &problem.what, &problem.mend));
                // Nobody knows what it has.
                None
            }
            stored => Some(stored.transpose().unwrap_or_default().unwrap_or_default()),
        };
        let config = Self {
            data,
            platform: platform(&mut reader),
            mail: mail(&mut reader),
            limits: LimitConfig::read(&mut reader, invocation, database.connection_budget),
            files: FilesConfig::read(&mut reader),
            backup: BackupSettings::read(&mut reader, invocation),
            pooler: PoolerSettings::read(&mut reader),
            instances: InstanceSettings::read(&mut reader),
            log: log(&mut reader),
            secrets: GivenSecrets::read(&mut reader, must_exist, stored.as_ref()),
            workers: reader
                .parsed_opt("LAUNCHDB_WORKERS", "a number of threads from 1 to 512", |n| (1..=512).contains(n)),
            database,
            listen,
            warnings: Vec::new(),
        };
        let (problems, mut warnings) = reader.finish();
        if !problems.is_empty() {
            return Err(InvalidConfig(problems));
        }
        for name in source.names_with_prefix("LAUNCHDB_") {
            if !KNOWN_NAMES.contains(&name) {
                warnings.push(Problem::new(name, "is no setting of LaunchDB", "look for a slip in its name"));
            }
        }
        if invocation.serve && config.mail.is_none() {
            warnings.push(Problem::new(
                "SMTP_HOST",
                "is not set, so no mail can be sent",
                "set SMTP_HOST, SMTP_PORT, SMTP_USER, SMTP_PASSWORD and SMTP_FROM",
            ));
        }
        Ok(Self { warnings, ..config })
    }

    /// Whether PostgreSQL is ours to start and stop.
    pub fn is_embedded(&self) -> bool {
        self.database.url.is_none()
    }
}

/// A server for others that root starts keeps its data where such servers do; everything else in the working folder, unless
/// that is root's own, which PostgreSQL's user may not enter.
fn default_data_folder(invocation: &Invocation) -> PathBuf {
    let system = rustix::process::geteuid().is_root() && (invocation.serve || !postgres_may_enter_working_folder());
    PathBuf::from(if system { SYSTEM_DATA_FOLDER } else { DATA_FOLDER_NAME })
}

/// True when it is not known: then the start says what is wrong.
fn postgres_may_enter_working_folder() -> bool {
    let (Ok(folder), Ok(user)) = (std::env::current_dir(), RunAs::for_this_process()) else { return true };
    user.check_reachable(&folder.join(DATA_FOLDER_NAME)).is_ok()
}

fn listen(reader: &mut Reader<'_>, invocation: &Invocation) -> ListenConfig {
    let bind = invocation
        .bind
        .or_else(|| reader.parsed_opt("LAUNCHDB_BIND", "an IP address such as 127.0.0.1 or 0.0.0.0", |_: &IpAddr| true))
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port_text = "a port from 0 to 65535 (0 lets the system choose)";
    let ours = reader.parsed_opt("LAUNCHDB_PORT", port_text, |_: &u16| true);
    let seed = reader.parsed_opt("PORT", port_text, |_: &u16| true);
    let port = invocation.port.or(ours).or(seed).unwrap_or(invocation.only.map_or(8000, Service::default_port));

    let domain = reader.checked_text("DOMAIN", "a host name such as db.example.org, without https://", is_host_name);
    let public_url = match reader.text("LAUNCHDB_PUBLIC_URL") {
        Some(text) => public_url(&text).unwrap_or_else(|what| {
            reader.problem("LAUNCHDB_PUBLIC_URL", what, "write it as https://db.example.org");
            String::new()
        }),
        None => match &domain {
            Some(domain) => format!("https://{domain}"),
            None => {
                if reader.text("DATABASE_URL").is_some() {
                    reader.problem(
                        "DOMAIN",
                        "is missing, so no URL of a project could be built",
                        "set DOMAIN=db.example.org, or LAUNCHDB_PUBLIC_URL=http://host:port",
                    );
                }
                String::new()
            }
        },
    };
    let status = reader.text("LAUNCHDB_STATUS_PORT");
    let status_port = match status.as_deref() {
        Some("off") => None,
        Some(_) => reader.parsed_opt("LAUNCHDB_STATUS_PORT", "a port, or off", |_: &u16| true),
        None if invocation.only.is_some() => None,
        None => Some(3001),
    };
    let admin = reader.parsed_opt("LAUNCHDB_ADMIN_PORT", port_text, |_: &u16| true);
    let list = |text: Option<String>| -> Vec<String> {
        let text = text.unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let trusted_proxies = list(reader.text("LAUNCHDB_TRUSTED_PROXIES"));
    for proxy in &trusted_proxies {
        if !is_network(proxy) {
            reader.problem(
                "LAUNCHDB_TRUSTED_PROXIES",
                &format!("has \"{proxy}\", which is no address or network"),
                "write addresses or networks with commas between, for instance 127.0.0.1,10.0.0.0/8",
            );
        }
    }
    let tls = TlsConfig::read(reader, invocation.tls, &public_url);
    let redirect_port = match reader.text("LAUNCHDB_REDIRECT_PORT").as_deref() {
        Some("off") => None,
        Some(_) => {
            reader.parsed_opt("LAUNCHDB_REDIRECT_PORT", "a port, or off", |_: &u16| true).map(|port| (port, true))
        }
        None => (port == HTTPS_PORT).then_some((HTTP_PORT, false)),
    };
    ListenConfig {
        public: SocketAddr::new(bind, port),
        status_port,
        status_port_required: status.is_some(),
        admin_port: admin.unwrap_or(8009),
        admin_port_required: admin.is_some(),
        public_url,
        domain,
        trusted_proxies,
        cors_origins: list(reader.text("CORS_ORIGIN")),
        drain: Duration::from_secs(
            reader.parsed("LAUNCHDB_DRAIN_SECONDS", 5, "a number of seconds up to 600", |n| *n <= 600),
        ),
        redirect_port: redirect_port.filter(|_| tls.is_some()),
        tls,
    }
}

fn database(reader: &mut Reader<'_>) -> DatabaseConfig {
    let url_name = if reader.text("DATABASE_URL").is_some() { "DATABASE_URL" } else { "PLATFORM_DB_DSN" };
    DatabaseConfig {
        url: reader.postgres_url(url_name),
        admin_url: reader.postgres_url("LAUNCHDB_ADMIN_DATABASE_URL"),
        public_address: reader.address("LAUNCHDB_DATABASE_PUBLIC_ADDRESS"),
        pooler_address: reader.address("LAUNCHDB_POOLER_PUBLIC_ADDRESS"),
        superuser: reader
            .checked_text("POSTGRES_SUPERUSER", "a role name such as supabase_admin", |name| {
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                    && (1..=63).contains(&name.len())
            })
            .unwrap_or_else(|| "supabase_admin".to_owned()),
        bin_dir: reader.text("LAUNCHDB_POSTGRES_BIN").map(PathBuf::from),
        port: reader.parsed_opt("LAUNCHDB_POSTGRES_PORT", "a port from 1 to 65535", |n| *n > 0),
        // Under PostgreSQL's default max_connections of 100, with room for owners' own connections.
        connection_budget: reader.parsed("LAUNCHDB_DB_CONNECTIONS", 60, "a number of connections above 0", |n| *n > 0),
        idle: Duration::from_secs(
            reader.parsed("LAUNCHDB_DB_IDLE_SECONDS", 30, "a number of seconds above 0", |n| *n > 0),
        ),
    }
}

fn platform(reader: &mut Reader<'_>) -> PlatformConfig {
    let days: u64 = reader.parsed("LAUNCHDB_RETENTION_DAYS", 7, "a number of days up to 3650", |n| *n <= 3650);
    let disk_reserve: u64 =
        reader.parsed("LAUNCHDB_DISK_RESERVE_MB", 1024, "a number of megabytes; 0 is off", |n| *n <= 1 << 20);
    let project_memory: Option<u64> =
        reader.parsed_opt("LAUNCHDB_PROJECT_MEMORY_MB", "a number of megabytes from 128; 0 is off", |n| {
            *n == 0 || (128..=1 << 20).contains(n)
        });
    let project_quota: Option<u64> =
        reader.parsed_opt("LAUNCHDB_PROJECT_QUOTA_MB", "a number of megabytes from 64; 0 is off", |n| {
            *n == 0 || (64..=1 << 30).contains(n)
        });
    let owner_password = reader.text("LAUNCHDB_OWNER_PASSWORD");
    if let Some(password) = &owner_password
        && let Some(weakness) = strength::weakness(password, 10)
    {
        reader.problem("LAUNCHDB_OWNER_PASSWORD", &weakness, "leave it out: one is made and printed once");
    }
    PlatformConfig {
        signup_enabled: reader.parsed("LAUNCHDB_SIGNUP", false, "true or false", |_| true),
        owner_email: reader
            .checked_text("LAUNCHDB_OWNER_EMAIL", "an e-mail address", |text| text.contains('@'))
            .unwrap_or_else(|| "owner@localhost".to_owned()),
        owner_password: owner_password.map(Secret::new),
        spares: reader.parsed("LAUNCHDB_SPARES", 3, "a number up to 100", |n| *n <= 100),
        new_certificates_per_week: reader.parsed(
            "LAUNCHDB_NEW_CERTIFICATES_PER_WEEK",
            40,
            "a number of names; 0 is no limit",
            |n| *n <= 1_000_000,
        ),
        retention: Duration::from_secs(days * 24 * 60 * 60),
        disk_reserve: 1024 * 1024 * disk_reserve,
        private_targets_allowed: reader.parsed("LAUNCHDB_ALLOW_PRIVATE_TARGETS", false, "true or false", |_| true),
        project_memory: project_memory.map(|megabytes| 1024 * 1024 * megabytes),
        project_quota: project_quota.map(|megabytes| 1024 * 1024 * megabytes),
        access_token_seconds: reader.parsed_opt("ACCESS_TOKEN_TTL", "a number of seconds from 30 to 604800", |n| {
            (30..=7 * 24 * 3600).contains(n)
        }),
        refresh_token_seconds: reader.parsed_opt(
            "REFRESH_TOKEN_TTL",
            "a number of seconds from 60 to 315360000",
            |n| (60..=10 * 365 * 24 * 3600).contains(n),
        ),
    }
}

fn mail(reader: &mut Reader<'_>) -> Option<MailConfig> {
    let port = reader.parsed("SMTP_PORT", 587, "a port from 1 to 65535", |n| *n > 0);
    let from = reader.checked_text("SMTP_FROM", "an e-mail address", |text| text.contains('@'));
    let project_hourly = reader.parsed("SMTP_PROJECT_HOURLY", 100, "a number of mails", |_| true);
    let user = reader.text("SMTP_USER");
    let password = reader.text("SMTP_PASSWORD");
    let Some(host) = reader.text("SMTP_HOST") else {
        if user.is_some() || password.is_some() || from.is_some() {
            reader.problem(
                "SMTP_HOST",
                "is missing while other SMTP_ settings are there",
                "set SMTP_HOST=smtp.example.org",
            );
        }
        return None;
    };
    if let Some(reason) = password.as_deref().and_then(strength::placeholder_reason) {
        reader.problem("SMTP_PASSWORD", reason, "set the password your mail provider gave you");
    }
    if user.is_some() != password.is_some() {
        let missing = if user.is_some() { "SMTP_PASSWORD" } else { "SMTP_USER" };
        reader.problem(missing, "is missing: user and password go together", "set both, or neither");
    }
    if from.is_none() {
        reader.problem("SMTP_FROM", "is missing", "set SMTP_FROM=noreply@example.org");
    }
    let (password, from) = (password.map(Secret::new), from.unwrap_or_default());
    Some(MailConfig { host, port, user, password, from, project_hourly })
}

fn log(reader: &mut Reader<'_>) -> LogConfig {
    let filter = reader
        .text("RUST_LOG")
        .or_else(|| {
            reader.checked_text("LOG_LEVEL", "one of error, warn, info, debug, trace", |text| {
                ["error", "warn", "info", "debug", "trace"].contains(&text.to_lowercase().as_str())
            })
        })
        .unwrap_or_else(|| "info".to_owned());
    let format = match reader.text("LAUNCHDB_LOG_FORMAT").as_deref() {
        None | Some("auto") => LogFormat::Auto,
        Some("json") => LogFormat::Json,
        Some("pretty") => LogFormat::Pretty,
        Some(_) => {
            reader.problem("LAUNCHDB_LOG_FORMAT", "is unknown", "set it to json, pretty or auto");
            LogFormat::Auto
        }
    };
    LogConfig { filter: filter.to_lowercase(), format, colour: reader.text("NO_COLOR").is_none() }
}

fn public_url(text: &str) -> Result<String, &'static str> {
    let url = url::Url::parse(text).map_err(|_| "is no URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("is no http or https URL");
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("has more than scheme, host, port and path");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(crate) fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}

#[cfg(test)]
mod tests;
