-- Run by the owner of a fresh database before a dump is loaded: takes away the tables, views and publications that the
-- baseline made and that are the owner's. The dump makes them again, as they were. What is the superuser's, or belongs to
-- the services' roles (schemas, functions, types), stays.
do $clear$
declare
    found record;
begin
    for found in
        select relation.oid::pg_catalog.regclass as name, relation.relkind
        from pg_catalog.pg_class as relation
        join pg_catalog.pg_namespace as namespace on namespace.oid = relation.relnamespace
        where namespace.nspname in ('public', 'auth', 'storage', 'realtime')
            and relation.relkind in ('r', 'p', 'v') and not relation.relispartition
            and pg_catalog.pg_has_role(relation.relowner, 'member')
    loop
        execute pg_catalog.format(
            'drop %s if exists %s cascade', case found.relkind when 'v' then 'view' else 'table' end, found.name);
    end loop;
    for found in
        select pubname as name from pg_catalog.pg_publication where pg_catalog.pg_has_role(pubowner, 'member')
    loop
        execute pg_catalog.format('drop publication %I', found.name);
    end loop;
end
$clear$;
