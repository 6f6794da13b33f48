-- Undoes writes_refuse.sql.
alter system reset default_transaction_read_only
