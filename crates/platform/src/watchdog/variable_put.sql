-- Hands a value to a block that takes no parameters: $1 text name, $2 text value.
select pg_catalog.set_config($1::text, $2::text, false)
