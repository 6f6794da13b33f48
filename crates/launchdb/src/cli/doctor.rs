//! `launchdb doctor`: looks for faults on this machine and names the mend of each. It changes nothing.

mod checklist;

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::project::DatabaseTarget;
use base::{Clock, Secret};
use platform::provision::diagnose;
use platform::{Address, Ceilings, PlatformConfig, SettingDefaults};
use procs::binaries::{Binaries, Search};
use procs::data_dir::FORMAT;
use procs::unprivileged::RunAs;
use serde::Serialize;

use super::client::Client;
use super::output::print;
use super::{DoctorArgs, discovery};
use crate::config::secrets::PlatformSecrets;
use crate::config::{Config, Invocation, Source, source};
use crate::exit::{self, Exit, ResultExt as _};
use crate::private_file::{self, Doubt};
use crate::run::storage::PLATFORM_DATABASE;
use crate::secrets_file;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warning,
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// Collects findings.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Ok, found: found.into(), mend: None });
    }

    fn warning(&mut self, check: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Warning, found: found.into(), mend: Some(mend.into()) });
    }

    fn fault(&mut self, check: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Fault, found: found.into(), mend: Some(mend.into()) });
    }
}

/// Below this much free disk a fault, below ten times as much a warning.
const LEAST_FREE_BYTES: u64 = 512 * 1024 * 1024;

/// Runs all checks and prints them; a fault ends with a failure.
pub fn run(source: &Source, args: &DoctorArgs) -> Result<(), Exit> {
    let mut findings = Findings::default();
    let data = discovery::find_data_folder(source, args.data.as_deref())?;
    let invocation = Invocation { data: data.clone(), port: args.port, ..Invocation::default() };
    let config = match Config::load(source, &invocation) {
        Ok(config) => {
            for warning in &config.warnings {
                findings.warning("settings", format!("{} {}", warning.name, warning.what), &warning.mend);
            }
            findings.ok("settings", "all values can be used");
            Some(config)
        }
        Err(invalid) => {
            for problem in invalid.0 {
                findings.fault("settings", format!("{} {}", problem.name, problem.what), problem.mend);
            }
            None
        }
    };
    check_user(&mut findings, data.as_deref());
    check_data(&mut findings, data.as_deref());
    if config.as_ref().is_none_or(Config::is_embedded) {
        check_binaries(&mut findings, source, data.as_deref());
    }
    check_disk(&mut findings, data.as_deref());
    check_clock(&mut findings, data.as_deref());
    let running = check_server(&mut findings, data.as_deref());
    if let Some(config) = &config {
        if !running {
            check_port(&mut findings, config);
        }
        check_cluster(&mut findings, config, data.as_deref());
        checklist::check(&mut findings, config, data.as_deref());
    }
    report(&findings.0, args.json)
}

fn report(findings: &[Finding], json: bool) -> Result<(), Exit> {
    if json {
        print(&serde_json::to_string_pretty(findings).exit(exit::FAILURE)?)?;
    } else {
        let mut text = String::new();
        for finding in findings {
            let level = match finding.level {
                Level::Ok => "ok     ",
                Level::Warning => "warning",
                Level::Fault => "FAULT  ",
            };
            text.push_str(&format!("{level}  {:<12} {}\n", finding.check, finding.found));
            if let Some(mend) = &finding.mend {
                text.push_str(&format!("{:22} mend: {mend}\n", ""));
            }
        }
        print(&text)?;
    }
    match findings.iter().filter(|finding| finding.level == Level::Fault).count() {
        0 => Ok(()),
        1 => Err(Exit::message(exit::FAILURE, "there is 1 fault")),
        faults => Err(Exit::message(exit::FAILURE, format!("there are {faults} faults"))),
    }
}

fn check_user(findings: &mut Findings, data: Option<&Path>) {
    match RunAs::for_this_process() {
        Err(e) => findings.fault("user", e.to_string(), "useradd --system postgres"),
        Ok(run_as) => match data.map(|data| run_as.check_reachable(data)) {
            Some(Err(e)) => findings.fault("user", e.to_string(), "use another data folder, or open the way to it"),
            _ if run_as.dropped => findings.ok("user", format!("root; PostgreSQL runs as {}", run_as.name)),
            _ => findings.ok("user", format!("PostgreSQL runs as {}", run_as.name)),
        },
    }
}

