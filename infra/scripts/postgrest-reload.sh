#!/bin/sh
# postgrest-reload.sh [PROJECT]
# Has an instance, or every one, read its configuration file again (SIGHUP), without a request dropped.
set -eu
if [ $# -gt 0 ]; then
    exec launchdb postgrest reload "$@"
fi
launchdb postgrest list | tail -n +2 | while read -r project _; do
    launchdb postgrest reload "$project"
done
