#!/usr/bin/env bash
# Backup and restore of one project against plain pg_dump and psql: MB of dump a second, and the memory of the process.
#
#   LAUNCHDB=target/release/launchdb bench/backup/run.sh        ROWS=1500000 by default, about 260 MB of dump
#
# Each figure is the best of three. The plain side is what people do by hand: pg_dump into a file, gpg as a pipe behind it
# (AES-256, the format that LaunchDB writes), and psql from the file into a new database.
set -euo pipefail
cd "$(dirname "$0")/../.."
launchdb=${LAUNCHDB:-$PWD/target/release/launchdb}
rows=${ROWS:-1500000}
rounds=${ROUNDS:-3}
work=$(mktemp -d)
chmod 711 "$work"
cd "$work"
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    gpgconf --homedir "$work/gpg" --kill gpg-agent 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
LAUNCHDB_STATUS_PORT=off LAUNCHDB_ADMIN_PORT=0 LAUNCHDB_POOLER_PORT=off LAUNCHDB_DISK_RESERVE_MB=64 \
    "$launchdb" dev --port 0 >server.out 2>server.err &
server=$!
for _ in $(seq 300); do
    if "$launchdb" status >/dev/null 2>&1; then break; fi
    sleep 0.2
done
"$launchdb" project create bench >/dev/null
field() { "$launchdb" project connection bench --json | python3 -c "import json,sys; print(json.load(sys.stdin)['$1'])"; }
id=$(field project_id)
psql -q "$(field db_uri)" -c "
    create table events (id bigint primary key, at timestamptz, kind text, body text);
    insert into events select i, now() - i * interval '1 second', 'kind ' || i % 20, md5(i::text) || md5((i * 7)::text) || repeat(chr(97 + i % 26), 40)
        from generate_series(1, $rows) i;
    create index on events (kind, at);
    analyze events"
password=$(sed -n 's/^POSTGRES_SUPERUSER_PASSWORD=//p' .launchdb/secrets.env)
port=$(cat .launchdb/postgres/port)
export PGPASSWORD=$password PGHOST=127.0.0.1 PGPORT=$port PGUSER=supabase_admin
mkdir -m 700 gpg
# measure NAME COMMAND...: seconds of the best round, and the largest resident memory in MB.
measure() {
    local name=$1
    shift
    python3 - "$rounds" "$name" "$@" <<'PY' >>figures
import resource, subprocess, sys, time
rounds, name, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
best = None
for _ in range(rounds):
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    taken = time.monotonic() - begun
    best = taken if best is None else min(best, taken)
    # File names have the second in them.
    time.sleep(1.1)
memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(name, best, memory)
PY
}
measure pg_dump sh -c "pg_dump --exclude-schema=_launchdb $id >plain.sql"
bytes=$(stat -c %s plain.sql)
measure pg_dump_gpg sh -c "pg_dump --exclude-schema=_launchdb $id | gpg --homedir gpg --batch --yes --quiet --pinentry-mode loopback \
    --passphrase x --cipher-algo AES256 --compress-algo zlib --compress-level 1 --symmetric --output plain.gpg"
measure backup "$launchdb" backup run --project "$id"
# What a restore does by hand: a database, and everything in it. The dump that has all schemas loads as a superuser only.
pg_dump "$id" >whole.sql
measure psql sh -c "dropdb --if-exists plain && createdb --template template0 plain && psql -q -d plain -v ON_ERROR_STOP=1 -f whole.sql -c analyze"
# Its rows and indexes alone, into a database that is there.
pg_dump --table=events "$id" | sed 's/OWNER TO.*;/OWNER TO supabase_admin;/' >events.sql
measure psql_rows sh -c "psql -q -d plain -c 'drop table if exists public.events' && psql -q -d plain -v ON_ERROR_STOP=1 -f events.sql -c analyze"
file=$(ls .launchdb/backups/"${id}"_*.sql.gpg | tail -1)
measure restore "$launchdb" restore "$file" "$id"
measure verify "$launchdb" backup verify "$file"
python3 - "$bytes" <<'PY'
import sys
size = int(sys.argv[1]) / 1e6
rows = {line.split()[0]: [float(word) for word in line.split()[1:]] for line in open("figures")}
print(f"{size:.0f} MB of dump")
for name, (seconds, memory) in rows.items():
    print(f"{name:12} {seconds:6.2f} s  {size / seconds:6.1f} MB/s  {memory:5.0f} MB of memory")
print(f"backup / pg_dump: {rows['pg_dump'][0] / rows['backup'][0]:.2f}, / pg_dump with gpg: {rows['pg_dump_gpg'][0] / rows['backup'][0]:.2f}")
restore = rows['restore'][0]
print(f"restore / psql:   {rows['psql'][0] / restore:.2f}, / psql of the rows alone: {rows['psql_rows'][0] / restore:.2f}")
PY
