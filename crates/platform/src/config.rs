//! What the binary tells the control plane.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use base::project::DatabaseTarget;
use base::sealed::MasterKey;

use crate::settings::{Ceilings, SettingDefaults};

/// Where outside clients find a server; part of the URIs that are handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// The control plane's configuration; read and checked by the binary.
#[derive(Clone)]
pub struct PlatformConfig {
    /// The platform database and the ordinary role that owns it; may lead through PgBouncer.
    pub database: DatabaseTarget,
    /// The cluster's superuser, straight to PostgreSQL (CREATE DATABASE, roles). Its host and port are also where
    /// LISTEN, the sessions of `POST .../sql`, and services without `service_pooler` connect to.
    pub admin: DatabaseTarget,
    /// Seals and opens what is stored in `platform.secrets`.
    pub master_key: Arc<MasterKey>,
    /// Every URL handed out begins with it; without a slash at the end.
    pub public_url: String,
    /// The part of project subdomains behind the project's label, where there is wildcard DNS.
    pub domain: Option<String>,
    /// Whether strangers may make themselves an owner.
    pub sign_up_allowed: bool,
    /// How long a deleted project can be restored.
    pub retention: Duration,
    /// How many complete projects are made ahead.
    pub spare_count: usize,
    /// Names of projects that get their first certificate in seven days; 0 is no limit.
    pub new_certificates_per_week: u32,
    /// PostgreSQL as outside clients reach it, for `db_uri`.
    pub database_address: Address,
    /// The pooler as outside clients reach it, for `db_uri_pooler`.
    pub pooler_address: Option<Address>,
    /// The pooler that services reach projects' databases through; None goes straight to PostgreSQL.
    pub service_pooler: Option<Address>,
    /// Largest values of what owners may set.
    pub ceilings: Ceilings,
    /// What counts where owners set nothing.
    pub setting_defaults: SettingDefaults,
    pub clock: Clock,
}

impl PlatformConfig {
    /// The platform database, straight to PostgreSQL: LISTEN does not work through a transaction pooler.
    pub fn direct_database(&self) -> DatabaseTarget {
        DatabaseTarget { host: self.admin.host.clone(), port: self.admin.port, ..self.database.clone() }
    }

    /// The base of a project's services: the `supabaseUrl` of its clients.
    pub fn api_url(&self, project_ref: &base::ProjectRef) -> String {
        format!("{}/p/{project_ref}", self.public_url.trim_end_matches('/'))
    }
}
