#!/bin/sh
# postgrest-stop.sh PROJECT
# Ends a project's instance and removes its configuration; that there is none is no error.
set -eu
exec launchdb postgrest remove "$@"
