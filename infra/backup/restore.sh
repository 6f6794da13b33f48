#!/bin/sh
# restore.sh FILE PROJECT [--into NEW]
# Puts a project back from a backup; until that is complete nothing of the project changes.
set -eu
exec launchdb restore "$@"
