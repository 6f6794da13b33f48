//! What keeps one project's owner from harming the others while the cluster is shared: a watchdog over sessions, and a
//! guard over the disk.
//!
//! Limits like `statement_timeout` can be set by anyone who writes SQL, and advisory locks and the notification queue
//! belong to the whole cluster. So the limits that count are enforced from outside, by one session of the superuser.
