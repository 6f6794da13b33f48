//! What backups read and restores write in the platform's database, and the statements that are run in a project's.

use base::sealed::Sealed;
use base::{OwnerId, ProjectRef};
use tokio_postgres::{Error, GenericClient};

use super::manifest::{KeptDomain, KeptKey};
use super::objects::Objects;

/// Empties what a baseline put into a database, as its owner: the dump brings it all.
pub(super) const CLEAR: &str = include_str!("clear.sql");

/// Back to the role that the owner's sessions begin with, or to the one that logged in.
pub(super) const RESET_ROLE: &str = "reset role";
pub(super) const LOGIN_ROLE: &str = "set role none";

/// `role` as a dump writes it, quoted.
pub(super) fn set_role(role: &str) -> String {
    format!("set role {role}")
}

/// How many there are in a project's database of what its dump makes, see [`Objects`]. Clones of triggers on partitions come
/// with those of the partitioned table, functions of extensions and of range types with these.
pub(super) async fn objects(db: &impl GenericClient) -> Result<Objects, Error> {
    const SQL: &str = "select (select count(*) from pg_catalog.pg_policy),
        (select count(*) from pg_catalog.pg_class where relrowsecurity),
        (select count(*) from pg_catalog.pg_trigger t
            join pg_catalog.pg_proc p on p.oid = t.tgfoid join pg_catalog.pg_namespace n on n.oid = p.pronamespace
            where not t.tgisinternal and t.tgparentid = 0 and n.nspname <> '_launchdb'),
        (select count(*) from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
            where n.nspname not in ('_launchdb', 'pg_catalog', 'information_schema') and n.nspname !~ '^pg_temp_'
                and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_proc'::regclass
                    and d.objid = p.oid and d.deptype in ('e', 'i')))";
    let row = db.query_one(SQL, &[]).await?;
    Ok(Objects { policies: row.get(0), guarded_tables: row.get(1), triggers: row.get(2), functions: row.get(3) })
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

/// Name, access key id and sealed secret of the keys of the S3 protocol.
pub(super) async fn kept_s3_keys(
    db: &impl GenericClient,
    id: &ProjectRef,
) -> Result<Vec<(String, String, Sealed)>, Error> {
    const SQL: &str = "select name, access_key_id, sealed, key_version from platform.s3_access_keys
        where project_id = $1 order by id";
    let rows = db.query(SQL, &[&id.as_str()]).await?;
    let read =
        |row: &tokio_postgres::Row| (row.get(0), row.get(1), Sealed { bytes: row.get(2), key_version: row.get(3) });
    Ok(rows.iter().map(read).collect())
}

/// Puts the backup's keys of the S3 protocol in place of the present ones, with secrets that are sealed anew.
pub(super) async fn s3_keys_replace_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    keys: &[(String, String, Sealed)],
) -> Result<(), Error> {
    db.execute("delete from platform.s3_access_keys where project_id = $1", &[&id.as_str()]).await?;
    const SQL: &str = "insert into platform.s3_access_keys (project_id, name, access_key_id, key_version, sealed)
        values ($1, $2, $3, $4, $5) on conflict do nothing";
    for (name, access_key_id, secret) in keys {
        db.execute(SQL, &[&id.as_str(), name, access_key_id, &secret.key_version, &secret.bytes]).await?;
    }
    Ok(())
}

/// How many keys are in use that the project has not got, or has revoked.
pub(super) async fn keys_missing(db: &impl GenericClient, id: &ProjectRef, keys: &[KeptKey]) -> Result<i64, Error> {
    const SQL: &str = "select count(*) from unnest($2::text[]) as kept (hash)
        where not exists (select from platform.api_keys
            where project_id = $1 and revoked_at is null and hash = decode(kept.hash, 'hex'))";
    let hashes: Vec<&str> = keys.iter().map(|key| key.hash.as_str()).collect();
    db.query_one(SQL, &[&id.as_str(), &hashes]).await.map(|row| row.get(0))
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

/// How many locks the cluster has for all sessions together, by its settings.
pub(super) async fn locks(db: &impl GenericClient) -> Result<i64, Error> {
    const SQL: &str = "select current_setting('max_locks_per_transaction')::int8
        * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)";
    db.query_one(SQL, &[]).await.map(|row| row.get(0))
}

/// Whether PostgreSQL can be told to read no views of others (15.8, 16.4 and later).
pub(super) async fn restricts_relations(db: &impl GenericClient) -> Result<bool, Error> {
    const SQL: &str = "select current_setting('restrict_nonsystem_relation_kind', true) is not null";
    db.query_one(SQL, &[]).await.map(|row| row.get(0))
}

/// When the first of the backups that an owner asked for within a day will be a day old, and how many there were; seconds
/// from now.
pub(super) async fn asked_within_a_day(db: &impl GenericClient, id: &ProjectRef) -> Result<(i64, i64), Error> {
    const SQL: &str = "select count(*), coalesce(86400 - extract(epoch from now() - min(at)), 0)::int8
        from platform.audit_log
        where project_id = $1 and action = 'project.backup' and at > now() - interval '1 day'";
    db.query_one(SQL, &[&id.as_str()]).await.map(|row| (row.get(0), row.get(1)))
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
