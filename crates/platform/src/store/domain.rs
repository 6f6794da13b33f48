//! Custom domains of projects, and claims to them that nobody approved yet.

use base::ProjectRef;
use tokio_postgres::{Error, GenericClient, Row};

use crate::timestamp::Timestamp;

/// The index that keeps approved domains unique, and the key that keeps a project's claims so.
pub(crate) const DOMAIN_KEY: &str = "project_domains_domain_key";
pub(crate) const CLAIM_KEY: &str = "project_domains_pkey";

#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub(crate) domain: String,
    pub(crate) project_id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) approved_at: Option<Timestamp>,
}

impl Domain {
    fn read(row: &Row) -> Self {
        Self { domain: row.get(0), project_id: row.get(1), created_at: row.get(2), approved_at: row.get(3) }
    }
}

pub(crate) async fn domain_list(db: &impl GenericClient, id: &ProjectRef) -> Result<Vec<Domain>, Error> {
    const SQL: &str = "select domain, project_id, created_at, approved_at from platform.project_domains
        where project_id = $1 order by domain";
    Ok(db.query(SQL, &[&id.as_str()]).await?.iter().map(Domain::read).collect())
}

/// Claims of all projects that wait for an administrator, oldest first, with the owner's address.
pub(crate) async fn domain_list_waiting(
    db: &impl GenericClient,
    limit: i64,
) -> Result<Vec<(Domain, Option<String>)>, Error> {
    const SQL: &str = "select d.domain, d.project_id, d.created_at, d.approved_at, o.email
        from platform.project_domains d
        join platform.projects p on p.id = d.project_id
        left join platform.owners o on o.id = p.owner_id
        where d.approved_at is null order by d.created_at, d.domain limit $1";
    Ok(db.query(SQL, &[&limit]).await?.iter().map(|row| (Domain::read(row), row.get(4))).collect())
}

/// Whether some project has the domain, approved.
pub(crate) async fn domain_is_taken(db: &impl GenericClient, domain: &str) -> Result<bool, Error> {
    const SQL: &str =
        "select exists (select from platform.project_domains where domain = $1 and approved_at is not null)";
    db.query_one(SQL, &[&domain]).await.map(|row| row.get(0))
}

pub(crate) async fn domain_insert(
    db: &impl GenericClient,
    id: &ProjectRef,
    domain: &str,
    approved: bool,
) -> Result<Domain, Error> {
    const SQL: &str = "insert into platform.project_domains (domain, project_id, approved_at)
        values ($1, $2, case when $3 then now() end)
        returning domain, project_id, created_at, approved_at";
    db.query_one(SQL, &[&domain, &id.as_str(), &approved]).await.map(|row| Domain::read(&row))
}

/// Nothing when the project never claimed it.
pub(crate) async fn domain_approve(
    db: &impl GenericClient,
    id: &ProjectRef,
    domain: &str,
) -> Result<Option<Domain>, Error> {
    const SQL: &str = "update platform.project_domains set approved_at = coalesce(approved_at, now())
        where domain = $1 and project_id = $2
        returning domain, project_id, created_at, approved_at";
    Ok(db.query_opt(SQL, &[&domain, &id.as_str()]).await?.map(|row| Domain::read(&row)))
}

pub(crate) async fn domain_delete(
    db: &impl GenericClient,
    id: &ProjectRef,
    domain: &str,
) -> Result<Option<Domain>, Error> {
    const SQL: &str = "delete from platform.project_domains where domain = $1 and project_id = $2
        returning domain, project_id, created_at, approved_at";
    Ok(db.query_opt(SQL, &[&domain, &id.as_str()]).await?.map(|row| Domain::read(&row)))
}
