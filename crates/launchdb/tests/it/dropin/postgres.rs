//! A PostgreSQL of one test, which may stop and start it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use base::Secret;
use procs::binaries::{Binaries, Search};
use procs::initdb::Initdb;
use procs::unprivileged::RunAs;
use test_support::{eventually, free_port};
use tokio_postgres::NoTls;

pub(super) struct Postgres {
    binaries: Binaries,
    run_as: RunAs,
    data: PathBuf,
    pub(super) port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Makes a cluster that trusts everybody, and starts it.
    pub(super) fn start(home: &Path) -> Self {
        let binaries =
            Binaries::find(&Search { bin_dir: None, path: std::env::var_os("PATH") }).expect("PostgreSQL is installed");
        let run_as = RunAs::for_this_process().expect("a user for PostgreSQL");
        let data = home.join("postgres");
        let password = Secret::new("postgres".to_owned());
        let initdb =
            Initdb { binaries: &binaries, run_as: &run_as, superuser: "postgres", password: &password, durable: false };
        initdb.create(&data).expect("a cluster is made");
        let port = free_port();
        let conf = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n\
             max_connections = 100\n"
        );
        for (name, text) in [("postgresql.conf", conf.as_str()), ("pg_hba.conf", "host all all 127.0.0.1/32 trust\n")] {
            fs::write(data.join(name), text).expect("the cluster is configured");
        }
        let mut postgres = Self { binaries, run_as, data, port, child: None };
        postgres.resume();
        postgres
    }

    /// Starts it again.
    pub(super) fn resume(&mut self) {
        let mut command = self.run_as.command(&self.binaries.program("postgres"));
        command.arg("-D").arg(&self.data).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("postgres starts"));
        let url = self.url("postgres", "postgres");
        block_on(eventually("PostgreSQL answers", async || tokio_postgres::connect(&url, NoTls).await.ok().map(drop)));
    }

    /// Starts it again and runs SQL.
    pub(super) fn execute_after_resume(&mut self, sql: &str) {
        self.resume();
        self.execute(sql);
    }

    /// Stops it, whoever is connected.
    pub(super) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        test_support::signal(child.id(), "INT");
        child.wait().expect("postgres ends");
    }

    /// Connection URL.
    pub(super) fn url(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs SQL as the superuser.
    pub(super) fn execute(&self, sql: &str) {
        let url = self.url("postgres", "postgres");
        let run = block_on(async { test_support::connect(&url).await.batch_execute(sql).await });
        run.unwrap_or_else(|error| panic!("{error:?} in:\n{sql}"));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}
