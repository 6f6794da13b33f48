#!/bin/sh
# pgbouncer-add-user.sh USER [PASSWORD]
# Lets a login role of PostgreSQL in through PgBouncer, with the verifier that PostgreSQL has: the password given here is not
# needed and goes nowhere.
set -eu
if [ $# -gt 1 ]; then
    echo "note: PostgreSQL's own verifier of $1 is used; the password given is not" >&2
fi
exec launchdb pooler add-user "${1:?USER is missing}"
