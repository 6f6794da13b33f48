-- Processes that work for projects, in the shape of offenders.sql; of a parallel query's workers, the leader's row with the
-- worker's process.
--
-- $1 text[] the only projects to look at or null
with session as (
    select
        pid, backend_start, usename::text as role,
        substring(usename::text from '^(proj_[a-z0-9]{3,40})(?:_authenticator)?$') as project
    from pg_catalog.pg_stat_activity
    where backend_type = 'client backend' and usename::text ~ '^proj_[a-z0-9]{3,40}(_authenticator)?$'
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
