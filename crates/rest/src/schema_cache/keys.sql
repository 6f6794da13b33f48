-- Primary keys and foreign keys of every schema, for private tables are seen through views: a JSON array each.
with keys as materialized (
  select con.oid, con.conname, con.contype, con.conrelid, con.confrelid, con.conkey, con.confkey, c.relnamespace, c.relname
  from pg_catalog.pg_constraint con
  join pg_catalog.pg_class c on c.oid = con.conrelid
  where con.contype in ('p', 'f') and con.conparentid = 0 and c.relnamespace <> 'pg_catalog'::regnamespace
),
key_columns as (
  select k.oid, json_agg(json_build_array(a.attnum, a.attname, fa.attnum, fa.attname) order by u.ord) as columns
  from keys k
  cross join lateral unnest(k.conkey, k.confkey) with ordinality u(col, fcol, ord)
  join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.col
  left join pg_catalog.pg_attribute fa on fa.attrelid = k.confrelid and fa.attnum = u.fcol
  group by k.oid
)
select json_build_array(
  k.conname,
  k.conrelid::bigint,
  n.nspname,
  k.relname,
  k.confrelid::bigint,
  fn.nspname,
  fc.relname,
  kc.columns,
  -- The columns are a key by themselves: at most one row refers to each.
  k.contype = 'f' and exists (
    select from pg_catalog.pg_constraint u
    where u.conrelid = k.conrelid and u.contype in ('p', 'u') and u.conkey @> k.conkey and u.conkey <@ k.conkey
  )
)::text
from keys k
join pg_catalog.pg_namespace n on n.oid = k.relnamespace
left join key_columns kc on kc.oid = k.oid
left join pg_catalog.pg_class fc on fc.oid = k.confrelid
left join pg_catalog.pg_namespace fn on fn.oid = fc.relnamespace
order by k.conrelid, k.conname
