//! The two login roles of a project.

use base::{ProjectRef, RoleName};
use pg::ident::{quote_ident, quote_literal};
use tokio_postgres::{Error, GenericClient};

/// Attributes that no project's role may have, whatever it was given before.
const POWERLESS: &str = "nosuperuser nocreatedb nocreaterole noreplication nobypassrls";

/// Which role of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provision) enum Login<'a> {
    /// Runs the owner's SQL as a member of the owner role.
    Owner { owner_role: &'a str },
    /// The services; may only become a role of the API.
    Authenticator,
}

/// The comment on a role; none when there is no such role, empty text when it has no comment.
pub(in crate::provision) async fn role_comment(db: &impl GenericClient, name: &str) -> Result<Option<String>, Error> {
    const SQL: &str = "select coalesce(shobj_description(oid, 'pg_authid'), '') from pg_roles where rolname = $1";
    Ok(db.query_opt(SQL, &[&name]).await?.map(|row| row.get(0)))
}

/// Makes a role or puts it right. `verifier` is SCRAM's, never a password: statements can end up in logs.
pub(in crate::provision) async fn role_put_in_tx(
    db: &impl GenericClient,
    id: &ProjectRef,
    login: Login<'_>,
    connection_limit: i32,
    verifier: &str,
    comment: &str,
    exists: bool,
) -> Result<(), Error> {
    let (name, inherit, memberships) = match login {
        Login::Owner { owner_role } => {
            let mut memberships = vec![owner_role];
            memberships.extend(RoleName::STANDARD);
            (id.owner_role().to_owned(), "inherit", memberships)
        }
        Login::Authenticator => {
            let mut memberships = RoleName::STANDARD.to_vec();
            memberships.extend(["supabase_auth_admin", "supabase_storage_admin"]);
            (id.authenticator_role(), "noinherit", memberships)
        }
    };
    let (verb, name) = (if exists { "alter" } else { "create" }, quote_ident(&name));
    let memberships: Vec<String> = memberships.into_iter().map(quote_ident).collect();
    let sql = format!(
        "{verb} role {name} login {inherit} {POWERLESS} connection limit {connection_limit} password {}; \
         grant {} to {name}; comment on role {name} is {}",
        quote_literal(verifier),
        memberships.join(", "),
        quote_literal(comment),
    );
    db.batch_execute(&sql).await
}

pub(in crate::provision) async fn role_password_put(
    db: &impl GenericClient,
    name: &str,
    verifier: &str,
) -> Result<(), Error> {
    db.batch_execute(&format!("alter role {} password {}", quote_ident(name), quote_literal(verifier))).await
}

/// Drops a role with what it was granted on shared objects; it owns nothing once its project's database is gone.
pub(in crate::provision) async fn role_drop(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    let name = quote_ident(name);
    db.batch_execute(&format!("drop owned by {name}; drop role {name}")).await
}

/// Names and comments of every role that is named like one of a project and has a comment.
pub(in crate::provision) async fn project_roles(db: &impl GenericClient) -> Result<Vec<(String, String)>, Error> {
    const SQL: &str = "select rolname, shobj_description(oid, 'pg_authid') from pg_roles
        where rolname ~ '^proj_[a-z0-9]{3,40}(_authenticator)?$' and shobj_description(oid, 'pg_authid') is not null";
    Ok(db.query(SQL, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}
