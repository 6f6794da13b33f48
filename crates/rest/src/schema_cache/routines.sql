-- Functions of the schemas $1, and before them the types of their parameters: a row each, `t` or `f` and a JSON array.
-- $2 are the settings to hoist. Which functions can be called by name is decided by the reader.
with recursive domain_bases(domain_id, base_id) as (
  select oid, typbasetype from pg_catalog.pg_type where typtype = 'd'
  union all
  select d.domain_id, t.typbasetype
  from domain_bases d
  join pg_catalog.pg_type t on t.oid = d.base_id and t.typtype = 'd'
),
functions as materialized (
  select
    p.oid, n.nspname, p.proname, p.prorettype, p.proretset, p.provolatile, p.provariadic, p.proconfig, p.proargnames,
    p.proargmodes, p.pronargs - p.pronargdefaults as required, coalesce(p.proallargtypes, p.proargtypes::oid[]) as types
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname::text = any ($1::text[]) and p.prokind = 'f'
    and p.prorettype <> 'trigger'::regtype and p.prorettype <> 'event_trigger'::regtype
),
returned as materialized (
  select
    rt.oid,
    tn.nspname,
    coalesce(tc.relname, t.typname) as name,
    t.typtype = 'c' as is_composite,
    rt.typtype = 'd' as is_alias
  from (select distinct prorettype from functions) f
  join pg_catalog.pg_type rt on rt.oid = f.prorettype
  join pg_catalog.pg_type t on t.oid = coalesce(
    (select b.base_id from domain_bases b join pg_catalog.pg_type bt on bt.oid = b.base_id and bt.typtype <> 'd'
     where b.domain_id = rt.oid and rt.typtype = 'd'),
    rt.oid
  )
  join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
  left join pg_catalog.pg_class tc on tc.oid = t.typrelid
)
select 't', json_build_array(
  t.oid::bigint,
  t.oid::regtype::text,
  -- A length would cut values short without an error.
  case t.oid
    when 'bit'::regtype then 'bit varying'
    when 'bit[]'::regtype then 'bit varying[]'
    when 'character'::regtype then 'character varying'
    when 'character[]'::regtype then 'character varying[]'
    else t.oid::regtype::text
  end,
  -- One that can take a whole body.
  t.oid in ('bytea'::regtype, 'json'::regtype, 'jsonb'::regtype, 'text'::regtype, 'xml'::regtype)
)::text
from (select distinct unnest(f.types) as oid from functions f) t
union all
select 'f', json_build_array(
  f.oid::bigint,
  f.nspname,
  f.proname,
  d.description,
  f.types::bigint[],
  f.proargnames,
  array_to_string(f.proargmodes, ''),
  f.required,
  r.nspname,
  r.name,
  f.proretset,
  r.is_composite or coalesce(f.proargmodes::text[] && array['t', 'b', 'o'], false),
  r.is_alias,
  f.provolatile,
  f.provariadic <> 0,
  case when f.proconfig is not null then (
    select split_part(s, '=', 2) from unnest(f.proconfig) s
    where split_part(s, '=', 1) = 'default_transaction_isolation'
  ) end,
  case when f.proconfig is not null then (
    select json_agg(json_build_array(split_part(s, '=', 1), substr(s, strpos(s, '=') + 1)))
    from unnest(f.proconfig) s
    where split_part(s, '=', 1) = any ($2::text[])
  ) end
)::text
from functions f
join returned r on r.oid = f.prorettype
left join pg_catalog.pg_description d on d.objoid = f.oid and d.classoid = 'pg_catalog.pg_proc'::regclass
