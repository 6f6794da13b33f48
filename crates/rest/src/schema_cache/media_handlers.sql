-- Aggregates over rows, and functions, whose result is a domain named like a media type.
with media_types as (
  select
    t.oid,
    t.typnamespace,
    t.typname,
    lower(t.typname) as asked,
    case t.typname when '*/*' then 'application/octet-stream' else t.typname::text end as answered
  from pg_catalog.pg_type t
  where t.typtype = 'd' and (t.typname = '*/*' or t.typname ~ '^[A-Za-z0-9.-]+/[A-Za-z0-9.+-]+$')
),
found as (
  select n.nspname as schema, p.proname as name, an.nspname as target_schema, at.typname as target_name, m.asked, m.answered
  from media_types m
  join pg_catalog.pg_proc p on p.prorettype = m.oid and p.prokind = 'a' and p.pronargs = 1
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_type at on at.oid = p.proargtypes[0]
  join pg_catalog.pg_namespace an on an.oid = at.typnamespace
  left join pg_catalog.pg_class ac on ac.oid = at.typrelid
  where n.nspname::text = any ($1::text[])
    and (at.oid = 'anyelement'::regtype or ac.relkind in ('r', 'p', 'v', 'm', 'f'))
  union
  select tn.nspname, m.typname, n.nspname, p.proname, m.asked, m.answered
  from media_types m
  join pg_catalog.pg_namespace tn on tn.oid = m.typnamespace
  join pg_catalog.pg_proc p on p.prorettype = m.oid and p.prokind = 'f' and not p.proretset
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname::text = any ($1::text[])
)
select coalesce(json_agg(json_build_array(schema, name, target_schema, target_name, asked, answered)), '[]')::text
from found
