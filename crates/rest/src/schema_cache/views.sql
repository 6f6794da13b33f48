-- Views of the schemas $1 and the parsed queries behind them, one row each: oid, schema, name, columns by number, query.
select
  c.oid::bigint,
  n.nspname::text,
  c.relname::text,
  (
    select coalesce(json_agg(json_build_array(a.attnum, a.attname) order by a.attnum), '[]')::text
    from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  ),
  r.ev_action::text
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.ev_type = '1'
where c.relkind in ('v', 'm') and n.nspname::text = any ($1::text[])
order by c.oid
