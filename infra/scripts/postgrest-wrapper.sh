#!/bin/sh
# postgrest-wrapper.sh PROJECT
# Runs a project's data API in the foreground from its configuration file, as an instance's process does.
set -eu
exec launchdb rest "${LAUNCHDB_POSTGREST_DIR:-/etc/postgrest/projects}/${1:?PROJECT is missing}.conf"