fn check_data(findings: &mut Findings, data: Option<&Path>) {
    let Some(data) = data else {
        findings.ok("data folder", "there is none yet; `launchdb dev` makes one");
        return;
    };
    let shown = data.display();
    match std::fs::metadata(data) {
        Err(e) => findings.fault("data folder", format!("{shown} cannot be examined: {e}"), "mend its rights"),
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            let own = rustix::process::geteuid().as_raw();
            if mode & 0o022 != 0 {
                findings.fault(
                    "data folder",
                    format!("others may write in {shown} (mode {mode:o})"),
                    format!("chmod go-w {shown}"),
                );
            } else if own != 0 && metadata.uid() != own {
                findings.fault(
                    "data folder",
                    format!("{shown} belongs to another user (id {})", metadata.uid()),
                    "run this as that user, or as root",
                );
            } else {
                findings.ok("data folder", format!("{shown} (mode {mode:o})"));
            }
        }
    }
    match std::fs::read_to_string(data.join("LAUNCHDB_VERSION")).map(|text| text.trim().parse::<u32>()) {
        Ok(Ok(format)) if (1..=FORMAT).contains(&format) => {}
        Ok(Ok(format)) => findings.fault(
            "data folder",
            format!("its format is {format}, and this program knows {FORMAT}"),
            "start the newer LaunchDB that wrote it",
        ),
        Ok(Err(_)) => findings.fault("data folder", "its format cannot be read", "put LAUNCHDB_VERSION back"),
        // An empty folder is as good as none.
        Err(_) if std::fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_none()) => {}
        Err(_) => findings.fault(
            "data folder",
            format!("{shown} has no LAUNCHDB_VERSION, so no LaunchDB made it"),
            "name another folder with --data DIR",
        ),
    }
    check_private(findings, "secrets", &secrets_file::path(data), true);
    check_private(findings, "server file", &discovery::server_file(data), false);
}

fn check_private(findings: &mut Findings, check: &'static str, path: &Path, needed: bool) {
    let shown = path.display();
    match private_file::doubt(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if needed {
                findings.warning(
                    check,
                    format!("there is no {shown}"),
                    "if projects exist already, put back a copy of it",
                );
            }
        }
        Err(e) => findings.fault(check, format!("{shown} cannot be examined: {e}"), "run this as the server's user"),
        Ok(Some(Doubt::Mode(mode))) => {
            findings.fault(check, format!("others can read {shown} (mode {mode:o})"), format!("chmod 600 {shown}"));
        }
        Ok(Some(Doubt::Owner(owner))) => findings.fault(
            check,
            format!("{shown} belongs to another user (id {owner})"),
            "start LaunchDB as the user it was first started as",
        ),
        Ok(None) if needed => match secrets_file::read(path) {
            Ok(values) => findings.ok(check, format!("{shown} (mode 600, {} values)", values.len())),
            Err(e) => findings.fault(check, format!("{:#}", e.error), "put back a copy of the file as it was made"),
        },
        Ok(None) => {}
    }
}

fn check_binaries(findings: &mut Findings, source: &Source, data: Option<&Path>) {
    let search =
        Search { bin_dir: source.get("LAUNCHDB_POSTGRES_BIN").map(Into::into), path: source::executable_path() };
    let version_file = data.map(|data| data.join("postgres").join("data").join("PG_VERSION"));
    let major = version_file.and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    let found = match major {
        Some(major) => Binaries::find_major(&search, major),
        None => Binaries::find(&search),
    };
    match found {
        Err(e) => findings.fault("PostgreSQL", e.to_string(), "apt-get install postgresql"),
        Ok(binaries) => {
            findings.ok("PostgreSQL", format!("{} in {}", binaries.version(), binaries.dir().display()));
        }
    }
}

fn check_disk(findings: &mut Findings, data: Option<&Path>) {
    let here = source::working_folder().unwrap_or_default();
    let folder = data.unwrap_or(&here);
    match rustix::fs::statvfs(folder) {
        Err(e) => findings.warning("disk", format!("{} cannot be examined: {e}", folder.display()), "look at: df -h"),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let text = format!("{:.1} GiB free for {}", free as f64 / f64::from(1 << 30), folder.display());
            let mend = "free some space: PostgreSQL stops when its disk is full";
            match free {
                0..LEAST_FREE_BYTES => findings.fault("disk", text, mend),
                _ if free < 10 * LEAST_FREE_BYTES => findings.warning("disk", text, mend),
                _ => findings.ok("disk", text),
            }
            if stat.f_files > 0 && stat.f_favail < 10_000 {
                findings.fault("disk", format!("only {} inodes are free", stat.f_favail), "remove small files");
            }
        }
    }
}

fn check_clock(findings: &mut Findings, data: Option<&Path>) {
    // 2026-01-01: an older clock would refuse tokens and certificates that are good.
    let earliest = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let now = SystemTime::now();
    let mend = "set the clock: timedatectl set-ntp true";
    if now < earliest {
        findings.fault("clock", "shows a time before this program was made: tokens would be refused", mend);
        return;
    }
    let newest = data
        .into_iter()
        .flat_map(|data| [data.to_owned(), secrets_file::path(data), data.join("run")])
        .filter_map(|path| std::fs::metadata(path).ok()?.modified().ok())
        .max();
    match newest.and_then(|newest| newest.duration_since(now).ok()) {
        Some(ahead) if ahead > Duration::from_secs(60) => findings.fault(
            "clock",
            format!("the data folder was changed {} s in the future: the clock went back", ahead.as_secs()),
            mend,
        ),
        _ => findings.ok("clock", "plausible"),
    }
}

