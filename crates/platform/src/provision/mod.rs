//! Placeholder for the interface agreed between the API and provisioning; provisioning replaces this file.

use std::sync::Arc;

use base::{OwnerId, ProjectRef, ProjectStatus};
use deadpool_postgres::Pool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::PlatformConfig;

/// A project to be made.
pub struct NewProject {
    pub owner_id: OwnerId,
    pub name: String,
    /// An id of the operator's choice.
    pub id: Option<ProjectRef>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error("the name is taken")]
    NameTaken,
    #[error("the id is taken")]
    IdTaken,
    #[error("no such project")]
    NotFound,
    #[error("the project is {}", .status.name())]
    WrongStatus { status: ProjectStatus },
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0}")]
    Unsupported(String),
}

#[derive(Clone)]
pub struct Provisioner {
    _config: Arc<PlatformConfig>,
}

fn not_here<T>() -> Result<T, ProvisionError> {
    Err(ProvisionError::Unsupported("projects cannot be provisioned by this build".to_owned()))
}

impl Provisioner {
    pub fn new(config: PlatformConfig, _pool: Pool, _tasks: TaskTracker, _shutdown: CancellationToken) -> Self {
        Self { _config: Arc::new(config) }
    }

    pub async fn create(&self, new: NewProject) -> Result<ProjectRef, ProvisionError> {
        let NewProject { owner_id: _, name: _, id: _ } = new;
        not_here()
    }

    pub async fn suspend(&self, _: &ProjectRef) -> Result<(), ProvisionError> {
        not_here()
    }

    pub async fn resume(&self, _: &ProjectRef) -> Result<(), ProvisionError> {
        not_here()
    }

    pub async fn delete(&self, _: &ProjectRef) -> Result<(), ProvisionError> {
        not_here()
    }

    pub async fn restore(&self, _: &ProjectRef) -> Result<(), ProvisionError> {
        not_here()
    }
}
