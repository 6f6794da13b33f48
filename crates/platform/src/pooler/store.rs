//! Whom the pooler knows.

use tokio_postgres::{Error, GenericClient};

/// Name and verifier of the owner's role of every project that is served; database and role have one name.
///
/// An owner can set any text as a verifier that PostgreSQL takes for one, and a line of the pooler's file that it cannot read
/// hides all lines behind it. So those are left out that are not just as PostgreSQL and we make them; when the password was
/// put back (`provision::logins`), the role is there again.
pub(super) async fn pooled_logins(db: &impl GenericClient) -> Result<Vec<(String, String)>, Error> {
    const SQL: &str = "select p.id, role.rolpassword
        from platform.projects as p
        join pg_catalog.pg_database as database on database.datname = p.id and database.datallowconn
        join pg_catalog.pg_authid as role on role.rolname = p.id
        where not p.is_spare and p.status = 'active' and role.rolcanlogin and not role.rolsuper
            and octet_length(role.rolpassword) = 133
            and role.rolpassword
                ~ '^SCRAM-SHA-256[$]4096:[A-Za-z0-9+/=]{24}[$][A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}$'
        order by p.id";
    Ok(db.query(SQL, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A login of the services in a project's database.
pub(super) struct ServiceLogin {
    pub(super) database: String,
    pub(super) role: String,
    pub(super) verifier: String,
}

/// The authenticator of every project that is served, and of those that are kept ready: the services may reach one in the
/// moment in which it becomes somebody's. Only verifiers as [`pooled_logins`] takes them.
pub(super) async fn service_logins(db: &impl GenericClient) -> Result<Vec<ServiceLogin>, Error> {
    const SQL: &str = "select p.id, role.rolname::text, role.rolpassword
        from platform.projects as p
        join pg_catalog.pg_database as database on database.datname = p.id and database.datallowconn
        join pg_catalog.pg_authid as role on role.rolname = p.id || '_authenticator'
        where (p.is_spare or p.status = 'active') and role.rolcanlogin and not role.rolsuper
            and octet_length(role.rolpassword) = 133
            and role.rolpassword
                ~ '^SCRAM-SHA-256[$]4096:[A-Za-z0-9+/=]{24}[$][A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}$'
        order by p.id";
    let login =
        |row: &tokio_postgres::Row| ServiceLogin { database: row.get(0), role: row.get(1), verifier: row.get(2) };
    Ok(db.query(SQL, &[]).await?.iter().map(login).collect())
}

/// Those of some roles that can log in and are no superusers; projects' owners are known already.
pub(super) async fn named_logins(db: &impl GenericClient, names: &[String]) -> Result<Vec<(String, String)>, Error> {
    const SQL: &str = "select role.rolname::text, role.rolpassword
        from pg_catalog.pg_authid as role
        where role.rolname::text = any($1) and role.rolcanlogin and not role.rolsuper
            and octet_length(role.rolpassword) <= 512 and role.rolpassword like 'SCRAM-SHA-256$%'
            and not exists (select from platform.projects as p where p.id = role.rolname::text)
        order by role.rolname";
    Ok(db.query(SQL, &[&names]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}
