//! The cluster's configuration files, rendered whole by pure functions.

use std::fmt::Write as _;
use std::path::PathBuf;

/// What `postgresql.conf` depends on. Sizes are for a small VPS (2 cores, 2-4 GB).
#[derive(Clone, Debug)]
pub struct PostgresConf {
    /// TCP port; also part of the unix socket's name.
    pub port: u16,
    /// Addresses to listen on; loopback unless the operator says otherwise.
    pub listen_addresses: String,
    /// Folder of the unix socket.
    pub socket_dir: PathBuf,
    /// Shown in process titles; how processes of this cluster are told from others.
    pub cluster_name: String,
    /// MiB of shared memory for pages.
    pub shared_buffers_mb: u32,
    pub max_connections: u32,
    /// How much WAL may pile up before a checkpoint, in MiB. It bounds the time of crash recovery.
    pub max_wal_size_mb: u32,
    /// Disk that one session's temporary files may take, in MiB.
    pub temp_file_limit_mb: u32,
    /// WAL that a lagging replication slot may hold back, in MiB, before the slot is given up.
    pub max_slot_wal_keep_mb: u32,
    /// Seconds between autovacuum's visits of one database, see [`autovacuum_naptime`].
    pub autovacuum_naptime_seconds: u32,
    /// What each finished piece of the log is handed to; none keeps no archive.
    pub archive_command: Option<String>,
    /// Whether commits survive a power cut. Only scratch clusters of tests turn it off.
    pub durable: bool,
}

impl PostgresConf {
    /// The settings of an embedded cluster.
    pub fn new(port: u16, socket_dir: PathBuf, cluster_name: String) -> Self {
        Self {
            port,
            listen_addresses: "127.0.0.1".into(),
            socket_dir,
            cluster_name,
            shared_buffers_mb: 128,
            max_connections: 200,
            max_wal_size_mb: 512,
            temp_file_limit_mb: 2048,
            max_slot_wal_keep_mb: 1024,
            autovacuum_naptime_seconds: 60,
            archive_command: None,
            durable: true,
        }
    }

    /// The text of `postgresql.conf`.
    pub fn render(&self) -> String {
        let mut out = String::from(
            "# Written by LaunchDB at every start; changes made here are lost.\n\
             # Put settings of your own into custom.conf beside this file: it is read last.\n",
        );
        let mut set = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name} = {}", quote(value));
        };
        let on_off = |on: bool| if on { "on" } else { "off" };

        set("listen_addresses", &self.listen_addresses);
        set("port", &self.port.to_string());
        set("unix_socket_directories", &self.socket_dir.display().to_string());
        set("unix_socket_permissions", "0700");
        set("cluster_name", &self.cluster_name);
        set("max_connections", &self.max_connections.to_string());
        // What provisioning and the watchdog open at the same time, with some room.
        set("superuser_reserved_connections", "10");
        set("password_encryption", "scram-sha-256");
        // A client that vanished is noticed while its statement still runs, not after.
        set("client_connection_check_interval", "10s");
        set("tcp_keepalives_idle", "60");
        // A half-open login may hold a slot only shortly.
        set("authentication_timeout", "10s");

        set("shared_buffers", &format!("{}MB", self.shared_buffers_mb));
        set("huge_pages", "try");
        set("work_mem", "4MB");
        set("maintenance_work_mem", "64MB");
        set("temp_file_limit", &format!("{}MB", self.temp_file_limit_mb));
        set("effective_cache_size", &format!("{}MB", u64::from(self.shared_buffers_mb) * 6));
        set("random_page_cost", "1.1");
        // Data API statements are short: compiling them costs more than it saves.
        set("jit", "off");
        set("max_parallel_workers", "2");
        set("max_parallel_workers_per_gather", "1");

        set("wal_level", "logical");
        if let Some(command) = &self.archive_command {
            set("archive_mode", "on");
            // A percent sign begins a placeholder; the only one is ours.
            set("archive_command", command);
            // At most so much is lost with the machine.
            set("archive_timeout", "60s");
        }
        set("max_wal_senders", "64");
        set("max_replication_slots", "64");
        set("max_slot_wal_keep_size", &format!("{}MB", self.max_slot_wal_keep_mb));
        set("wal_sender_timeout", "60s");
        set("max_wal_size", &format!("{}MB", self.max_wal_size_mb));
        set("min_wal_size", "128MB");
        set("checkpoint_timeout", "5min");
        set("checkpoint_completion_target", "0.9");
        set("synchronous_commit", on_off(self.durable));
        set("fsync", on_off(self.durable));
        set("full_page_writes", on_off(self.durable));
        // With the default, recovery opens every file of every database: tens of seconds with hundreds of projects.
        set("recovery_init_sync_method", "syncfs");
        set("restart_after_crash", "on");

        set("autovacuum_naptime", &format!("{}s", self.autovacuum_naptime_seconds));
        set("autovacuum_max_workers", "2");

        // Statements can hold anything a user typed, so the server's log does not show them. What an error or RAISE says
        // can hold it too: the databases of projects are silent up to FATAL (`platform::provision`).
        set("log_destination", "stderr");
        set("logging_collector", "off");
        set("log_line_prefix", "%m [%p] %q%u@%d %a ");
        set("log_min_messages", "warning");
        set("log_min_error_statement", "panic");
        set("log_min_duration_statement", "-1");
        set("log_statement", "none");
        set("log_parameter_max_length", "0");
        set("log_parameter_max_length_on_error", "0");
        set("log_error_verbosity", "terse");
        set("log_checkpoints", "off");
        set("log_timezone", "UTC");

        set("timezone", "UTC");
        set("datestyle", "iso, mdy");
        set("lc_messages", "C");
        set("lc_monetary", "C");
        set("lc_numeric", "C");
        set("lc_time", "C");
        set("default_text_search_config", "pg_catalog.english");
        out.push_str("include_if_exists = 'custom.conf'\n");
        out
    }
}

