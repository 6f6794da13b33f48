#!/bin/sh
# postgrest-add-project.sh PROJECT [JWT_SECRET] [PASSWORD]
# Gives a project an instance of its own. Its secrets come from the platform: those given here are not needed and go nowhere.
set -eu
if [ $# -gt 1 ]; then
    echo "note: the project's own secrets are used; those given are not" >&2
fi
exec launchdb postgrest add "${1:?PROJECT is missing}"
