#!/bin/sh
# pgbouncer-add-project.sh PROJECT [POOL_SIZE] [RESERVE_POOL]
# Entries follow the projects by themselves; this sets a project's pool sizes and waits until PgBouncer has its entry.
set -eu
exec launchdb pooler add-project "$@"
