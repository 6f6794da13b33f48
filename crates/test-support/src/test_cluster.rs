//! The scratch PostgreSQL of a test run, its databases and templates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::scratch_cluster::{self, Located, SUPERUSER};

/// The PostgreSQL cluster that all tests of a run share.
///
/// Its settings are those of LaunchDB's own cluster (SCRAM for everyone, `supabase_admin` as superuser), without fsync.
/// Roles belong to the whole cluster: give them unique names, or make shared ones through [`TestCluster::once`].
#[derive(Debug)]
pub struct TestCluster {
    located: Located,
}

impl TestCluster {
    /// The cluster of this test run; the first caller of the run starts it, which blocks for a second or two.
    ///
    /// # Panics
    /// When no PostgreSQL can be started; the message says why.
    pub fn shared() -> Arc<Self> {
        match scratch_cluster::locate() {
            Ok(located) => Arc::new(Self { located }),
            Err(error) => panic!("no scratch PostgreSQL for the tests: {error}"),
        }
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.located.port
    }

    /// Folder of the unix socket; only root and PostgreSQL's own user can connect through it.
    pub fn socket_dir(&self) -> PathBuf {
        self.located.dir.join("socket")
    }

    /// The superuser's name.
    pub fn superuser(&self) -> &str {
        SUPERUSER
    }

    /// The superuser's password.
    pub fn superuser_password(&self) -> &str {
        &self.located.password
    }

    /// Connection URL of the superuser for the database `postgres`.
    pub fn superuser_url(&self) -> String {
        self.database_url("postgres")
    }

    /// Connection URL of the superuser for `database`.
    pub fn database_url(&self, database: &str) -> String {
        self.url_as(SUPERUSER, &self.located.password, database)
    }

    /// Connection URL for any role. None of the parts is percent-encoded: use plain names.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.located.port)
    }

    /// The server's log so far.
    ///
    /// # Panics
    /// When there is none.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.located.dir.join("postgresql.log")).expect("the server has a log");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// A connection of the superuser to `database`.
    pub async fn connect(&self, database: &str) -> Client {
        connect(&self.database_url(database)).await
    }

    /// Runs `work` if nothing in this run has done so under `key`; everyone else waits until it is done.
    ///
    /// # Panics
    /// When the bookkeeping fails; a panic of `work` lets the next caller try again.
    pub async fn once(&self, key: &str, work: impl AsyncFnOnce()) {
        let client = self.connect("postgres").await;
        let lock = "select pg_advisory_lock(hashtextextended($1, 0))";
        client.execute(lock, &[&"test_support"]).await.expect("lock the bookkeeping");
        client
            .batch_execute("create table if not exists public.test_support_done (key text primary key)")
            .await
            .expect("make the table of things done");
        client
            .execute("select pg_advisory_unlock(hashtextextended($1, 0))", &[&"test_support"])
            .await
            .expect("unlock the bookkeeping");
        // The lock ends with this connection, also when `work` panics.
        client.execute(lock, &[&format!("test_support.{key}")]).await.expect("lock the key");
        let done = "select 1 from public.test_support_done where key = $1";
        if client.query_opt(done, &[&key]).await.expect("look the key up").is_some() {
            return;
        }
        work().await;
        client.execute("insert into public.test_support_done values ($1)", &[&key]).await.expect("note the key");
    }

    /// The name of a template database, made once per run: `fill` is handed the superuser's URL of the fresh, empty
    /// database. Every connection it opens has to be closed before it returns.
    ///
    /// `name` is a plain lower-case identifier; it also names the database, so make it carry a version or hash when the
    /// contents can differ between test binaries.
    pub async fn template_database(&self, name: &str, fill: impl AsyncFnOnce(String)) -> String {
        let database = format!("template_{name}");
        self.once(&database, async || {
            let client = self.connect("postgres").await;
            let drop = format!("drop database if exists {} with (force)", quoted(&database));
            client.batch_execute(&drop).await.expect("drop what a panic left");
            let create = format!("create database {} template template0", quoted(&database));
            client.batch_execute(&create).await.expect("create the template");
            fill(self.database_url(&database)).await;
            // Nobody can connect any more, so copying never meets "being accessed by other users".
            let close = format!("alter database {} allow_connections false is_template true", quoted(&database));
            client.batch_execute(&close).await.expect("close the template");
            let end = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where datname = $1";
            client.query_one(end, &[&database]).await.expect("end what is still connected to the template");
        })
        .await;
        database
    }

    /// A fresh database, a copy of `template` or else empty (`template0`). It is dropped with the value.
    pub async fn create_database(self: &Arc<Self>, template: Option<&str>) -> TestDatabase {
        self.create_database_named(&format!("test_{}", base::random::hex::<8>()), template).await
    }

    /// As [`TestCluster::create_database`], under a name that the test needs, such as a project id. It has to be unique.
    pub async fn create_database_named(self: &Arc<Self>, name: &str, template: Option<&str>) -> TestDatabase {
        let client = self.connect("postgres").await;
        let sql = format!("create database {} template {}", quoted(name), quoted(template.unwrap_or("template0")));
        if let Err(error) = client.batch_execute(&sql).await {
            panic!("create database {name}: {error:?}");
        }
        TestDatabase { cluster: Arc::clone(self), name: name.to_owned() }
    }
}

/// How long a test waits for its database to be dropped, once that was asked for.
const DROPPING: Duration = Duration::from_millis(300);

/// A database of one test, dropped with this value whoever is still connected.
#[derive(Debug)]
pub struct TestDatabase {
    cluster: Arc<TestCluster>,
    name: String,
}

impl TestDatabase {
    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &Arc<TestCluster> {
        &self.cluster
    }

    /// Connection URL of the superuser.
    pub fn url(&self) -> String {
        self.cluster.database_url(&self.name)
    }

    /// Connection URL of another role.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.cluster.url_as(user, password, &self.name)
    }

    /// A connection of the superuser.
    pub async fn connect(&self) -> Client {
        self.cluster.connect(&self.name).await
    }

    /// Runs SQL text of any number of statements as the superuser.
    ///
    /// # Panics
    /// When a statement fails.
    pub async fn execute(&self, sql: &str) {
        if let Err(error) = self.connect().await.batch_execute(sql).await {
            panic!("{error:?} in:\n{sql}");
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let url = self.cluster.superuser_url();
        let sql = format!("drop database if exists {} with (force)", quoted(&self.name));
        // The test's own runtime cannot be blocked on from here, so the drop gets a thread and a runtime of its own.
        let (sender, sent) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(async move {
                    // A failure leaves a database behind until the end of the run, when the whole cluster goes.
                    if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                        let task = tokio::spawn(connection);
                        let _ = sender.send(());
                        let _ = client.batch_execute(&sql).await;
                        drop(client);
                        let _ = task.await;
                    }
                });
            }
        });
        // Dropping waits for every login of the cluster to get through, and one of this test's own cannot while its runtime is
        // held up here: PostgreSQL would end it after 10 s, and all tests would have waited. The statement ends without us.
        if sent.recv().is_ok() {
            let _ = sent.recv_timeout(DROPPING);
        }
    }
}

/// Connects to any PostgreSQL URL; the connection's task ends with the client.
///
/// # Panics
/// When the server refuses.
pub async fn connect(url: &str) -> Client {
    match tokio_postgres::connect(url, NoTls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            client
        }
        // The URL holds a password of a scratch cluster only.
        Err(error) => panic!("connect to {url}: {error:?}"),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
