-- Sessions that roles without a reserve may have together.
select
    pg_catalog.current_setting('max_connections')::int8
    - pg_catalog.current_setting('superuser_reserved_connections')::int8
    - coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int8
