//! PgBouncer as a child: its program, its two files, and its process.
//!
//! There is no wildcard database and no user that PostgreSQL would make a superuser: what is not listed cannot be reached.
//! Users are listed with the verifiers that PostgreSQL has, with which PgBouncer lets clients in and logs in itself.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base::Secret;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::binaries::Search;
use crate::bounded_log::BoundedLog;
use crate::private_file;
use crate::process::{self, Signal};
use crate::unprivileged::RunAs;

/// Where Debian's package puts the program, which is not on everybody's PATH.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// The first version that keeps prepared statements of clients in transaction mode.
pub const PREPARED_STATEMENTS: (u32, u32) = (1, 21);
/// How long a child may take to end.
const END: Duration = Duration::from_secs(2);
/// Name of the user of the console; no role of PostgreSQL.
pub const CONSOLE_USER: &str = "launchdb_pooler";

/// An installed PgBouncer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub version: (u32, u32),
}

impl Program {
    /// The first one that is found.
    pub fn find(search: &Search) -> Option<Self> {
        let path = search.path.as_deref().map(|path| std::env::split_paths(path).collect::<Vec<_>>());
        let folders = path.unwrap_or_default().into_iter().chain(SYSTEM_FOLDERS.map(PathBuf::from));
        folders.map(|folder| folder.join("pgbouncer")).filter(|path| path.is_absolute() && path.is_file()).find_map(
            |path| {
                let output = Command::new(&path).arg("--version").output().ok()?;
                let version = parse_version(&String::from_utf8_lossy(&output.stdout))?;
                Some(Self { path, version })
            },
        )
    }

    /// Whether connections can be shared between transactions, whatever clients prepare.
    pub fn keeps_prepared_statements(&self) -> bool {
        self.version >= PREPARED_STATEMENTS
    }
}

/// Of `--version` and of `SHOW VERSION`.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.lines().next()?.strip_prefix("PgBouncer ")?;
    let mut parts = version.split('.').map_while(|part| part.trim().parse::<u32>().ok());
    Some((parts.next()?, parts.next()?))
}

/// How a pooler is run.
#[derive(Clone, Debug)]
pub struct PgbouncerConfig {
    pub program: Program,
    /// Holds its files and belongs to its user.
    pub dir: PathBuf,
    pub run_as: RunAs,
    pub listen: IpAddr,
    pub port: u16,
    /// PostgreSQL, directly.
    pub server_host: String,
    pub server_port: u16,
    /// Verifier of [`CONSOLE_USER`]'s password.
    pub console_verifier: String,
    /// Connections of all clients together.
    pub max_clients: u32,
    /// Folder of its log; none keeps none.
    pub log_dir: Option<PathBuf>,
    /// The platform's own database, where it is reached through the pooler, too.
    pub platform: Option<PlatformEntry>,
}

/// The platform's database and the role that owns it. Whoever may connect to it through the pooler is that role there.
#[derive(Clone, Debug)]
pub struct PlatformEntry {
    pub database: String,
    pub user: String,
    pub password: Secret<String>,
    pub pool_size: u32,
    pub reserve_pool: u32,
    /// Password of [`OPERATOR`], for people and health checks on the pooler's own machine.
    pub operator_password: Secret<String>,
}

/// May ask the console and reach the platform's database; no role of PostgreSQL.
pub const OPERATOR: &str = "postgres";

/// One database that clients may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub database: String,
    /// Connections to PostgreSQL, and as many more when clients have waited for long.
    pub pool_size: u32,
    pub reserve_pool: u32,
}

/// One user that clients may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// As it stands in `pg_authid`.
    pub verifier: String,
    /// One of our own services, which can share connections between transactions whatever the version.
    pub is_service: bool,
}

impl PgbouncerConfig {
    fn ini(&self) -> PathBuf {
        self.dir.join("pgbouncer.ini")
    }

    fn userlist(&self) -> PathBuf {
        self.dir.join("userlist.txt")
    }