/// Whether a server answers.
fn check_server(findings: &mut Findings, data: Option<&Path>) -> bool {
    let file = match data.map(discovery::read_server_file) {
        None | Some(Ok(None)) => {
            findings.ok("server", "does not run");
            return false;
        }
        Some(Err(e)) => {
            findings.fault("server", format!("{:#}", e.error), "run this as the server's user");
            return false;
        }
        Some(Ok(Some(file))) => file,
    };
    let answer = Client::new(&file.url, Some(file.token)).and_then(|client| client.send("GET", "/health", None));
    match answer {
        Err(_) => {
            findings.warning(
                "server",
                format!("{} does not answer; it was killed, or hangs (process {})", file.url, file.pid),
                "start it again: launchdb dev, or launchdb serve",
            );
            false
        }
        Ok((200, _)) => {
            findings.ok("server", format!("healthy at {}", file.url));
            true
        }
        Ok((status, text)) => {
            findings.fault("server", format!("{} answers {status}: {text}", file.url), "read the server's log");
            true
        }
    }
}

/// Looks into PostgreSQL, when it runs.
fn check_cluster(findings: &mut Findings, config: &Config, data: Option<&Path>) {
    let target = match &config.database.url {
        Some(database) => {
            let values = config.secrets.iter().map(|(name, value)| (name, value.clone())).collect();
            PlatformSecrets::new(values).exit(exit::CONFIG).map(|secrets| {
                let fallback = || DatabaseTarget { database: "postgres".to_owned(), ..database.clone() };
                (secrets, database.clone(), config.database.admin_url.clone().unwrap_or_else(fallback))
            })
        }
        None => {
            let port = data.and_then(|data| std::fs::read_to_string(data.join("postgres").join("port")).ok());
            let Some(port) = port.and_then(|text| text.trim().parse::<u16>().ok()) else { return };
            if TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(2)).is_err() {
                findings.ok("cluster", "PostgreSQL does not run, so it was not looked into");
                return;
            }
            let stored =
                data.map(secrets_file::path).map_or_else(|| Ok(Default::default()), |path| secrets_file::read(&path));
            stored.and_then(|mut values| {
                values.extend(config.secrets.iter().map(|(name, value)| (name, value.clone())));
                let secrets = PlatformSecrets::new(values).exit(exit::CONFIG)?;
                let password = secrets.get("POSTGRES_SUPERUSER_PASSWORD").cloned();
                let admin = DatabaseTarget {
                    host: "127.0.0.1".to_owned(),
                    port,
                    database: "postgres".to_owned(),
                    user: config.database.superuser.clone(),
                    password: password.unwrap_or_else(|| Secret::new(String::new())),
                };
                let database = DatabaseTarget { database: PLATFORM_DATABASE.to_owned(), ..admin.clone() };
                Ok((secrets, database, admin))
            })
        }
    };
    let looked = target.and_then(|(secrets, database, admin)| {
        let config = PlatformConfig {
            master_key: Arc::new(secrets.master_key().exit(exit::CONFIG)?),
            public_url: String::new(),
            domain: None,
            sign_up_allowed: false,
            retention: Duration::ZERO,
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().exit(exit::FAILURE)?;
        runtime.block_on(async {
            let looking = diagnose(config);
            tokio::time::timeout(Duration::from_secs(15), looking).await.exit(exit::FAILURE)?.exit(exit::POSTGRES)
        })
    });
    match looked {
        Ok(diagnoses) => {
            for diagnosis in diagnoses {
                match diagnosis.mend {
                    None => findings.ok(diagnosis.subject, diagnosis.found),
                    Some(mend) => findings.fault(diagnosis.subject, diagnosis.found, mend),
                }
            }
        }
        Err(e) => findings.fault(
            "cluster",
            format!("{:#}", e.error),
            "look at the secrets and at DATA/postgres/postgresql.log, or at DATABASE_URL",
        ),
    }
}

fn check_port(findings: &mut Findings, config: &Config) {
    let address = config.listen.public;
    match TcpListener::bind(address) {
        Ok(_) => findings.ok("port", format!("{address} is free")),
        Err(e) => findings.fault(
            "port",
            format!("cannot listen on {address}: {e}"),
            format!("see who does: ss -ltnp 'sport = :{}'; or choose another with --port N", address.port()),
        ),
    }
}
