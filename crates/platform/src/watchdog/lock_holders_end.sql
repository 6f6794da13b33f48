-- Ends sessions of projects that hold most of the lock table, with their parallel workers, and autovacuum's work in such
-- a project's database (an index on a function of the owner's runs it there): those beyond a session's limit, and the
-- largest ones of every project that is beyond its own, or has the most of all while projects fill half of the table.
-- When those who filled it are gone already, nobody has to go for them.
--
-- Gives each with its role (autovacuum works for the owner's), its project, and whether a limit was passed.
--
-- No view, and no table but pg_database and pg_authid: pg_locks and pg_stat_activity would want locks on catalogs of the whole cluster,
-- and there is no room for them. Everything that is read for this is locked already (locks_sentry.sql).
--
-- $1 bool whether to end them, or only to see that all this can be run
-- $2 int8 locks of a session $3 int8 locks of a project $4 text[] the only projects to look at or null
with held as materialized (
    select lock.pid, count(*) as locks
    from pg_catalog.pg_lock_status() lock
    -- The others are not in this table.
    where lock.mode <> 'SIReadLock' and not lock.fastpath
    group by lock.pid
),
process as materialized (
    select
        held.pid,
        held.locks,
        coalesce(activity.leader_pid, activity.pid) as leader,
        case activity.backend_type
            when 'autovacuum worker'
                then (select datname::text from pg_catalog.pg_database database where database.oid = activity.datid)
            -- Its password may be too long to be read without a further table (pg_get_userbyid reads it).
            else (select rolname::text from pg_catalog.pg_authid role where role.oid = activity.usesysid)
        end as role
    from held
    join pg_catalog.pg_stat_get_activity(null) activity on activity.pid = held.pid
    where activity.backend_type in ('client backend', 'parallel worker', 'autovacuum worker')
),
session as (
    select leader as pid, role, array_agg(pid) as workers, sum(locks) as locks from process group by leader, role
),
owned as (
    -- The databases of restores and the like have names behind the project's.
    select *, substring(role from '^(proj_[a-z0-9]{3,40})(?:_[a-z]+)?$') as project from session
),
ranked as (
    select
        *,
        sum(locks) over (partition by project) as project_locks,
        row_number() over (partition by project order by locks desc, pid) as place
    from owned
    where project is not null and ($4::text[] is null or project = any ($4::text[]))
),
compared as (
    select
        *,
        locks > $2::int8 or project_locks > $3::int8 as beyond,
        max(project_locks) over () as most,
        sum(locks) over () > pg_catalog.current_setting('max_locks_per_transaction')::int8
            * pg_catalog.current_setting('max_connections')::int8 / 2 as full_of_projects
    from ranked
)
select
    pid, role, project, beyond,
    case when $1::bool then (
        select bool_or(pg_catalog.pg_terminate_backend(process.pid))
        from unnest(array_append(workers, pid)) as process (pid)
    ) end
from compared
where locks > $2::int8 or place <= 8 and (project_locks > $3::int8 or full_of_projects and project_locks = most)
