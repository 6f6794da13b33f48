-- Functions from one row of a relation to rows of a relation.
select coalesce(json_agg(json_build_array(
  fn.nspname, p.proname, an.nspname, ac.relname, rn.nspname, rc.relname, not p.proretset or p.prorows = 1
)), '[]')::text
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace fn on fn.oid = p.pronamespace
join pg_catalog.pg_type at on at.oid = p.proargtypes[0] and at.typtype = 'c'
join pg_catalog.pg_class ac on ac.oid = at.typrelid and ac.relkind in ('r', 'p', 'v', 'm', 'f')
join pg_catalog.pg_namespace an on an.oid = ac.relnamespace
join pg_catalog.pg_type rt on rt.oid = p.prorettype and rt.typtype = 'c'
join pg_catalog.pg_class rc on rc.oid = rt.typrelid and rc.relkind in ('r', 'p', 'v', 'm', 'f')
join pg_catalog.pg_namespace rn on rn.oid = rc.relnamespace
where p.pronargs = 1 and an.nspname::text = any ($1::text[])
