//! The watchdog against a real PostgreSQL. What touches the whole cluster gets a cluster of its own.

mod autovacuum;
mod crowd;
mod half_open;
mod limits;
mod low_disk;
mod memory;
mod shared_memory;

use std::time::Duration;

use base::project::DatabaseTarget;
use base::{ProjectRef, Secret, random};
use procs::binaries::Search;
use procs::data_dir::DataDir;
use procs::postgres::{Backends, Cluster, ClusterConfig};
use test_support::{ScratchDir, TestCluster, connect};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::PlatformConfig;
use crate::database;

const PASSWORD: &str = "secret";

/// A control plane's database in some cluster, and what is needed to make projects there by hand: the watchdog knows
/// them by their roles' names alone.
struct Scene {
    config: PlatformConfig,
    provisioner: Provisioner,
    admin: Client,
    /// Ends, with its folder, when the value is dropped; none for the cluster that all tests share.
    own: Option<(Cluster, DataDir, ScratchDir)>,
}

impl Scene {
    async fn shared() -> Self {
        Self::new(crate::tests::config(&TestCluster::shared()), None).await
    }

    async fn own() -> Self {
        Self::own_with(|_| {}, "").await
    }

    /// A cluster of its own with another configuration; `custom` is what the operator's own file says.
    async fn own_with(change: impl FnOnce(&mut ClusterConfig), custom: &str) -> Self {
        let folder = ScratchDir::new();
        let data = DataDir::open(&folder.path().join("data")).unwrap();
        let password = Secret::new(random::password());
        let search = Search { bin_dir: None, path: std::env::var_os("PATH") };
        let mut cluster_config =
            ClusterConfig::new(data.postgres_dir(), data.run_as().clone(), search, password.clone());
        change(&mut cluster_config);
        let mut cluster = Cluster::open(cluster_config.clone()).await.unwrap();
        if !custom.is_empty() {
            cluster.stop().await;
            let file = data.postgres_dir().join("data/custom.conf");
            std::fs::write(&file, custom).unwrap();
            data.run_as().own(&file).unwrap();
            cluster = Cluster::open(cluster_config).await.unwrap();
        }
        let mut config = crate::tests::config(&TestCluster::shared());
        config.database.port = cluster.port();
        let user = cluster.superuser().to_owned();
        config.admin = DatabaseTarget { port: cluster.port(), user, password, ..config.admin };
        Self::new(config, Some((cluster, data, folder))).await
    }

    async fn new(config: PlatformConfig, own: Option<(Cluster, DataDir, ScratchDir)>) -> Self {
        database::prepare(&config).await.unwrap();
        let pool = database::pool(&config).unwrap();
        let provisioner = Provisioner::new(config.clone(), pool, TaskTracker::new(), CancellationToken::new());
        let DatabaseTarget { user, password, database, .. } = &config.admin;
        let admin = connect(&url(&config, user, password.expose(), database)).await;
        Self { config, provisioner, admin, own }
    }

    /// A project's database and its two roles.
    async fn project(&self) -> ProjectRef {
        let project = ProjectRef::generate();
        for sql in [
            format!("create role {project} login password '{PASSWORD}' connection limit 20"),
            format!("create role {project}_authenticator login password '{PASSWORD}'"),
            format!("create database {project} owner {project}"),
        ] {
            self.admin.batch_execute(&sql).await.unwrap();
        }
        project
    }

    fn owner_url(&self, project: &ProjectRef) -> String {
        url(&self.config, project.owner_role(), PASSWORD, project.database())
    }

    async fn owner(&self, project: &ProjectRef) -> Client {
        connect(&self.owner_url(project)).await
    }

    async fn authenticator(&self, project: &ProjectRef) -> Client {
        connect(&url(&self.config, &project.authenticator_role(), PASSWORD, project.database())).await
    }

    /// The processes of a cluster of its own.
    fn backends(&self) -> Backends {
        self.own.as_ref().unwrap().0.backends()
    }

    fn watchdog(&self, config: WatchdogConfig) -> Watchdog {
        Watchdog::new(self.provisioner.clone(), config)
    }
}

fn url(config: &PlatformConfig, user: &str, password: &str, database: &str) -> String {
    format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", config.admin.port)
}

/// Whether a session goes on: it answers, or says that its transaction is aborted.
async fn lives(client: &Client) -> bool {
    match client.batch_execute("select 1").await {
        Ok(()) => true,
        Err(error) => error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION),
    }
}

async fn code(client: &Client, sql: &str) -> Option<SqlState> {
    client.batch_execute(sql).await.err().map(|error| error.code().cloned().expect("an answer of PostgreSQL"))
}
