-- Opens a transaction that holds all that lock_holders_end.sql can need: every system catalog with its indexes, and where
-- its long values are (TOAST), because
-- what PostgreSQL has cached of them is forgotten whenever others change much at once, and is read again. It keeps no row
-- version alive: without a statement under way there is no snapshot. Only VACUUM FULL and the like would wait for it, and no VACUUM
-- gives the end of a catalog's file back.
set statement_timeout = '8s';
set lock_timeout = '5s';
set idle_in_transaction_session_timeout = 0;
set search_path = pg_catalog, pg_temp;
set application_name = 'launchdb watchdog (locks)';
begin isolation level read committed read only;
-- The planner locks a table with all its indexes until the transaction ends; LOCK TABLE leaves the indexes out.
do $$
declare
    name regclass;
begin
    for name in
        select unnest(array[oid, nullif(reltoastrelid, 0)])::regclass
        from pg_class where relnamespace = 'pg_catalog'::regnamespace and relkind = 'r'
    loop
        continue when name is null;
        execute format('select from %s limit 0', name);
    end loop;
end $$;
