-- Tells every process that is connected to this database that writes are refused: whoever holds the mark is their guard.
-- No project can connect here. Read by store/writes_refused.sql.
select pg_catalog.pg_try_advisory_lock(7241, 0)
