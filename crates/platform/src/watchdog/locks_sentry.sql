-- Opens a transaction that holds what lock_holders_end.sql reads of the catalogs that all databases share. It keeps no
-- row version alive: without a statement under way there is no snapshot. Only VACUUM FULL of these would wait for it.
set statement_timeout = '8s';
set lock_timeout = '5s';
set idle_in_transaction_session_timeout = 0;
set search_path = pg_catalog, pg_temp;
set application_name = 'launchdb watchdog (locks)';
begin isolation level read committed read only;
-- The planner locks a table with all its indexes until the transaction ends; LOCK TABLE leaves the indexes out.
select from pg_catalog.pg_authid where oid = 0;
select from pg_catalog.pg_auth_members where roleid = 0;
select from pg_catalog.pg_database where oid = 0;