    /// `pgbouncer.ini`. Names of databases and services are projects' ids, which need no quotes.
    pub fn render(&self, entries: &[Entry], users: &[User]) -> String {
        let mut text = String::from("; Written by LaunchDB; changes are lost.\n[databases]\n");
        if let Some(platform) = &self.platform {
            let _ = writeln!(
                text,
                "{name} = host={} port={} dbname={name} user={} password='{}' pool_size={} reserve_pool={}",
                self.server_host,
                self.server_port,
                platform.user,
                platform.password.expose().replace('\'', "''"),
                platform.pool_size,
                platform.reserve_pool,
                name = platform.database,
            );
        }
        for entry in entries {
            let _ = writeln!(
                text,
                "{name} = host={} port={} dbname={name} pool_size={} reserve_pool={}",
                self.server_host,
                self.server_port,
                entry.pool_size,
                entry.reserve_pool,
                name = entry.database,
            );
        }
        let stats = match &self.platform {
            // Services ask for the version.
            Some(platform) => format!("stats_users = {OPERATOR}, {}\n", platform.user),
            None => String::new(),
        };
        let (mode, prepared) = match self.program.keeps_prepared_statements() {
            true => ("transaction", "max_prepared_statements = 200\n"),
            false => ("session", ""),
        };
        let _ = write!(
            text,
            "\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
             auth_file = {}\nadmin_users = {CONSOLE_USER}\n{stats}pool_mode = {mode}\n{prepared}server_reset_query = DISCARD ALL\n\
             max_client_conn = {}\nreserve_pool_timeout = 3\nserver_idle_timeout = 60\nserver_login_retry = 1\n\
             query_wait_timeout = 30\nclient_login_timeout = 10\nidle_transaction_timeout = 300\n\
             ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\nlog_stats = 0\n",
            self.listen,
            self.port,
            self.userlist().display(),
            self.max_clients,
        );
        text.push_str("\n[users]\n");
        for user in users.iter().filter(|user| user.is_service) {
            let _ = writeln!(text, "{} = pool_mode=transaction", user.name);
        }
        text
    }

    /// `userlist.txt`.
    pub fn render_users(&self, users: &[User]) -> String {
        let mut text = String::new();
        // The entry of the platform's database names a role, and PgBouncer up to 1.18 keeps the SCRAM keys of whoever logged
        // in with a verifier as that role's: PostgreSQL would then refuse them. From a password it keeps none.
        let own = self.platform.iter().flat_map(|platform| {
            [(OPERATOR, platform.operator_password.expose()), (&*platform.user, platform.password.expose())]
        });
        let console = [(CONSOLE_USER, &self.console_verifier)];
        let users = users.iter().map(|user| (&*user.name, &user.verifier));
        for (name, secret) in console.into_iter().chain(own).chain(users) {
            let quoted = |text: &str| text.replace('"', "\"\"");
            let _ = writeln!(text, "\"{}\" \"{}\"", quoted(name), quoted(secret));
        }
        text
    }

    /// Writes both files, each whole, when they say something else; whether they did. Users first: an entry without its
    /// user would be refused, a user without an entry harms nobody.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn write(&self, entries: &[Entry], users: &[User]) -> io::Result<bool> {
        self.run_as.make_dir(&self.dir).map_err(io::Error::other)?;
        let owner = Some(&self.run_as);
        if let Some(platform) = &self.platform {
            // For psql on the same machine (PGPASSFILE).
            let line = format!("*:*:*:{OPERATOR}:{}\n", platform.operator_password.expose());
            private_file::update(&self.dir.join("pgpass"), &line, owner)?;
        }
        let changed = private_file::update(&self.userlist(), &self.render_users(users), owner)?;
        Ok(private_file::update(&self.ini(), &self.render(entries, users), owner)? || changed)
    }

    /// Starts the process, after ending one that a killed LaunchDB left.
    ///
    /// # Errors
    /// When it cannot be started; that it does not like its files is seen at its end.
    pub async fn start(&self) -> io::Result<Child> {
        let ini = self.ini();
        for left in process::find(self.run_as.uid, |arguments| is_ours(arguments, &ini)) {
            left.signal(Signal::KILL)?;
            left.ended_within(END).await;
        }
        let mut command = tokio::process::Command::from(self.run_as.command(&self.program.path));
        command.arg(&ini).current_dir("/").env_clear().kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn()
    }
}