/// How long autovacuum rests between rounds, in seconds. Visiting a database costs about 7 ms of CPU whether or not
/// there is something to do, so the round grows with their number: one visit each fifth of a second at most.
pub fn autovacuum_naptime(databases: u32) -> u32 {
    (databases / 5).clamp(60, 3600)
}

/// The autovacuum_naptime of a file that [`PostgresConf::render`] wrote, in seconds.
pub(crate) fn rendered_naptime(text: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix("autovacuum_naptime = '"))?;
    line.strip_suffix("s'")?.parse().ok()
}

/// The text of `pg_hba.conf`: a password (SCRAM) from everyone, everywhere. With `trust` or `peer` anywhere, a project's
/// owner could come back in through dblink or postgres_fdw, which connect as the server's system user.
pub fn render_hba(superuser: &str) -> String {
    let superuser = format!("\"{}\"", superuser.replace('"', "\"\""));
    let mut out = String::from("# Written by LaunchDB at every start; changes made here are lost.\n");
    for (database, user) in [("all", "all"), ("replication", superuser.as_str())] {
        for source in ["local", "host\t127.0.0.1/32", "host\t::1/128"] {
            let (kind, address) = source.split_once('\t').unwrap_or((source, ""));
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{kind}\t{database}\t{user}\t{address}\tscram-sha-256");
        }
    }
    out
}

/// A value as `postgresql.conf` reads it: single quotes doubled, and backslashes too because it knows escapes.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_configuration_is_whole_and_quoted() {
        let conf = PostgresConf::new(20_017, PathBuf::from("/srv/it's\\here/socket"), "launchdb-x".into());
        expect![[r#"
            # Written by LaunchDB at every start; changes made here are lost.
            # Put settings of your own into custom.conf beside this file: it is read last.
            listen_addresses = '127.0.0.1'
            port = '20017'
            unix_socket_directories = '/srv/it''s\\here/socket'
            unix_socket_permissions = '0700'
            cluster_name = 'launchdb-x'
            max_connections = '200'
            superuser_reserved_connections = '10'
            password_encryption = 'scram-sha-256'
            client_connection_check_interval = '10s'
            tcp_keepalives_idle = '60'
            authentication_timeout = '10s'
            shared_buffers = '128MB'
            huge_pages = 'try'
            work_mem = '4MB'
            maintenance_work_mem = '64MB'
            temp_file_limit = '2048MB'
            effective_cache_size = '768MB'
            random_page_cost = '1.1'
            jit = 'off'
            max_parallel_workers = '2'
            max_parallel_workers_per_gather = '1'
            wal_level = 'logical'
            max_wal_senders = '64'
            max_replication_slots = '64'
            max_slot_wal_keep_size = '1024MB'
            wal_sender_timeout = '60s'
            max_wal_size = '512MB'
            min_wal_size = '128MB'
            checkpoint_timeout = '5min'
            checkpoint_completion_target = '0.9'
            synchronous_commit = 'on'
            fsync = 'on'
            full_page_writes = 'on'
            recovery_init_sync_method = 'syncfs'
            restart_after_crash = 'on'
            autovacuum_naptime = '60s'
            autovacuum_max_workers = '2'
            log_destination = 'stderr'
            logging_collector = 'off'
            log_line_prefix = '%m [%p] %q%u@%d %a '
            log_min_messages = 'warning'
            log_min_error_statement = 'panic'
            log_min_duration_statement = '-1'
            log_statement = 'none'
            log_parameter_max_length = '0'
            log_parameter_max_length_on_error = '0'
            log_error_verbosity = 'terse'
            log_checkpoints = 'off'
            log_timezone = 'UTC'
            timezone = 'UTC'
            datestyle = 'iso, mdy'
            lc_messages = 'C'
            lc_monetary = 'C'
            lc_numeric = 'C'
            lc_time = 'C'
            default_text_search_config = 'pg_catalog.english'
            include_if_exists = 'custom.conf'
        "#]]
        .assert_eq(&conf.render());
    }

    #[test]
    fn nobody_comes_in_without_a_password() {
        expect![[r##"
            # Written by LaunchDB at every start; changes made here are lost.
            local	all	all		scram-sha-256
            host	all	all	127.0.0.1/32	scram-sha-256
            host	all	all	::1/128	scram-sha-256
            local	replication	"supabase_admin"		scram-sha-256
            host	replication	"supabase_admin"	127.0.0.1/32	scram-sha-256
            host	replication	"supabase_admin"	::1/128	scram-sha-256
        "##]]
        .assert_eq(&render_hba("supabase_admin"));
    }

    #[test]
    fn the_pace_of_autovacuum_follows_the_number_of_databases() {
        let check = |databases: u32, seconds: u32| assert_eq!(autovacuum_naptime(databases), seconds, "{databases}");
        check(0, 60);
        check(300, 60);
        check(1_000, 200);
        check(1_000_000, 3_600);
        let mut conf = PostgresConf::new(1, PathBuf::new(), String::new());
        conf.autovacuum_naptime_seconds = 200;
        assert_eq!(rendered_naptime(&conf.render()), Some(200));
        assert_eq!(rendered_naptime("autovacuum_naptime = 1min"), None);
    }
}
