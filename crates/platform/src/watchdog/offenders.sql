-- Sessions of projects that pass a limit: the gravest offence of each, and beside it what a worker of autovacuum's writes: that
-- is waited for, which keeps nothing else from being seen.
--
-- A role's name says whose a session is, and stays the same whatever SET ROLE does. The superuser, the platform and
-- every role that is not a project's are never listed. Ages are in seconds.
--
-- A worker of autovacuum's runs functions of the owner's for indexes on them, which may write. Its own writes are short, but
-- where it gives the end of a table back to the disk, and where it looks at heirs after it has written of the parent.
--
-- $1 float8  longest statement          $2 float8  longest idle transaction   $3 float8  longest transaction
-- $4 int8    locks of a session         $5 int8    locks of a project         $6 int8    sessions of a role
-- $7 int8    temporary bytes, project   $8 bool    whether writes are refused
-- $9 text[]  projects that may not grow $10 text[] the only projects to look at; null for all
with session as materialized (
    select
        activity.pid, activity.backend_start, coalesce(activity.usename::text, 'autovacuum') as role, activity.state,
        activity.query_start, activity.xact_start, activity.state_change,
        activity.state in ('active', 'fastpath function call') as running,
        -- A backup is loaded there, for as long as that takes; who loads it has a limit of its own.
        activity.datname::text ~ '_(restoring|verifying)$' as loading,
        activity.backend_type = 'autovacuum worker' as autovacuum,
        activity.backend_xid is not null and (
            activity.backend_type = 'client backend'
            or coalesce(vacuum.phase = 'cleaning up indexes', true)
                and coalesce(analysis.phase not like 'acquiring %', true)
                and activity.wait_event is distinct from 'VacuumTruncate'
        ) as writes,
        whose.project
    from pg_catalog.pg_stat_activity activity
    left join pg_catalog.pg_stat_progress_vacuum vacuum on vacuum.pid = activity.pid
    left join pg_catalog.pg_stat_progress_analyze analysis on analysis.pid = activity.pid
    cross join lateral (
        select case activity.backend_type
            when 'client backend' then substring(activity.usename::text from '^(proj_[a-z0-9]{3,40})(?:_authenticator)?$')
            when 'autovacuum worker' then substring(activity.datname::text from '^(proj_[a-z0-9]{3,40})$')
        end as project
    ) whose
    where whose.project is not null and ($10::text[] is null or whose.project = any ($10::text[]))
),
-- The processes that work for each: what a parallel query's workers have is the session's.
process as materialized (
    select activity.pid as process, session.pid, session.project, session.autovacuum
    from pg_catalog.pg_stat_activity activity
    join session on session.pid = coalesce(activity.leader_pid, activity.pid)
),
-- SIReadLock is left out: serializable transactions have a table of their own, which merges locks by itself.
held as (
    select session.pid, session.project, count(*) as locks
    from pg_catalog.pg_locks lock join process session on session.process = lock.pid
    where lock.mode <> 'SIReadLock' and not session.autovacuum
    group by session.pid, session.project
),
ranked_locks as (
    select
        pid, locks,
        sum(locks) over (partition by project) as project_locks,
        row_number() over (partition by project order by locks desc, pid) as place
    from held
),
-- PostgreSQL names a temporary file by the process that made it.
temporary as (
    select session.pid, session.project, sum(file.size)::int8 as bytes
    from pg_catalog.pg_ls_tmpdir() file
    join process session on session.process = substring(file.name from '^pgsql_tmp([0-9]+)[.]')::int
    group by session.pid, session.project
),
ranked_temporary as (
    select
        pid,
        sum(bytes) over (partition by project) as project_bytes,
        row_number() over (partition by project order by bytes desc, pid) as place
    from temporary
),
ranked_session as (
    select pid, row_number() over (partition by role order by backend_start, pid) as place from session
),
seen as (
    select
        session.*,
        coalesce(ranked_locks.locks, 0) > $4::int8
            or (ranked_locks.project_locks > $5::int8 and ranked_locks.place = 1) as many_locks,
        ranked_temporary.project_bytes > $7::int8 and ranked_temporary.place = 1 as many_temporary_bytes,
        ranked_session.place > $6::int8 and not session.autovacuum as many_sessions
    from session
    join ranked_session using (pid)
    left join ranked_locks using (pid)
    left join ranked_temporary using (pid)
)
select distinct on (seen.pid, waited.is_waited_for)
    seen.pid,
    (extract(epoch from seen.backend_start) * 1000000)::int8 as backend_start,
    seen.role,
    seen.project,
    rule.reason,
    (extract(epoch from rule.since) * 1000000)::int8 as since,
    rule.cancel_first and coalesce(seen.running, false) as cancel
from seen
cross join lateral (values
    (1, 'writes_refused', $8::bool and seen.writes, seen.xact_start, false),
    (2, 'over_quota', seen.project = any ($9::text[]) and seen.writes, seen.xact_start, false),
    (3, 'locks', seen.many_locks, seen.backend_start, false),
    (4, 'temporary_files', seen.many_temporary_bytes, seen.query_start, true),
    (5, 'sessions', seen.many_sessions, seen.backend_start, false),
    (6, 'idle_in_transaction',
        seen.state like 'idle in transaction%' and seen.state_change < now() - make_interval(secs => $2::float8),
        seen.xact_start, false),
    (7, 'statement_time',
        seen.running and not seen.loading and not seen.autovacuum and seen.query_start < now() - make_interval(secs => $1::float8), seen.query_start, true),
    -- An idle session that listens has transactions of its own, whose start is said to be that of its last statement.
    (8, 'transaction_time',
        seen.state <> 'idle' and not seen.loading and not seen.autovacuum and seen.xact_start < now() - make_interval(secs => $3::float8), seen.xact_start, true)
) as rule (priority, reason, broken, since, cancel_first)
cross join lateral (select seen.autovacuum and rule.priority <= 2 as is_waited_for) waited
where rule.broken
order by seen.pid, waited.is_waited_for, rule.priority
