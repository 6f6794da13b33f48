//! What backups read and restores write in the platform's database, and the statements that are run in a project's.

use base::sealed::Sealed;
use base::{OwnerId, ProjectRef};
use tokio_postgres::{Error, GenericClient};

use super::manifest::{KeptDomain, KeptKey};

/// Empties what a baseline put into a database, as its owner: the dump brings it all.
pub(super) const CLEAR: &str = include_str!("clear.sql");

/// Back to the role that the owner's sessions begin with, or to the one that logged in.
pub(super) const RESET_ROLE: &str = "reset role";
pub(super) const LOGIN_ROLE: &str = "set role none";

/// `role` as a dump writes it, quoted.
pub(super) fn set_role(role: &str) -> String {
    format!("set role {role}")
}

/// What is read of a project's row.
pub(super) struct ProjectFacts {
    pub(super) name: String,
    pub(super) owner_email: String,
    pub(super) baseline_version: i32,
}

/// A project that has a database with data in it; none otherwise.
pub(super) async fn project_facts(db: &impl GenericClient, id: &ProjectRef) -> Result<Option<ProjectFacts>, Error> {
    const SQL: &str = "select p.name, o.email, p.baseline_version
        from platform.projects p join platform.owners o on o.id = p.owner_id
        where p.id = $1 and p.status in ('active', 'suspended')";
    let row = db.query_opt(SQL, &[&id.as_str()]).await?;
    Ok(row.map(|row| ProjectFacts { name: row.get(0), owner_email: row.get(1), baseline_version: row.get(2) }))
}

/// Every project that has a database with data in it.
pub(super) async fn project_ids(db: &impl GenericClient) -> Result<Vec<String>, Error> {
    const SQL: &str = "select id from platform.projects
        where not is_spare and status in ('active', 'suspended') order by created_at, id";
    Ok(db.query(SQL, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Keys in use.
pub(super) async fn kept_keys(db: &impl GenericClient, id: &ProjectRef) -> Result<Vec<KeptKey>, Error> {
    const SQL: &str = "select name, kind, prefix, encode(hash, 'hex') from platform.api_keys
        where project_id = $1 and revoked_at is null order by id";
    let rows = db.query(SQL, &[&id.as_str()]).await?;
    let read = |row: &tokio_postgres::Row| KeptKey {
        name: row.get(0),
        kind: row.get(1),
        prefix: row.get(2),
        hash: row.get(3),
    };
    Ok(rows.iter().map(read).collect())
}

/// Name, access key and sealed secret of the S3 protocol's keys.
pub(super) async fn sealed_s3_keys(
    db: &impl GenericClient,
    id: &ProjectRef,
) -> Result<Vec<(String, String, Sealed)>, Error> {
    const SQL: &str = "select name, access_key_id, sealed, key_version from platform.s3_access_keys
        where project_id = $1 order by id";
    let rows = db.query(SQL, &[&id.as_str()]).await?;
    let keys = rows.iter().map(|row| (row.get(0), row.get(1), Sealed { bytes: row.get(2), key_version: row.get(3) }));
    Ok(keys.collect())
}

/// Puts these keys (name, access key, sealed secret) in place of a project's. One that another project has stays that one's.
pub(super) async fn s3_keys_replace_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    keys: &[(String, String, Sealed)],
) -> Result<(), Error> {
    db.execute("delete from platform.s3_access_keys where project_id = $1", &[&id.as_str()]).await?;
    const SQL: &str = "insert into platform.s3_access_keys (project_id, name, access_key_id, key_version, sealed)
        values ($1, $2, $3, $4, $5) on conflict do nothing";
    for (name, access_key_id, sealed) in keys {
        db.execute(SQL, &[&id.as_str(), name, access_key_id, &sealed.key_version, &sealed.bytes]).await?;
    }
    Ok(())
}

pub(super) async fn kept_domains(db: &impl GenericClient, id: &ProjectRef) -> Result<Vec<KeptDomain>, Error> {
    const SQL: &str = "select domain, approved_at is not null from platform.project_domains
        where project_id = $1 order by domain";
    let rows = db.query(SQL, &[&id.as_str()]).await?;
    Ok(rows.iter().map(|row| KeptDomain { domain: row.get(0), is_approved: row.get(1) }).collect())
}

/// Puts the backup's keys in place of the present ones. A key that some project has already stays that one's.
pub(super) async fn keys_replace_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    keys: &[KeptKey],
) -> Result<(), Error> {
    db.execute("delete from platform.api_keys where project_id = $1", &[&id.as_str()]).await?;
    const SQL: &str = "insert into platform.api_keys (project_id, name, kind, prefix, hash)
        values ($1, $2, $3, $4, decode($5, 'hex')) on conflict do nothing";
    for key in keys {
        db.execute(SQL, &[&id.as_str(), &key.name, &key.kind, &key.prefix, &key.hash]).await?;
    }
    Ok(())
}

/// Adds the backup's domains. One that another project got meanwhile stays a claim.
pub(super) async fn domains_put_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    domains: &[KeptDomain],
) -> Result<(), Error> {
    const SQL: &str = "insert into platform.project_domains (domain, project_id, approved_at)
        select $1, $2, case when $3 and not exists (
            select from platform.project_domains where domain = $1 and approved_at is not null) then now() end
        on conflict (project_id, domain) do nothing";
    for domain in domains {
        db.execute(SQL, &[&domain.domain, &id.as_str(), &domain.is_approved]).await?;
    }
    Ok(())
}

