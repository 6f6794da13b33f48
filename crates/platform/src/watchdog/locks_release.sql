-- Undoes locks_reserve.sql.
select count(pg_catalog.pg_advisory_unlock(7241, number)) from pg_catalog.generate_series(1, 64) number
