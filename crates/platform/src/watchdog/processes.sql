-- Processes that work for projects, in the shape of offenders.sql; of a parallel query's workers, the leader's row with the
-- worker's process. A worker of autovacuum's is its database's owner's.
--
-- $1 text[] the only projects to look at or null
with session as (
    select activity.pid, activity.backend_start, coalesce(activity.usename::text, 'autovacuum') as role, whose.project
    from pg_catalog.pg_stat_activity activity
    cross join lateral (
        select case activity.backend_type
            when 'client backend' then substring(activity.usename::text from '^(proj_[a-z0-9]{3,40})(?:_authenticator)?$')
            when 'autovacuum worker' then substring(activity.datname::text from '^(proj_[a-z0-9]{3,40})$')
        end as project
    ) whose
    where whose.project is not null
)
select
    session.pid,
    (extract(epoch from session.backend_start) * 1000000)::int8 as backend_start,
    session.role,
    session.project,
    'memory' as reason,
    (extract(epoch from session.backend_start) * 1000000)::int8 as since,
    false as cancel,
    process.pid as process
from session
join pg_catalog.pg_stat_activity process on session.pid in (process.pid, process.leader_pid)
where $1::text[] is null or session.project = any ($1::text[])
