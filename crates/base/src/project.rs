//! Immutable snapshots of the projects, swapped whole: a request sees one consistent version of everything.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::api_key::{ApiKeyHash, ApiKeyKind};
use crate::auth_settings::AuthSettings;
use crate::ids::ProjectRef;
use crate::jwt::JwtKeys;
use crate::secret::Secret;
use crate::settings::{DataApiSettings, LimitSettings, StorageSettings};
use crate::signing::SigningKeys;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectStatus {
    Provisioning,
    Active,
    Suspended,
    Failed,
    Deleted,
}

impl ProjectStatus {
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Provisioning, Self::Active, Self::Suspended, Self::Failed, Self::Deleted]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// How a service connects to a project's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseTarget {
    /// A host name, an address, or the folder of a unix socket (starts with `/`).
    pub host: String,
    pub port: u16,
    pub database: String,
    /// The project's authenticator role.
    pub user: String,
    pub password: Secret<String>,
}

/// An opaque key as the request path needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The key's row in `platform.api_keys`.
    pub id: i64,
    pub kind: ApiKeyKind,
    pub hash: ApiKeyHash,
}

/// An access key of the S3 protocol; whoever has its secret acts as `service_role`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3AccessKey {
    /// What clients call it.
    pub access_key_id: String,
    pub secret: Secret<String>,
}

/// What S3 clients sign with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Keys {
    /// The secret of requests with a user's token, whose access key is the project's id.
    pub anon_key: Option<Secret<String>>,
    pub access_keys: Vec<S3AccessKey>,
}

/// Everything a request may need to know of its project.
#[derive(Clone)]
pub struct Project {
    pub project_ref: ProjectRef,
    pub status: ProjectStatus,
    /// Grows with every change; caches made from a snapshot compare it.
    pub revision: i64,
    pub database: DatabaseTarget,
    /// Keys that verify the project's tokens (users' and legacy API keys).
    pub jwt_keys: JwtKeys,
    /// Signs the project's users' tokens.
    pub signing: SigningKeys,
    pub api_keys: Vec<ApiKey>,
    /// Whether the legacy `anon` and `service_role` JWTs are accepted.
    pub legacy_keys_enabled: bool,
    pub data_api: DataApiSettings,
    pub auth: Arc<AuthSettings>,
    pub limits: LimitSettings,
    pub storage: StorageSettings,
    /// Keys for the S3 protocol.
    pub s3: S3Keys,
    pub custom_domains: Vec<String>,
}

impl Project {
    /// The opaque key with this hash, compared in constant time.
    pub fn find_api_key(&self, hash: &ApiKeyHash) -> Option<&ApiKey> {
        self.api_keys.iter().find(|key| bool::from(key.hash.ct_eq(hash)))
    }
}

#[derive(Default)]
struct Snapshot {
    by_ref: HashMap<ProjectRef, Arc<Project>>,
    by_domain: HashMap<String, ProjectRef>,
}

/// All projects that are not deleted. Cheap to read on every request; replaced whole or one project at a time.
#[derive(Default)]
pub struct ProjectTable {
    snapshot: ArcSwap<Snapshot>,
}

impl ProjectTable {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn get(&self, project_ref: &ProjectRef) -> Option<Arc<Project>> {
        self.snapshot.load().by_ref.get(project_ref).cloned()
    }

    /// Like [`ProjectTable::get`] by the text of an id, which need not be a valid one.
    pub fn find(&self, id: &str) -> Option<Arc<Project>> {
        self.snapshot.load().by_ref.get(id).cloned()
    }

    /// The project a custom domain belongs to; `host` in lower case without port.
    pub fn by_domain(&self, host: &str) -> Option<Arc<Project>> {
        let snapshot = self.snapshot.load();
        snapshot.by_ref.get(snapshot.by_domain.get(host)?).cloned()
    }

    pub fn len(&self) -> usize {
        self.snapshot.load().by_ref.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every project, in no order.
    pub fn all(&self) -> Vec<Arc<Project>> {
        self.snapshot.load().by_ref.values().cloned().collect()
    }

    /// Puts exactly these projects in place of all.
    pub fn replace_all(&self, projects: Vec<Project>) {
        let by_ref: HashMap<_, _> = projects.into_iter().map(|p| (p.project_ref.clone(), Arc::new(p))).collect();
        self.snapshot.store(Arc::new(Snapshot { by_domain: domains(&by_ref), by_ref }));
    }

    /// Puts one project in place of its older snapshot; an older revision than the present one is ignored.
    pub fn replace(&self, project: Project) {
        let project = Arc::new(project);
        self.snapshot.rcu(|old| {
            let mut by_ref = old.by_ref.clone();
            if by_ref.get(&project.project_ref).is_none_or(|present| present.revision <= project.revision) {
                by_ref.insert(project.project_ref.clone(), project.clone());
            }
            Snapshot { by_domain: domains(&by_ref), by_ref }
        });
    }

    /// Forgets a project.
    pub fn remove(&self, project_ref: &ProjectRef) {
        self.snapshot.rcu(|old| {
            let mut by_ref = old.by_ref.clone();
            by_ref.remove(project_ref);
            Snapshot { by_domain: domains(&by_ref), by_ref }
        });
    }
}

fn domains(by_ref: &HashMap<ProjectRef, Arc<Project>>) -> HashMap<String, ProjectRef> {
    by_ref
        .values()
        .flat_map(|p| p.custom_domains.iter().map(|domain| (domain.clone(), p.project_ref.clone())))
        .collect()
}
