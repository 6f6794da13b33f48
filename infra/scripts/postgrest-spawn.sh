#!/bin/sh
# postgrest-spawn.sh PROJECT
# Starts an instance for a project; one that is there already is refused.
set -eu
exec launchdb postgrest spawn "$@"
