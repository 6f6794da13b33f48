//! What a project uses; asked in the project's own database, as its owner.

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
