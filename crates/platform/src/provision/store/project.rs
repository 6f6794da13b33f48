//! Rows of projects, their steps, secrets and keys while they are made, changed and removed.

use base::sealed::Sealed;
use base::{OwnerId, ProjectRef, ProjectStatus};
use tokio_postgres::{Error, GenericClient, Row};

/// The index that keeps names of an owner's projects unique.
pub(in crate::provision) const NAME_KEY: &str = "projects_owner_name_key";
pub(in crate::provision) const ID_KEY: &str = "projects_pkey";

/// Steps of provisioning, in order.
pub(in crate::provision) mod step {
    /// The login roles exist; no foreign database or role had the name.
    pub(in crate::provision) const ROLES: &str = "roles";
    /// The database is open and the project active.
    pub(in crate::provision) const DATABASE: &str = "database";
    /// Making it failed; all of it has to go.
    pub(in crate::provision) const ABANDONED: &str = "abandoned";
}

/// A project as provisioning sees it.
#[derive(Clone, Debug)]
pub(in crate::provision) struct ProjectRow {
    pub(in crate::provision) id: ProjectRef,
    pub(in crate::provision) status: ProjectStatus,
    pub(in crate::provision) is_spare: bool,
    pub(in crate::provision) baseline_version: i32,
    pub(in crate::provision) steps: Vec<String>,
    /// Whether a deleted project's retention period is over at the time that was asked for.
    pub(in crate::provision) is_expired: bool,
}

const SELECT: &str = "select p.id, p.status, p.is_spare, p.baseline_version,
        array(select s.step from platform.provision_steps s where s.project_id = p.id),
        coalesce(p.purge_after <= to_timestamp($1), false)
    from platform.projects p where ";

fn read(row: &Row) -> Option<ProjectRow> {
    Some(ProjectRow {
        // The table's checks admit nothing that does not parse.
        id: ProjectRef::parse(row.get(0)).ok()?,
        status: ProjectStatus::from_name(row.get(1))?,
        is_spare: row.get(2),
        baseline_version: row.get(3),
        steps: row.get(4),
        is_expired: row.get(5),
    })
}

/// Every project and spare. `now` in Unix seconds.
pub(in crate::provision) async fn project_rows(db: &impl GenericClient, now: i64) -> Result<Vec<ProjectRow>, Error> {
    let rows = db.query(&format!("{SELECT} true order by p.created_at"), &[&seconds(now)]).await?;
    Ok(rows.iter().filter_map(read).collect())
}

pub(in crate::provision) async fn project_row(
    db: &impl GenericClient,
    id: &ProjectRef,
    now: i64,
) -> Result<Option<ProjectRow>, Error> {
    let row = db.query_opt(&format!("{SELECT} p.id = $2"), &[&seconds(now), &id.as_str()]).await?;
    Ok(row.as_ref().and_then(read))
}

#[expect(clippy::cast_precision_loss, reason = "seconds fit a double exactly for millions of years")]
fn seconds(unix: i64) -> f64 {
    unix as f64
}

/// Hands out the oldest spare that is ready, in one statement; concurrent callers get different ones.
pub(in crate::provision) async fn spare_claim(
    db: &impl GenericClient,
    owner_id: &OwnerId,
    name: &str,
    baseline_version: i32,
) -> Result<Option<String>, Error> {
    const SQL: &str = "update platform.projects
        set owner_id = $1::text::uuid, name = $2, is_spare = false, revision = revision + 1,
            created_at = now(), updated_at = now()
        where id = (
            select id from platform.projects where is_spare and status = 'active' and baseline_version = $3
            order by created_at limit 1 for update skip locked)
        returning id";
    Ok(db.query_opt(SQL, &[&owner_id.0, &name, &baseline_version]).await?.map(|row| row.get(0)))
}

/// Spares that are ready or on their way.
pub(in crate::provision) async fn spare_count(db: &impl GenericClient) -> Result<i64, Error> {
    const SQL: &str = "select count(*) from platform.projects where is_spare and status in ('active', 'provisioning')";
    db.query_one(SQL, &[]).await.map(|row| row.get(0))
}

/// A project with a name and an owner, or a spare with neither.
pub(in crate::provision) async fn project_insert_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    owner: Option<(&OwnerId, &str)>,
) -> Result<(), Error> {
    const SQL: &str = "insert into platform.projects (id, owner_id, name, status, is_spare)
        values ($1, $2::text::uuid, $3, 'provisioning', $4)";
    let (owner_id, name) = owner.map(|(id, name)| (id.0.as_str(), name)).unzip();
    db.execute(SQL, &[&id.as_str(), &owner_id, &name, &owner.is_none()]).await.map(drop)
}

