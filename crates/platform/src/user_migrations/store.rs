//! The ledger, in the project's database, as its owner.

/// Serializes whoever applies migrations; ends with the session.
pub(super) const TRY_LOCK: &str = "select pg_catalog.pg_try_advisory_lock(7146231905224701)";

/// Whether there is a ledger, and one of checksums.
pub(super) const EXISTS: &str = "select
    pg_catalog.to_regclass('supabase_migrations.schema_migrations') is not null,
    pg_catalog.to_regclass('supabase_migrations.launchdb_checksums') is not null";

/// As the Supabase CLI makes it, and our own beside it.
pub(super) const CREATE: &str = "create schema if not exists supabase_migrations;
    create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
    alter table supabase_migrations.schema_migrations add column if not exists statements text[];
    alter table supabase_migrations.schema_migrations add column if not exists name text;
    create table if not exists supabase_migrations.launchdb_checksums (
        version text not null primary key,
        sha256 text not null,
        applied_at timestamptz not null default pg_catalog.now()
    )";

/// Everything that was applied. Of a ledger that only the Supabase CLI has written there are no checksums.
pub(super) const LIST: &str = "select m.version, m.name, coalesce(pg_catalog.cardinality(m.statements), 0)::text,
        c.sha256, pg_catalog.to_char(c.applied_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
    from supabase_migrations.schema_migrations as m
    left join supabase_migrations.launchdb_checksums as c on c.version = m.version
    order by m.version";
pub(super) const LIST_FOREIGN: &str = "select version, name, coalesce(pg_catalog.cardinality(statements), 0)::text,
        null, null
    from supabase_migrations.schema_migrations order by version";

/// A file that ran: version, name, statements as a JSON array, checksum.
pub(super) const INSERT: &str = "with checksum as (
        insert into supabase_migrations.launchdb_checksums (version, sha256) values ($1, $4)
        on conflict (version) do update set sha256 = excluded.sha256, applied_at = pg_catalog.now()
    )
    insert into supabase_migrations.schema_migrations (version, name, statements)
    select $1, $2, pg_catalog.array_agg(statement)
    from pg_catalog.json_array_elements_text($3::pg_catalog.json) as statement";
/// What a file may have changed of its session.
pub(super) const RESET: &str = "reset role; reset search_path; set check_function_bodies = on; set row_security = on";
