-- The comment of the schema $1.
select pg_catalog.obj_description(oid, 'pg_namespace') from pg_catalog.pg_namespace where nspname::text = $1::text
