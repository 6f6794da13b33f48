//! Projects as their owners see them. Provisioning has statements of its own for what it does to them.

use base::{OwnerId, ProjectRef, ProjectStatus};
use tokio_postgres::{Error, GenericClient, Row};

use crate::timestamp::Timestamp;

/// The index that keeps the names of an owner's projects unique.
pub(crate) const NAME_KEY: &str = "projects_owner_name_key";

#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: ProjectStatus,
    pub(crate) failure: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) deleted_at: Option<Timestamp>,
    pub(crate) purge_after: Option<Timestamp>,
}

impl Project {
    fn read(row: &Row) -> Self {
        Self {
            id: row.get(0),
            name: row.get::<_, Option<String>>(1).unwrap_or_default(),
            // The table's check admits no other text.
            status: ProjectStatus::from_name(row.get(2)).unwrap_or(ProjectStatus::Failed),
            failure: row.get(3),
            created_at: row.get(4),
            updated_at: row.get(5),
            deleted_at: row.get(6),
            purge_after: row.get(7),
        }
    }
}

/// One page of an owner's projects, oldest first, after the project `after`.
pub(crate) async fn project_list(
    db: &impl GenericClient,
    owner_id: &OwnerId,
    include_deleted: bool,
    limit: i64,
    offset: i64,
) -> Result<Vec<Project>, Error> {
    const SQL: &str = "select id, name, status, failure, created_at, updated_at, deleted_at, purge_after
        from platform.projects
        where owner_id = $1::text::uuid and not is_spare and ($2 or status <> 'deleted')
        order by created_at, id limit $3 offset $4";
    let rows = db.query(SQL, &[&owner_id.0, &include_deleted, &limit, &offset]).await?;
    Ok(rows.iter().map(Project::read).collect())
}

/// A project of this owner, deleted or not.
pub(crate) async fn project_get(
    db: &impl GenericClient,
    owner_id: &OwnerId,
    id: &ProjectRef,
) -> Result<Option<Project>, Error> {
    const SQL: &str = "select id, name, status, failure, created_at, updated_at, deleted_at, purge_after
        from platform.projects where owner_id = $1::text::uuid and id = $2 and not is_spare";
    Ok(db.query_opt(SQL, &[&owner_id.0, &id.as_str()]).await?.map(|row| Project::read(&row)))
}

pub(crate) async fn project_rename(db: &impl GenericClient, id: &ProjectRef, name: &str) -> Result<(), Error> {
    const SQL: &str =
        "update platform.projects set name = $2, revision = revision + 1, updated_at = now() where id = $1";
    db.execute(SQL, &[&id.as_str(), &name]).await.map(drop)
}

/// Locks the project's row until the transaction ends and bumps its revision, which tells every process (see the
/// trigger `project_changed`). Fails with SQLSTATE 55P03 when somebody else keeps the row for long: whoever waits has
/// one of a few connections.
pub(crate) async fn project_touch_in_tx(db: &impl GenericClient, id: &ProjectRef) -> Result<(), Error> {
    db.batch_execute("set local lock_timeout = '3s'").await?;
    const SQL: &str = "update platform.projects set revision = revision + 1, updated_at = now() where id = $1";
    db.execute(SQL, &[&id.as_str()]).await.map(drop)
}
