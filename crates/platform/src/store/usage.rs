//! What a project uses; asked in the project's own database, as its owner, or of what everybody may see.

use tokio_postgres::{Error, GenericClient};

/// Bytes on disk, connections, the most connections allowed (-1 is no limit), transactions and rows since the
/// statistics were last reset.
///
/// The session's role is the shared owner role, which may connect to no database and so may not ask for the size of one;
/// the login role may.
pub(crate) const DATABASE_USAGE: &str = "set role none;
    select pg_catalog.pg_database_size(d.oid), s.numbackends, d.datconnlimit,
        s.xact_commit, s.xact_rollback, s.tup_returned, s.tup_inserted + s.tup_updated + s.tup_deleted
    from pg_catalog.pg_database d join pg_catalog.pg_stat_database s on s.datid = d.oid
    where d.datname = pg_catalog.current_database()";

/// Whether a role has as many sessions as its limit admits.
pub(crate) async fn sessions_are_used_up(db: &impl GenericClient, role: &str) -> Result<bool, Error> {
    const SQL: &str = "select exists (
        select from pg_catalog.pg_roles r
        where r.rolname = $1 and r.rolconnlimit >= 0
            and r.rolconnlimit <= (select count(*) from pg_catalog.pg_stat_activity a where a.usesysid = r.oid))";
    db.query_one(SQL, &[&role]).await.map(|row| row.get(0))
}
