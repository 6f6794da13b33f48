-- Autovacuum's workers in projects' databases, and which part of the time that each is seen at what it does counts as time of
-- functions of the owner's, which it runs for indexes on them: while it computes statistics, summarizes an index of ranges
-- (BRIN), which has no progress view, or cleans up indexes at the end of VACUUM, which summarizes too.
--
-- A lock or page that it waits for is held by a session of the owner's, for as long as he likes; to give a table's end back to the
-- disk it tries for five seconds to get one. Pauses and reads from the disk, at which
-- an honest one is most of the time, count for an eighth: how long the pauses are, and what is read, is what such a function
-- decides.
--
-- $1 text[] the only projects to look at or null
select
    activity.pid,
    (extract(epoch from activity.backend_start) * 1000000)::int8 as backend_start,
    (extract(epoch from activity.xact_start) * 1000000)::int8 as xact_start,
    substring(activity.datname::text from '^(proj_[a-z0-9]{3,40})') as project,
    case
        when activity.xact_start is null then 0::float8
        when activity.wait_event_type in ('Lock', 'BufferPin') or activity.wait_event = 'VacuumTruncate' then 1::float8
        when vacuum.phase <> 'cleaning up indexes' or analysis.phase like 'acquiring %' then 0::float8
        when activity.wait_event = 'VacuumDelay' or activity.wait_event_type = 'IO' then 0.125::float8
        else 1::float8
    end as counts,
    -- What makes it pause just now may be the table's doing.
    activity.xact_start is not null and activity.wait_event is not distinct from 'VacuumDelay' as pauses,
    -- Whether no other worker can begin.
    count(*) over () >= current_setting('autovacuum_max_workers')::int8 as all_taken
from pg_catalog.pg_stat_activity activity
left join pg_catalog.pg_stat_progress_vacuum vacuum on vacuum.pid = activity.pid
left join pg_catalog.pg_stat_progress_analyze analysis on analysis.pid = activity.pid
where activity.backend_type = 'autovacuum worker'
    and activity.datname::text ~ '^proj_[a-z0-9]{3,40}'
    and ($1::text[] is null or substring(activity.datname::text from '^(proj_[a-z0-9]{3,40})') = any ($1::text[]))
