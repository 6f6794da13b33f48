//! Names that certificates were wanted for, and how many of them are new.

use base::ProjectRef;
use tokio_postgres::{Error, GenericClient};

/// How many names may be new in seven days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewNames {
    /// Below the server's own domain, of all projects.
    pub(crate) below_domain: i64,
    /// Of one owner who is no administrator, custom domains included.
    pub(crate) of_owner: i64,
}

/// Held until the end of the transaction, so that names are counted one after the other.
pub(crate) async fn certificate_names_lock_in_tx(db: &impl GenericClient) -> Result<(), Error> {
    db.execute("lock table platform.certificate_names in share row exclusive mode", &[]).await.map(drop)
}

pub(crate) async fn certificate_name_is_known(db: &impl GenericClient, name: &str) -> Result<bool, Error> {
    const SQL: &str = "select exists (select from platform.certificate_names where name = $1)";
    db.query_one(SQL, &[&name]).await.map(|row| row.get(0))
}

/// Adds a name unless there are as many new ones already; whether it did.
pub(crate) async fn certificate_name_insert_in_tx(
    db: &impl GenericClient,
    name: &str,
    project: &ProjectRef,
    is_below_domain: bool,
    most: NewNames,
) -> Result<bool, Error> {
    const SQL: &str = "with asking as (
            select p.id, p.owner_id, o.is_admin from platform.projects p join platform.owners o on o.id = p.owner_id
            where p.id = $2),
        new as (
            select count(*) filter (where n.below_domain) as below_domain,
                count(*) filter (where n.owner_id = a.owner_id) as of_owner
            from asking a left join platform.certificate_names n on n.first_wanted_at > now() - interval '7 days')
        insert into platform.certificate_names (name, project_id, owner_id, below_domain)
        select $1, asking.id, asking.owner_id, $3 from asking, new
        where (not $3 or new.below_domain < $4) and (asking.is_admin or new.of_owner < $5)";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&name, &project.as_str(), &is_below_domain, &most.below_domain, &most.of_owner];
    db.execute(SQL, &values).await.map(|count| count > 0)
}

/// Forgets old ones of projects and domains that are not there any more.
pub(crate) async fn certificate_names_prune(db: &impl GenericClient) -> Result<(), Error> {
    const SQL: &str = "delete from platform.certificate_names n
        where n.first_wanted_at < now() - interval '7 days' and not exists (
            select from platform.projects p where p.id = n.project_id and (n.below_domain or exists (
                select from platform.project_domains d where d.project_id = p.id and d.domain = n.name)))";
    db.execute(SQL, &[]).await.map(drop)
}
