#!/bin/sh
# postgrest-remove-project.sh PROJECT
# As postgrest-stop.sh: the opposite of postgrest-add-project.sh.
set -eu
exec launchdb postgrest remove "$@"