fn is_ours(arguments: &[&str], ini: &Path) -> bool {
    arguments.first().is_some_and(|program| program.ends_with("pgbouncer"))
        && arguments.last().is_some_and(|last| Path::new(last) == ini)
}

/// Reads what a child says until its end, so that it never waits for us; the last line, for who tells of its end.
pub async fn listen(child: &mut Child, log: &mut Option<BoundedLog>) -> String {
    let mut last = String::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::debug!(line, "pgbouncer");
            if let Some(log) = log {
                log.write(&line);
            }
            last = line;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("PgBouncer 1.18.0\nlibevent 2.1\n"), Some((1, 18)));
        assert_eq!(parse_version("PgBouncer 1.24.1"), Some((1, 24)));
        assert_eq!(parse_version("pgbouncer"), None);
    }

    #[test]
    fn only_what_is_listed_can_be_reached() {
        let config = PgbouncerConfig {
            program: Program { path: "/usr/sbin/pgbouncer".into(), version: (1, 18) },
            dir: "/var/lib/launchdb/pooler".into(),
            run_as: RunAs { name: "postgres".into(), uid: 1, gid: 1, dropped: false },
            listen: IpAddr::from([127, 0, 0, 1]),
            port: 6432,
            server_host: "127.0.0.1".to_owned(),
            server_port: 5432,
            console_verifier: "SCRAM-SHA-256$4096:a$b:c".to_owned(),
            max_clients: 1000,
            log_dir: None,
            platform: None,
        };
        let entry = Entry { database: "proj_abc123".to_owned(), pool_size: 5, reserve_pool: 2 };
        let text = config.render(&[entry], &[]);
        let wanted = "proj_abc123 = host=127.0.0.1 port=5432 dbname=proj_abc123 pool_size=5 reserve_pool=2\n";
        assert!(text.contains(wanted), "{text}");
        assert!(!text.contains("* ="), "{text}");
        assert!(text.contains("pool_mode = session\n") && !text.contains("max_prepared"), "{text}");
        let newer =
            PgbouncerConfig { program: Program { version: (1, 21), ..config.program.clone() }, ..config.clone() };
        assert!(newer.render(&[], &[]).contains("pool_mode = transaction\nmax_prepared_statements = 200\n"));
        let verifier = "SCRAM-SHA-256$4096:x$y:z".to_owned();
        let user = User { name: "proj_abc123".to_owned(), verifier: verifier.clone(), is_service: false };
        let service = User { name: "proj_abc123_authenticator".to_owned(), verifier, is_service: true };
        let text = config.render(&[], &[user.clone(), service]);
        assert!(text.ends_with("\n[users]\nproj_abc123_authenticator = pool_mode=transaction\n"), "{text}");
        let lines = "\"launchdb_pooler\" \"SCRAM-SHA-256$4096:a$b:c\"\n\"proj_abc123\" \"SCRAM-SHA-256$4096:x$y:z\"\n";
        assert_eq!(config.render_users(std::slice::from_ref(&user)), lines);

        let platform = PlatformEntry {
            database: "platform".to_owned(),
            user: "platform".to_owned(),
            password: Secret::new("it's".to_owned()),
            pool_size: 20,
            reserve_pool: 5,
            operator_password: Secret::new("o".to_owned()),
        };
        let with_platform = PgbouncerConfig { platform: Some(platform), ..config };
        let text = with_platform.render(&[], &[]);
        assert!(
            text.contains("dbname=platform user=platform password='it''s' pool_size=20 reserve_pool=5\n"),
            "{text}"
        );
        assert!(text.contains("stats_users = postgres, platform\n"), "{text}");
        let users = with_platform.render_users(&[user]);
        assert!(users.starts_with(lines.lines().next().unwrap()) && users.lines().count() == 4, "{users}");
        assert!(users.contains("\"postgres\" \"o\"\n\"platform\" \"it's\"\n"), "{users}");
    }
}
