//! Databases that a backup is loaded into, and how one takes the place of a project's.

use base::{OwnerId, ProjectRef, ProjectStatus};
use pg::ident::{quote_ident, quote_literal};
use tokio_postgres::{Error, GenericClient};

use super::database::{SILENCE, connect_allow_in_tx};

/// A copy of `template` of `comment`, closed to everybody. Nobody gets in before it is: a new database is open to all, and
/// whoever owns another project may wait for its name.
pub(in crate::provision) async fn scratch_create(
    db: &impl GenericClient,
    name: &str,
    template: &str,
    comment: &str,
    connection_limit: i32,
) -> Result<(), Error> {
    let quoted = quote_ident(name);
    db.batch_execute(&format!(
        "create database {quoted} template {} encoding 'UTF8' allow_connections false
            connection limit {connection_limit}",
        quote_ident(template)
    ))
    .await?;
    db.batch_execute(&format!(
        "revoke all on database {quoted} from public;
         comment on database {quoted} is {};
         alter database {quoted} with allow_connections true",
        quote_literal(comment)
    ))
    .await
}

/// What a project's database has, for the owner alone: the services stay out until it is the project's.
pub(in crate::provision) async fn scratch_open_in_tx(
    db: &impl GenericClient,
    name: &str,
    id: &ProjectRef,
    owner_role: &str,
) -> Result<(), Error> {
    let (database, owner, owner_role) = (quote_ident(name), quote_ident(id.owner_role()), quote_ident(owner_role));
    db.batch_execute(&format!(
        "grant temporary on database {database} to public;
         grant connect on database {database} to {owner};
         grant create on database {database} to {owner}, {owner_role};
         alter database {database} set search_path to \"$user\", public, extensions;
         alter database {database} set {SILENCE};
         alter role {owner} in database {database} set role to {owner_role}"
    ))
    .await
}

/// Lets nobody in any more, or again.
pub(in crate::provision) async fn database_allow_connections(
    db: &impl GenericClient,
    name: &str,
    allowed: bool,
) -> Result<(), Error> {
    db.batch_execute(&format!("alter database {} with allow_connections {allowed}", quote_ident(name))).await
}

/// Puts `scratch` in the place of the project's database, which is called `replaced` from then on when there is one.
/// Nobody may be connected to either.
pub(in crate::provision) async fn database_swap_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    scratch: &str,
    replaced: Option<(&str, &str)>,
    comment: &str,
    status: ProjectStatus,
) -> Result<(), Error> {
    let database = quote_ident(id.database());
    if let Some((replaced, comment)) = replaced {
        let quoted = quote_ident(replaced);
        db.batch_execute(&format!(
            "alter database {database} rename to {quoted};
             comment on database {quoted} is {}",
            quote_literal(comment)
        ))
        .await?;
    }
    db.batch_execute(&format!(
        "alter database {} rename to {database};
         comment on database {database} is {};
         alter database {database} with allow_connections true",
        quote_ident(scratch),
        quote_literal(comment)
    ))
    .await?;
    connect_allow_in_tx(db, id, status == ProjectStatus::Active).await
}

/// Puts `scratch` in the place of the platform's database, which is called `replaced` from then on. Nobody may be connected
/// to either.
pub(in crate::provision) async fn platform_swap_in_tx(
    db: &impl GenericClient,
    platform: &str,
    scratch: &str,
    replaced: &str,
    comment: &str,
) -> Result<(), Error> {
    let (platform, scratch, replaced) = (quote_ident(platform), quote_ident(scratch), quote_ident(replaced));
    db.batch_execute(&format!(
        "alter database {platform} rename to {replaced};
         comment on database {replaced} is {};
         alter database {scratch} rename to {platform};
         comment on database {platform} is null;
         alter database {platform} with allow_connections true",
        quote_literal(comment)
    ))
    .await
}

