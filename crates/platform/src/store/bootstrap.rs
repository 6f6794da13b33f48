//! Making the platform database and the role that owns it, as the cluster's superuser.

use base::Secret;
use pg::ident::{quote_ident, quote_literal};
use tokio_postgres::{Error, GenericClient};

/// Whether the platform database answers; for health checks.
pub(crate) async fn ping(db: &impl GenericClient) -> Result<(), Error> {
    db.batch_execute("select 1").await
}

/// Whether the watchdog, in whatever process, has closed the cluster for writing.
pub(crate) async fn writes_refused(db: &impl GenericClient) -> Result<bool, Error> {
    db.query_one(include_str!("writes_refused.sql"), &[]).await.map(|row| row.get(0))
}

/// Whether the session's role is a superuser.
pub(crate) async fn is_superuser(db: &impl GenericClient) -> Result<bool, Error> {
    db.query_one("select rolsuper from pg_catalog.pg_roles where rolname = current_user", &[])
        .await
        .map(|row| row.get(0))
}

pub(crate) async fn role_exists(db: &impl GenericClient, name: &str) -> Result<bool, Error> {
    db.query_one("select exists (select from pg_catalog.pg_roles where rolname = $1)", &[&name])
        .await
        .map(|row| row.get(0))
}

pub(crate) async fn database_exists(db: &impl GenericClient, name: &str) -> Result<bool, Error> {
    db.query_one("select exists (select from pg_catalog.pg_database where datname = $1)", &[&name])
        .await
        .map(|row| row.get(0))
}

/// Makes the role, or takes every privilege away that it must not have; sets the password when one is given.
pub(crate) async fn role_put(
    db: &impl GenericClient,
    name: &str,
    password: Option<&Secret<String>>,
    exists: bool,
) -> Result<(), Error> {
    let verb = if exists { "alter" } else { "create" };
    // Role statements take no parameters; the password must not reach the server's log when they fail.
    let mut sql = format!(
        "set local log_min_error_statement = panic; set local log_statement = none; \
         {verb} role {} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls",
        quote_ident(name)
    );
    if let Some(password) = password {
        sql.push_str(" password ");
        sql.push_str(&quote_literal(password.expose()));
    }
    db.batch_execute(&sql).await
}

/// Makes the database, which nobody gets into before [`database_close`].
pub(crate) async fn database_create(db: &impl GenericClient, name: &str, owner: &str) -> Result<(), Error> {
    let (name, owner) = (quote_ident(name), quote_ident(owner));
    let options = "template template0 encoding 'UTF8' allow_connections false";
    db.batch_execute(&format!("create database {name} owner {owner} {options}")).await
}

/// Lets nobody connect but the database's owner, who can from now on. At every start; one that is as it should be is left
/// alone as far as possible, because others may change it at the same time.
pub(crate) async fn database_close(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    let is_shut = db.query_opt("select from pg_database where datname = $1 and not datallowconn", &[&name]).await?;
    let name = quote_ident(name);
    let mut sql = format!("revoke all on database {name} from public");
    if is_shut.is_some() {
        sql.push_str(&format!("; alter database {name} with allow_connections true"));
    }
    db.batch_execute(&sql).await
}
