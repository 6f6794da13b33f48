-- Ends autovacuum's work on a project's table that runs stored code for too long: there are few of these workers for all
-- databases, and an index on a function of the owner's lets them wait for as long as he likes, when the table is analyzed or
-- an index of ranges (BRIN) summarized. VACUUM runs none. Gives the project of each.
--
-- $1 float8 seconds that may take at most, $2 text[] the only projects to look at or null
select activity.datname::text, pg_catalog.pg_terminate_backend(activity.pid)
from pg_catalog.pg_stat_activity activity
where not exists (select from pg_catalog.pg_stat_progress_vacuum progress where progress.pid = activity.pid)
    and activity.backend_type = 'autovacuum worker'
    and activity.datname::text ~ '^proj_[a-z0-9]{3,40}$' and ($2::text[] is null or activity.datname::text = any ($2::text[]))
    and activity.xact_start < pg_catalog.now() - pg_catalog.make_interval(secs => $1::float8)
