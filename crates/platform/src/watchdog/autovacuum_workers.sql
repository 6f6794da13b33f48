-- Autovacuum's workers in projects' databases, and whether each is at something that runs functions of the owner's for
-- indexes on them: analyzing, summarizing an index of ranges (BRIN), which has no progress view, or the cleaning up of indexes at the
-- end of VACUUM, which summarizes too. Not while it pauses as autovacuum does, reads from the disk, or waits for its table, which
-- an honest one does most of the time.
--
-- $1 text[] the only projects to look at or null
select
    activity.pid,
    (extract(epoch from activity.backend_start) * 1000000)::int8 as backend_start,
    substring(activity.datname::text from '^(proj_[a-z0-9]{3,40})') as project,
    activity.xact_start is not null
        and coalesce(progress.phase = 'cleaning up indexes', true)
        and activity.wait_event is distinct from 'VacuumDelay'
        and activity.wait_event_type is distinct from 'IO'
        and not (
            exists (
                select from pg_catalog.pg_locks lock
                where lock.pid = activity.pid and lock.locktype = 'relation' and lock.mode = 'ShareUpdateExclusiveLock' and not lock.granted)
            and not exists (
                select from pg_catalog.pg_locks lock
                where lock.pid = activity.pid and lock.locktype = 'relation' and lock.mode = 'ShareUpdateExclusiveLock' and lock.granted)
        ) as runs_code
from pg_catalog.pg_stat_activity activity
left join pg_catalog.pg_stat_progress_vacuum progress on progress.pid = activity.pid
where activity.backend_type = 'autovacuum worker'
    and activity.datname::text ~ '^proj_[a-z0-9]{3,40}'
    and ($1::text[] is null or substring(activity.datname::text from '^(proj_[a-z0-9]{3,40})') = any ($1::text[]))