pub(in crate::provision) async fn secret_insert_in_tx(
    db: &impl GenericClient,
    owner: &str,
    kind: &str,
    sealed: &Sealed,
) -> Result<(), Error> {
    const SQL: &str = "insert into platform.secrets (project_id, kind, key_version, sealed) values ($1, $2, $3, $4)";
    db.execute(SQL, &[&owner, &kind, &sealed.key_version, &sealed.bytes]).await.map(drop)
}

pub(in crate::provision) async fn step_insert(
    db: &impl GenericClient,
    id: &ProjectRef,
    step: &str,
) -> Result<(), Error> {
    const SQL: &str = "insert into platform.provision_steps (project_id, step) values ($1, $2) on conflict do nothing";
    db.execute(SQL, &[&id.as_str(), &step]).await.map(drop)
}

/// The project is ready.
pub(in crate::provision) async fn project_activate_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    baseline_version: i32,
) -> Result<(), Error> {
    const SQL: &str = "update platform.projects
        set status = 'active', baseline_version = $2, revision = revision + 1, updated_at = now() where id = $1";
    db.execute(SQL, &[&id.as_str(), &baseline_version]).await.map(drop)
}

/// Marks a project that could not be made; `failure` is for its owner's eyes.
pub(in crate::provision) async fn project_fail_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    failure: &str,
) -> Result<(), Error> {
    const SQL: &str = "update platform.projects
        set status = 'failed', failure = $2, revision = revision + 1, updated_at = now()
        where id = $1 and status = 'provisioning'";
    db.execute(SQL, &[&id.as_str(), &failure]).await.map(drop)
}

/// The status of a project that is no spare, locked until the transaction ends.
pub(in crate::provision) async fn status_lock_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
) -> Result<Option<ProjectStatus>, Error> {
    const SQL: &str = "select status from platform.projects where id = $1 and not is_spare for update";
    Ok(db.query_opt(SQL, &[&id.as_str()]).await?.and_then(|row| ProjectStatus::from_name(row.get(0))))
}

/// Sets the status; `purge_after` (Unix seconds) only means something for a deleted project.
pub(in crate::provision) async fn status_put_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    status: ProjectStatus,
    purge_after: Option<i64>,
) -> Result<(), Error> {
    const SQL: &str = "update platform.projects
        set status = $2, revision = revision + 1, updated_at = now(), purge_after = to_timestamp($3),
            deleted_at = case when $2 = 'deleted' then coalesce(deleted_at, now()) end
        where id = $1";
    db.execute(SQL, &[&id.as_str(), &status.name(), &purge_after.map(seconds)]).await.map(drop)
}

pub(in crate::provision) async fn revision_bump_in_tx(db: &impl GenericClient, id: &ProjectRef) -> Result<(), Error> {
    const SQL: &str = "update platform.projects set revision = revision + 1, updated_at = now() where id = $1";
    db.execute(SQL, &[&id.as_str()]).await.map(drop)
}

pub(in crate::provision) async fn baseline_version_put(
    db: &impl GenericClient,
    id: &ProjectRef,
    version: i32,
) -> Result<(), Error> {
    const SQL: &str = "update platform.projects set baseline_version = $2, revision = revision + 1 where id = $1";
    db.execute(SQL, &[&id.as_str(), &version]).await.map(drop)
}

/// Forgets a project with its secrets; keys, settings and steps go with the row. Returns owner and name of one that was
/// there and no spare.
pub(in crate::provision) async fn project_delete_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
) -> Result<Option<(String, String)>, Error> {
    db.execute("delete from platform.secrets where project_id = $1", &[&id.as_str()]).await?;
    const SQL: &str = "delete from platform.projects where id = $1 returning owner_id::text, coalesce(name, '')";
    let row = db.query_opt(SQL, &[&id.as_str()]).await?;
    Ok(row.and_then(|row| Some((row.get::<_, Option<String>>(0)?, row.get(1)))))
}

/// Removes secrets of projects that are not there. A project and its secrets come in one transaction, so this can hit
/// nothing that is being made.
pub(in crate::provision) async fn secrets_sweep(db: &impl GenericClient) -> Result<u64, Error> {
    const SQL: &str = "delete from platform.secrets s
        where s.project_id ~ '^proj_' and not exists (select from platform.projects p where p.id = s.project_id)";
    db.execute(SQL, &[]).await
}
