-- The watchdog never waits long for anybody, and always may write.
set statement_timeout = '8s';
set lock_timeout = '5s';
set default_transaction_read_only = off;
set search_path = pg_catalog, pg_temp;
set application_name = 'launchdb watchdog';
