-- Primary keys and foreign keys of every schema, for private tables are seen through views.
with keys as (
  select con.oid, con.conname, con.contype, con.conrelid, con.confrelid, con.conkey, con.confkey
  from pg_catalog.pg_constraint con
  join pg_catalog.pg_class c on c.oid = con.conrelid
  where con.contype in ('p', 'f') and con.conparentid = 0 and c.relnamespace <> 'pg_catalog'::regnamespace
)
select coalesce(json_agg(json_build_array(
  k.conname,
  k.conrelid::bigint,
  n.nspname,
  c.relname,
  k.confrelid::bigint,
  fn.nspname,
  fc.relname,
  (
    select json_agg(json_build_array(a.attnum, a.attname, fa.attnum, fa.attname) order by u.ord)
    from unnest(k.conkey, k.confkey) with ordinality u(col, fcol, ord)
    join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.col
    left join pg_catalog.pg_attribute fa on fa.attrelid = k.confrelid and fa.attnum = u.fcol
  ),
  -- The columns are a key by themselves: at most one row refers to each.
  k.contype = 'f' and exists (
    select from pg_catalog.pg_constraint u
    where u.conrelid = k.conrelid and u.contype in ('p', 'u') and u.conkey @> k.conkey and u.conkey <@ k.conkey
  )
) order by k.conrelid, k.conname), '[]')::text
from keys k
join pg_catalog.pg_class c on c.oid = k.conrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_class fc on fc.oid = k.confrelid
left join pg_catalog.pg_namespace fn on fn.oid = fc.relnamespace
