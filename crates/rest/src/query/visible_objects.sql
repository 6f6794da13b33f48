-- What the role may know of: of the relations $1 (schemas) and $2 (names) those on which it has any privilege, of the
-- functions $3 those it may execute, of the columns $4 (relations, as an alias with a number behind it or not) and $5
-- (names) in the schemas $6 those it may read wherever there are any of that name. Rows of (kind, place from 1).
select 'relation', r.place
from unnest($1::text[], $2::text[]) with ordinality r(schema, name, place)
join pg_catalog.pg_namespace n on n.nspname::text = r.schema
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname::text = r.name
where pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  and (
    pg_catalog.pg_has_role(c.relowner, 'USAGE')
    or pg_catalog.has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
    or pg_catalog.has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
  )
union all
select 'routine', f.place
from unnest($3::oid[]) with ordinality f(oid, place)
join pg_catalog.pg_proc p on p.oid = f.oid
where pg_catalog.has_schema_privilege(p.pronamespace, 'USAGE') and pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
union all
select 'column', l.place
from unnest($4::text[], $5::text[]) with ordinality l(relation, name, place)
join pg_catalog.pg_class c on c.relname::text in (l.relation, regexp_replace(l.relation, '_[0-9]+$', ''))
join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname::text = any ($6::text[])
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname::text = l.name and a.attnum > 0 and not a.attisdropped
group by l.place
having bool_and(
  pg_catalog.has_schema_privilege(n.oid, 'USAGE') and pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
)
