//! The cluster as a whole: shared roles, who may connect where, locks.

use pg::ident::quote_ident;
use tokio_postgres::{Error, GenericClient};

use crate::baseline;

/// Takes a lock that ends with the session, however long that takes: for what has to be done before anything else.
pub(in crate::provision) async fn lock(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    db.batch_execute("set lock_timeout = 0").await?;
    db.execute("select pg_advisory_lock(hashtextextended($1, 0))", &[&name]).await?;
    db.batch_execute("reset lock_timeout").await
}

/// Takes the same lock if nobody holds it.
pub(in crate::provision) async fn try_lock(db: &impl GenericClient, name: &str) -> Result<bool, Error> {
    db.query_one("select pg_try_advisory_lock(hashtextextended($1, 0))", &[&name]).await.map(|row| row.get(0))
}

/// Gives a lock back before the session's end.
pub(in crate::provision) async fn unlock(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    db.execute("select pg_advisory_unlock(hashtextextended($1, 0))", &[&name]).await.map(drop)
}

/// Makes the roles that all projects share, and puts their memberships right.
pub(in crate::provision) async fn shared_roles_put(db: &impl GenericClient, owner_role: &str) -> Result<(), Error> {
    db.execute("select set_config('launchdb.owner_role', $1, false)", &[&owner_role]).await?;
    // A simple query of several statements is one transaction.
    db.batch_execute(baseline::CLUSTER_ROLES).await
}

/// Which of `candidates` the projects of this installation are members of: the owner role that was chosen before.
/// `marker` is what comments of the installation begin with.
pub(in crate::provision) async fn owner_role_in_use(
    db: &impl GenericClient,
    candidates: &[&str],
    marker: &str,
) -> Result<Option<String>, Error> {
    const SQL: &str = "select granted.rolname
        from pg_auth_members as membership
        join pg_roles as granted on granted.oid = membership.roleid
        join pg_roles as project on project.oid = membership.member
        where granted.rolname = any ($1) and project.rolname ~ '^proj_[a-z0-9]{3,40}$'
            and starts_with(shobj_description(project.oid, 'pg_authid'), $2)
        limit 1";
    Ok(db.query_opt(SQL, &[&candidates, &marker]).await?.map(|row| row.get(0)))
}

/// Why roles that projects are made members of must not be: `role` followed by what it can reach or lacks. A role that does not
/// exist has no fault.
pub(in crate::provision) async fn role_faults(
    db: &impl GenericClient,
    roles: &[&str],
) -> Result<Vec<(String, String)>, Error> {
    const SQL: &str = include_str!("role_faults.sql");
    let rows = db.query(SQL, &[&roles, &crate::provision::cluster::BYPASSING_ROLES.as_slice()]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Lets nobody connect to `databases` who was not granted it by name; those that do not exist are left out.
pub(in crate::provision) async fn databases_close(db: &impl GenericClient, databases: &[&str]) -> Result<(), Error> {
    // Only where it changes something: each is a write to a catalog that all databases share.
    const OPEN: &str = "select datname from pg_database
        where datname = any ($1)
            and exists (select from aclexplode(coalesce(datacl, acldefault('d', datdba))) as acl
                where acl.grantee = 0 and acl.privilege_type = 'CONNECT')";
    for row in db.query(OPEN, &[&databases]).await? {
        let name = quote_ident(row.get(0));
        db.batch_execute(&format!("revoke connect on database {name} from public")).await?;
    }
    Ok(())
}

/// Databases that are not ours and that every role may connect to, so that an owner's role can reach them.
pub(in crate::provision) async fn databases_open_to_all(db: &impl GenericClient) -> Result<Vec<String>, Error> {
    const SQL: &str = "select datname from pg_database
        where datallowconn and exists (
            select from aclexplode(coalesce(datacl, acldefault('d', datdba))) as acl
            where acl.grantee = 0 and acl.privilege_type = 'CONNECT')
        order by datname";
    Ok(db.query(SQL, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Settings that somebody hung on a shared role (anybody may alter the role they act as), as role and database.
pub(in crate::provision) async fn shared_role_settings(
    db: &impl GenericClient,
    roles: &[&str],
) -> Result<Vec<(String, Option<String>)>, Error> {
    const SQL: &str = "select r.rolname, d.datname from pg_db_role_setting as s
        join pg_roles as r on r.oid = s.setrole left join pg_database as d on d.oid = s.setdatabase
        where r.rolname = any ($1)";
    let rows = db.query(SQL, &[&roles]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Takes all settings of a role away, in one database or everywhere.
pub(in crate::provision) async fn role_settings_reset(
    db: &impl GenericClient,
    role: &str,
    database: Option<&str>,
) -> Result<(), Error> {
    let scope = database.map(|name| format!(" in database {}", quote_ident(name))).unwrap_or_default();
    db.batch_execute(&format!("alter role {}{scope} reset all", quote_ident(role))).await
}

/// A password on a shared role would be one that somebody gave it who acted as it.
pub(in crate::provision) async fn shared_role_passwords(
    db: &impl GenericClient,
    roles: &[&str],
) -> Result<Vec<String>, Error> {
    const SQL: &str =
        "select rolname from pg_authid where rolname = any ($1) and rolpassword is not null and not rolcanlogin";
    Ok(db.query(SQL, &[&roles]).await?.iter().map(|row| row.get(0)).collect())
}

pub(in crate::provision) async fn role_password_remove(db: &impl GenericClient, role: &str) -> Result<(), Error> {
    db.batch_execute(&format!("alter role {} password null", quote_ident(role))).await
}
