//! What can be changed about the login roles of projects by those who act as them: password and settings.

use base::ProjectRef;
use tokio_postgres::{Error, GenericClient};

/// The verifier, unless it is longer than any that we make: before PostgreSQL 18 an owner can have one of hundreds of MB.
const VERIFIER: &str = "case when octet_length(rolpassword) <= 512 then rolpassword end";

/// A login role of a project, as the cluster has it.
#[derive(Clone, Debug)]
pub(in crate::provision) struct LoginRole {
    pub(in crate::provision) name: String,
    pub(in crate::provision) comment: String,
    /// None when somebody took the password away, or made it too long.
    pub(in crate::provision) verifier: Option<String>,
}

/// Every role that is named like one of a project and has a comment.
pub(in crate::provision) async fn login_roles(db: &impl GenericClient) -> Result<Vec<LoginRole>, Error> {
    let sql = format!(
        "select rolname, shobj_description(oid, 'pg_authid'), {VERIFIER} from pg_authid
        where rolname ~ '^proj_[a-z0-9]{{3,40}}(_authenticator)?$' and shobj_description(oid, 'pg_authid') is not null"
    );
    let rows = db.query(&sql, &[]).await?;
    Ok(rows.iter().map(|row| LoginRole { name: row.get(0), comment: row.get(1), verifier: row.get(2) }).collect())
}

/// The verifier of one role; none when it has none, or is not there.
pub(in crate::provision) async fn verifier_get(db: &impl GenericClient, name: &str) -> Result<Option<String>, Error> {
    let row = db.query_opt(&format!("select {VERIFIER} from pg_authid where rolname = $1"), &[&name]).await?;
    Ok(row.and_then(|row| row.get(0)))
}

/// Authenticator roles with settings of their own, and the database these are for; we give them none.
pub(in crate::provision) async fn authenticator_settings(
    db: &impl GenericClient,
) -> Result<Vec<(String, Option<String>)>, Error> {
    const SQL: &str = "select role.rolname, database.datname
        from pg_db_role_setting as setting
        join pg_roles as role on role.oid = setting.setrole
        left join pg_database as database on database.oid = setting.setdatabase
        where role.rolname ~ '^proj_[a-z0-9]{3,40}_authenticator$'";
    Ok(db.query(SQL, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The project that a login role belongs to.
pub(in crate::provision) fn project_of(role: &str) -> Option<ProjectRef> {
    ProjectRef::parse(role.strip_suffix("_authenticator").unwrap_or(role)).ok()
}
