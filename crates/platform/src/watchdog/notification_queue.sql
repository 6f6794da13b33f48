-- The share of the cluster's one notification queue that is taken, 0 to 1 (8 GB on disk when full).
select pg_catalog.pg_notification_queue_usage()
