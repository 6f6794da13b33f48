-- Transactions are read-only from now on unless they say otherwise, in connected sessions too once the server has
-- read its files again. Survives an end of LaunchDB; the next start decides anew.
alter system set default_transaction_read_only = on
