-- Keeps room in the lock table that all databases share: the watchdog's own statements need a little of it (catalogs of
-- the whole cluster have no fast path) when a project has taken all the rest. No project can connect to this database.
select count(pg_catalog.pg_advisory_lock(7241, number)) from pg_catalog.generate_series(1, 64) number