/// Ids and names of the projects that have somebody, deleted ones not counted.
pub(in crate::provision) async fn project_names(db: &impl GenericClient) -> Result<Vec<(String, String)>, Error> {
    const SQL: &str = "select id, coalesce(name, '') from platform.projects
        where not is_spare and status <> 'deleted' order by created_at, id";
    Ok(db.query(SQL, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Takes away the rows of projects that were made ahead, with their secrets.
pub(in crate::provision) async fn spares_forget_in_tx(db: &impl GenericClient) -> Result<(), Error> {
    db.batch_execute(
        "delete from platform.secrets where project_id in (select id from platform.projects where is_spare);
         delete from platform.projects where is_spare",
    )
    .await
}

/// The row of a project that comes from a backup, whole.
pub(in crate::provision) async fn project_insert_restored_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    owner: &OwnerId,
    name: &str,
    baseline_version: i32,
) -> Result<(), Error> {
    const SQL: &str = "insert into platform.projects (id, owner_id, name, status, is_spare, baseline_version)
        values ($1, $2::text::uuid, $3, 'active', false, $4)";
    db.execute(SQL, &[&id.as_str(), &owner.0, &name, &baseline_version]).await.map(drop)
}

/// Extensions of the database that the session is in, oldest first.
pub(in crate::provision) async fn extension_names(db: &impl GenericClient) -> Result<Vec<String>, Error> {
    let rows = db.query("select extname::text from pg_catalog.pg_extension order by oid", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Tables of the database that the session is in.
pub(in crate::provision) async fn table_count(db: &impl GenericClient) -> Result<i64, Error> {
    const SQL: &str = "select count(*) from pg_catalog.pg_class where relkind in ('r', 'p') and oid >= 16384";
    db.query_one(SQL, &[]).await.map(|row| row.get(0))
}

/// The process of the session.
pub(in crate::provision) async fn session_pid(db: &impl GenericClient) -> Result<i32, Error> {
    db.query_one("select pg_catalog.pg_backend_pid()", &[]).await.map(|row| row.get(0))
}

/// Ends a role's sessions in a database, but for one.
pub(in crate::provision) async fn sessions_end_but(
    db: &impl GenericClient,
    database: &str,
    role: &str,
    stays: Option<i32>,
) -> Result<(), Error> {
    const SQL: &str = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = $1 and usename = $2 and backend_type = 'client backend' and pid is distinct from $3";
    db.query(SQL, &[&database, &role, &stays]).await.map(drop)
}

/// A trigger on a table of the owner's that runs a function of ours.
#[derive(Clone, Debug)]
pub(in crate::provision) struct InternalTrigger {
    /// With its schema, quoted where it has to be.
    pub(in crate::provision) table: String,
    pub(in crate::provision) definition: String,
    pub(in crate::provision) columns: Vec<ColumnType>,
}

/// A column as a function of ours was written for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provision) struct ColumnType {
    name: String,
    type_oid: u32,
    type_modifier: i32,
}

/// The triggers that the baseline put on the owner's tables. `pg_catalog` is the search path.
pub(in crate::provision) async fn internal_triggers(db: &impl GenericClient) -> Result<Vec<InternalTrigger>, Error> {
    const SQL: &str = "select tgrelid::regclass::text, pg_get_triggerdef(trigger.oid)
        from pg_trigger as trigger
        join pg_proc as function on function.oid = trigger.tgfoid
        where function.pronamespace = '_launchdb'::regnamespace and not trigger.tgisinternal
        order by 1, 2";
    let mut triggers = Vec::new();
    for row in db.query(SQL, &[]).await? {
        let table: String = row.get(0);
        let columns = column_types(db, &table).await?;
        triggers.push(InternalTrigger { table, definition: row.get(1), columns });
    }
    Ok(triggers)
}

async fn column_types(db: &impl GenericClient, table: &str) -> Result<Vec<ColumnType>, Error> {
    const SQL: &str = "select attname::text, atttypid, atttypmod
        from pg_attribute join pg_class on pg_class.oid = attrelid
        where attrelid = to_regclass($1) and relkind = 'r' and attnum > 0 and not attisdropped";
    let rows = db.query(SQL, &[&table]).await?;
    let read =
        |row: &tokio_postgres::Row| ColumnType { name: row.get(0), type_oid: row.get(1), type_modifier: row.get(2) };
    Ok(rows.iter().map(read).collect())
}

/// Puts a trigger back on its table, unless the owner has no such table; false when the table is another than the one that
/// the function was written for. It has no superuser's rights, but of a column of the owner's own type, casts and operators
/// of the owner would be run by it.
pub(in crate::provision) async fn internal_trigger_put_in_tx(
    db: &impl GenericClient,
    trigger: &InternalTrigger,
) -> Result<bool, Error> {
    if column_types(db, &trigger.table).await?.is_empty() {
        return Ok(true);
    }
    // Nobody changes the table between the look and the trigger.
    db.batch_execute(&format!("lock table only {} in share row exclusive mode", trigger.table)).await?;
    let found = column_types(db, &trigger.table).await?;
    if !trigger.columns.iter().all(|column| found.contains(column)) {
        return Ok(false);
    }
    db.batch_execute(&trigger.definition).await?;
    Ok(true)
}
