//! Databases: of projects and of the template.

use base::ProjectRef;
use pg::ident::{quote_ident, quote_literal};
use tokio_postgres::{Error, GenericClient};

/// Keeps what a project's statements say (errors, RAISE) out of the server's log, which is everybody's and has an end: it
/// is the caller's, who gets it, and may hold what a user typed. On the database because that counts for autovacuum, too,
/// which runs functions of the owner; and only a superuser can change it.
pub(super) const SILENCE: &str = "log_min_messages = 'fatal'";

/// A database of the cluster.
#[derive(Clone, Debug)]
pub(in crate::provision) struct Database {
    pub(in crate::provision) name: String,
    pub(in crate::provision) comment: Option<String>,
    pub(in crate::provision) allows_connections: bool,
}

const SELECT: &str =
    "select datname::text, shobj_description(oid, 'pg_database'), datallowconn from pg_database where ";

fn read(row: &tokio_postgres::Row) -> Database {
    Database { name: row.get(0), comment: row.get(1), allows_connections: row.get(2) }
}

pub(in crate::provision) async fn database_get(db: &impl GenericClient, name: &str) -> Result<Option<Database>, Error> {
    Ok(db.query_opt(&format!("{SELECT} datname = $1"), &[&name]).await?.as_ref().map(read))
}

/// Databases whose comment begins with `marker`.
pub(in crate::provision) async fn databases_marked(
    db: &impl GenericClient,
    marker: &str,
) -> Result<Vec<Database>, Error> {
    let sql = format!("{SELECT} starts_with(shobj_description(oid, 'pg_database'), $1)");
    Ok(db.query(&sql, &[&marker]).await?.iter().map(read).collect())
}

/// Makes a project's database, closed to everybody until [`database_open_in_tx`].
///
/// Copied as files. Measured with this baseline, 300 in a row on two cores: `WAL_LOG` takes 50-65 ms each, but leaves
/// WAL to replay and thousands of files to sync at a crash (6 of them: 3-6 s until PostgreSQL is up again); `FILE_COPY`
/// takes 130 ms because it makes a checkpoint, and leaves nothing (0.4 s). Requests do not wait for it: they get spares.
pub(in crate::provision) async fn database_create(
    db: &impl GenericClient,
    id: &ProjectRef,
    template: &str,
    connection_limit: i32,
) -> Result<(), Error> {
    let sql = format!(
        "create database {} template {} strategy file_copy allow_connections false connection limit {connection_limit}",
        quote_ident(id.database()),
        quote_ident(template),
    );
    db.batch_execute(&sql).await
}

/// Gives a fresh database its privileges and settings, none of which a copy takes over from the template, and opens it.
pub(in crate::provision) async fn database_open_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    owner_role: &str,
    comment: &str,
) -> Result<(), Error> {
    let (database, owner) = (quote_ident(id.database()), quote_ident(id.owner_role()));
    let (authenticator, owner_role) = (quote_ident(&id.authenticator_role()), quote_ident(owner_role));
    let sql = format!(
        "revoke all on database {database} from public;
         grant temporary on database {database} to public;
         grant connect on database {database} to {owner}, {authenticator};
         grant create on database {database} to {owner}, {owner_role};
         alter database {database} set search_path to \"$user\", public, extensions;
         alter database {database} set {SILENCE};
         alter role {owner} in database {database} set role to {owner_role};
         comment on database {database} is {};
         alter database {database} with allow_connections true",
        quote_literal(comment)
    );
    db.batch_execute(&sql).await
}

pub(in crate::provision) async fn database_comment(
    db: &impl GenericClient,
    name: &str,
    comment: &str,
) -> Result<(), Error> {
    db.batch_execute(&format!("comment on database {} is {}", quote_ident(name), quote_literal(comment))).await
}

/// Databases whose comment begins with `marker` and that do not have [`SILENCE`]: an earlier version made them.
pub(in crate::provision) async fn databases_loud(db: &impl GenericClient, marker: &str) -> Result<Vec<String>, Error> {
    const SQL: &str = "select datname::text from pg_database
        where starts_with(shobj_description(oid, 'pg_database'), $1) and not datistemplate and not exists (
            select from pg_db_role_setting
            where setdatabase = pg_database.oid and setrole = 0 and 'log_min_messages=fatal' = any (setconfig))";
    Ok(db.query(SQL, &[&marker]).await?.iter().map(|row| row.get(0)).collect())
}

/// Gives a database [`SILENCE`]; counts for sessions that begin later.
pub(in crate::provision) async fn database_silence(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    db.batch_execute(&format!("alter database {} set {SILENCE}", quote_ident(name))).await
}

/// Lets the project's roles connect, or no longer. The superuser still can: for backups and upgrades.
pub(in crate::provision) async fn connect_allow_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    allowed: bool,
) -> Result<(), Error> {
    let database = quote_ident(id.database());
    let roles = format!("{}, {}", quote_ident(id.owner_role()), quote_ident(&id.authenticator_role()));
    let sql = if allowed {
        format!("grant connect on database {database} to {roles}")
    } else {
        format!("revoke connect on database {database} from {roles}")
    };
    db.batch_execute(&sql).await
}

/// Ends every session in a database.
pub(in crate::provision) async fn sessions_end(db: &impl GenericClient, database: &str) -> Result<(), Error> {
    const SQL: &str =
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()";
    db.query(SQL, &[&database]).await.map(drop)
}

/// Ends what reads a database's replication slots and drops them: they would keep the database and its WAL.
pub(in crate::provision) async fn slots_drop(db: &impl GenericClient, database: &str) -> Result<(), Error> {
    const END: &str = "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots
        where database = $1 and active_pid is not null";
    db.query(END, &[&database]).await?;
    db.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1", &[&database])
        .await
        .map(drop)
}

pub(in crate::provision) async fn database_drop(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    db.batch_execute(&format!("drop database if exists {} with (force)", quote_ident(name))).await
}

/// An empty database in which the template is made, which nobody gets into before it is closed to all.
pub(in crate::provision) async fn template_begin(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    let name = quote_ident(name);
    let create = format!("create database {name} template template0 encoding 'UTF8' allow_connections false");
    db.batch_execute(&create).await?;
    db.batch_execute(&format!(
        "revoke all on database {name} from public; alter database {name} with allow_connections true"
    ))
    .await
}

/// Freezes every row, so that copies need no vacuum against wraparound for a long time. In the template itself.
pub(in crate::provision) async fn template_freeze(db: &impl GenericClient) -> Result<(), Error> {
    db.batch_execute("vacuum (freeze, analyze)").await
}

/// Closes the template that is made in `from` and gives it its name.
pub(in crate::provision) async fn template_finish_in_tx(
    db: &impl GenericClient,
    from: &str,
    name: &str,
    comment: &str,
) -> Result<(), Error> {
    let (from, name) = (quote_ident(from), quote_ident(name));
    let sql = format!(
        "alter database {from} with allow_connections false is_template true;
         comment on database {from} is {};
         alter database {from} rename to {name}",
        quote_literal(comment)
    );
    db.batch_execute(&sql).await
}

pub(in crate::provision) async fn template_drop(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    db.batch_execute(&format!("alter database {} with is_template false", quote_ident(name))).await?;
    database_drop(db, name).await
}

/// Ends every session in a database and waits until none is left.
pub(in crate::provision) async fn sessions_end_and_wait(db: &impl GenericClient, database: &str) -> Result<(), Error> {
    const SQL: &str =
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()";
    db.query(SQL, &[&database]).await.map(drop)
}
