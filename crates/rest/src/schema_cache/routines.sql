-- Functions of the schemas $1 that can be called by name; $2 are the settings to hoist.
with recursive domain_bases(domain_id, base_id) as (
  select oid, typbasetype from pg_catalog.pg_type where typtype = 'd'
  union all
  select d.domain_id, t.typbasetype
  from domain_bases d
  join pg_catalog.pg_type t on t.oid = d.base_id and t.typtype = 'd'
),
functions as (
  select p.*, n.nspname
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname::text = any ($1::text[]) and p.prokind = 'f'
),
inputs as (
  select
    f.oid,
    json_agg(
      json_build_array(
        coalesce(i.name, ''),
        i.type::regtype::text,
        -- A length would cut values short without an error.
        case i.type
          when 'bit'::regtype then 'bit varying'
          when 'bit[]'::regtype then 'bit varying[]'
          when 'character'::regtype then 'character varying'
          when 'character[]'::regtype then 'character varying[]'
          else i.type::regtype::text
        end,
        i.position <= f.pronargs - f.pronargdefaults,
        i.mode = 'v'
      ) order by i.position
    ) as params,
    -- Parameters are given by name; one alone may lack it if its type can take a whole body.
    case count(*) filter (where coalesce(i.name, '') = '')
      when 0 then true
      when 1 then count(*) = 1 and bool_or(
        i.type in ('bytea'::regtype, 'json'::regtype, 'jsonb'::regtype, 'text'::regtype, 'xml'::regtype)
      )
      else false
    end as callable
  from functions f
  cross join lateral (
    select a.name, a.type, coalesce(a.mode, 'i') as mode, row_number() over (order by a.ord) as position
    from unnest(coalesce(f.proallargtypes, f.proargtypes::oid[]), f.proargnames, f.proargmodes::text[])
      with ordinality a(type, name, mode, ord)
    where coalesce(a.mode, 'i') in ('i', 'b', 'v')
  ) i
  group by f.oid, f.pronargs, f.pronargdefaults
)
select coalesce(json_agg(json_build_array(
  f.oid::bigint,
  f.nspname,
  f.proname,
  d.description,
  coalesce(i.params, '[]'),
  tn.nspname,
  coalesce(tc.relname, t.typname),
  f.proretset,
  t.typtype = 'c' or coalesce(f.proargmodes::text[] && array['t', 'b', 'o'], false),
  rt.typtype = 'd',
  f.provolatile,
  f.provariadic <> 0,
  (select split_part(s, '=', 2) from unnest(f.proconfig) s where split_part(s, '=', 1) = 'default_transaction_isolation'),
  (
    select json_agg(json_build_array(split_part(s, '=', 1), substr(s, strpos(s, '=') + 1)))
    from unnest(f.proconfig) s
    where split_part(s, '=', 1) = any ($2::text[])
  )
)), '[]')::text
from functions f
join pg_catalog.pg_type rt on rt.oid = f.prorettype
join pg_catalog.pg_type t on t.oid = coalesce(
  (select b.base_id from domain_bases b join pg_catalog.pg_type bt on bt.oid = b.base_id and bt.typtype <> 'd'
   where b.domain_id = rt.oid and rt.typtype = 'd'),
  rt.oid
)
join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
left join pg_catalog.pg_class tc on tc.oid = t.typrelid
left join inputs i on i.oid = f.oid
left join pg_catalog.pg_description d on d.objoid = f.oid and d.classoid = 'pg_catalog.pg_proc'::regclass
where t.oid <> 'trigger'::regtype and t.oid <> 'event_trigger'::regtype and coalesce(i.callable, true)
