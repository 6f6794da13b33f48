-- Sessions of owners that the server has no room for, in the shape of offenders.sql.
--
-- Everybody's first session comes before anybody's second, and so on: whoever has most loses first. Of a role, what
-- works stays before what is idle in a transaction, and that before what is idle; then the older session.
--
-- $1 int8 sessions of all owners together, $2 text[] the only projects to look at or null
with session as (
    select
        pid, backend_start, usename::text as role,
        case state when 'idle' then 2 when 'active' then 0 else 1 end as idleness
    from pg_catalog.pg_stat_activity
    where backend_type = 'client backend' and usename::text ~ '^proj_[a-z0-9]{3,40}$'
        and ($2::text[] is null or usename::text = any ($2::text[]))
),
ranked as (
    select *, row_number() over (partition by role order by idleness, backend_start, pid) as place from session
),
crowd as (
    select *, row_number() over (order by place, idleness, backend_start, pid) as crowd_place from ranked
)
select * from (
    select
        pid,
        (extract(epoch from backend_start) * 1000000)::int8 as backend_start,
        role,
        role as project,
        'crowd' as reason,
        (extract(epoch from backend_start) * 1000000)::int8 as since,
        false as cancel,
        count(*) filter (where crowd_place <= $1::int8) over (partition by role) as kept,
        crowd_place
    from crowd
) as session
where crowd_place > $1::int8
