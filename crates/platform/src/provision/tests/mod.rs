//! Provisioning against a real cluster. Every test is an installation of its own, beside the others in one cluster.

mod application;
mod autovacuum_pace;
mod busy;
mod crash;
mod hostile_owner;
mod lifecycle;
mod schema_version;
mod superusers_code;

use std::sync::Arc;

use base::{OwnerId, ProjectRef, random};
use test_support::TestCluster;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::baseline::FILES;
use crate::secrets::{kind, open_kind};
use crate::store::secret::secret_map;

/// An installation without an API.
pub(crate) struct World {
    pub(crate) cluster: Arc<TestCluster>,
    pub(crate) config: PlatformConfig,
    pool: Pool,
    pub(crate) provisioner: Provisioner,
    pub(crate) owner: OwnerId,
    /// A superuser's session in the platform database.
    pub(crate) admin: Client,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut PlatformConfig)) -> Self {
        let cluster = TestCluster::shared();
        let mut config = crate::tests::config(&cluster);
        change(&mut config);
        crate::database::prepare(&config).await.unwrap();
        let pool = crate::database::pool(&config).unwrap();
        let admin = cluster.connect(&config.database.database).await;
        const OWNER: &str = "insert into platform.owners (email, password_hash) values ($1, '') returning id::text";
        let email = format!("{}@example.org", random::hex::<4>());
        let owner = OwnerId(admin.query_one(OWNER, &[&email]).await.unwrap().get(0));
        let provisioner = provisioner(&config, &pool, FILES);
        provisioner.prepare().await.unwrap();
        Self { cluster, config, pool, provisioner, owner, admin }
    }

    pub(crate) async fn create(&self, name: &str) -> Result<ProjectRef, ProvisionError> {
        let new = NewProject { owner_id: self.owner.clone(), name: name.to_owned(), id: None };
        self.provisioner.create(new).await
    }

    /// A fresh project.
    pub(crate) async fn project(&self) -> ProjectRef {
        self.create(&format!("project {}", random::hex::<4>())).await.unwrap()
    }

    pub(crate) async fn secret(&self, id: &ProjectRef, kind: &str) -> String {
        let sealed = secret_map(&self.admin, id.as_str()).await.unwrap();
        open_kind(&self.config.master_key, id, &sealed, kind).unwrap().unwrap().expose().clone()
    }

    pub(crate) async fn owner_url(&self, id: &ProjectRef, database: &str) -> String {
        self.cluster.url_as(id.owner_role(), &self.secret(id, kind::DB_PASSWORD).await, database)
    }

    /// A session of the project's owner, as psql has it.
    pub(crate) async fn owner_session(&self, id: &ProjectRef) -> Client {
        test_support::connect(&self.owner_url(id, id.database()).await).await
    }

    /// A session of the services.
    pub(crate) async fn authenticator_session(&self, id: &ProjectRef) -> Client {
        let password = self.secret(id, kind::AUTHENTICATOR_PASSWORD).await;
        test_support::connect(&self.cluster.url_as(&id.authenticator_role(), &password, id.database())).await
    }

    /// What there is of a project: row with its status, databases, roles, secrets (but keys of its own to sign with, which
    /// few have).
    pub(crate) async fn traces(&self, id: &ProjectRef) -> (Option<String>, i64, i64, i64) {
        const SQL: &str = "select (select status from platform.projects where id = $1),
            (select count(*) from pg_database where datname = $1),
            (select count(*) from pg_roles where rolname in ($1, $1 || '_authenticator')),
            (select count(*) from platform.secrets where project_id = $1 and kind <> 'signing_keys')";
        let row = self.admin.query_one(SQL, &[&id.as_str()]).await.unwrap();
        (row.get(0), row.get(1), row.get(2), row.get(3))
    }

    /// Fails unless the project can be used.
    pub(crate) async fn assert_usable(&self, id: &ProjectRef) {
        assert_eq!(self.traces(id).await, (Some("active".to_owned()), 1, 2, 7), "{id}");
        let user: String =
            self.owner_session(id).await.query_one("select current_user::text", &[]).await.unwrap().get(0);
        assert_eq!(user, "postgres");
        self.authenticator_session(id).await.batch_execute("set role anon; select auth.uid()").await.unwrap();
    }

    pub(crate) async fn assert_gone(&self, id: &ProjectRef) {
        assert_eq!(self.traces(id).await, (None, 0, 0, 0), "{id}");
    }
}

fn provisioner(config: &PlatformConfig, pool: &Pool, files: &'static [BaselineFile]) -> Provisioner {
    Provisioner::with_files(config.clone(), pool.clone(), TaskTracker::new(), CancellationToken::new(), files)
}

/// SQLSTATE of the failure, or `00000`.
fn code<T>(result: &Result<T, tokio_postgres::Error>) -> String {
    match result {
        Ok(_) => "00000".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}