pub(super) async fn settings_delete_in_tx(db: &impl GenericClient, id: &ProjectRef) -> Result<(), Error> {
    db.execute("delete from platform.project_settings where project_id = $1", &[&id.as_str()]).await.map(drop)
}

/// A project's owner and name.
pub(super) async fn owner_of(db: &impl GenericClient, id: &ProjectRef) -> Result<Option<(OwnerId, String)>, Error> {
    const SQL: &str = "select owner_id::text, name from platform.projects where id = $1 and not is_spare";
    Ok(db.query_opt(SQL, &[&id.as_str()]).await?.map(|row| (OwnerId(row.get(0)), row.get(1))))
}

/// Whether an owner has a project of this name.
pub(super) async fn name_is_taken(db: &impl GenericClient, owner: &OwnerId, name: &str) -> Result<bool, Error> {
    const SQL: &str = "select exists (select from platform.projects
        where owner_id = $1::text::uuid and name = $2 and status <> 'deleted')";
    db.query_one(SQL, &[&owner.0, &name]).await.map(|row| row.get(0))
}

/// The server's version as a number: 150008 is 15.8.
pub(super) async fn server_version(db: &impl GenericClient) -> Result<i32, Error> {
    db.query_one("select current_setting('server_version_num')::integer", &[]).await.map(|row| row.get(0))
}

/// Reads a table's rows in the order in which they were loaded, in the form that dumps have.
pub(super) async fn copy_settings(db: &impl GenericClient) -> Result<(), Error> {
    db.batch_execute(
        "set synchronize_seqscans = off; set datestyle = 'ISO, DMY'; set intervalstyle = 'postgres';
         set extra_float_digits = 1; set bytea_output = 'hex'; set row_security = off; set statement_timeout = 0;
         set search_path = ''; set client_encoding = 'UTF8'",
    )
    .await
}

/// `COPY ... TO STDOUT` of what a dump's COPY named; that text was SQL already, of the same session's rights.
pub(super) fn copy_out(columns: &str) -> String {
    format!("COPY {columns} TO STDOUT")
}

/// Planner statistics; of what the session does not own there are none to make.
pub(super) async fn analyze(db: &impl GenericClient) -> Result<(), Error> {
    db.batch_execute("set client_min_messages = error; reset role; analyze").await
}
