#!/usr/bin/env python3
"""Speed of the data API: ours through the gateway, ours in place of postgrest, and postgrest itself where it is on PATH.

    bench/data-api/run.py [--bin target/release/launchdb] [--seconds 5] [--runs 1] [--workloads row,list] [--connections 1,32,256]

One database on one machine in one run; every server has the same pool size, and each workload goes through all servers one
after the other, so that a slow moment of the machine meets all of them. Prints requests/s, p50, p99, CPU per 1,000 requests
of server and of PostgreSQL, resident memory, and the ratios to pgbench's pipelines. Beside them what statements
of PostgREST's shape cost PostgreSQL, sent by pgbench over as many connections as the pool has (`postgrest/`). Needs wrk and pgbench (Debian: wrk, postgresql-contrib). With --runs the figures are medians.
"""
import argparse, base64, glob, hashlib, hmac, json, os, pathlib, re, shutil, signal, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "bench/foundation"))
from run import free_port, http, pgbench_path  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
WORKLOADS = ["row", "row-jwt", "list", "embed", "insert"]
# PostgREST 14.17 on a quiet machine of two cores, pool of 10, 32 connections, requests/s.
POSTGREST = {"row": 4000, "list": 3000, "embed": 1800, "insert": 2800}
# What pgbench's pipelined one-row read reached on that machine: how much slower the present one is at this moment.
POSTGREST_PGBENCH = 67000


def jwt(secret, claims):
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    message = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    signature = hmac.new(secret.encode(), message.encode(), hashlib.sha256).digest()
    return f"{message}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def stat(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def cpu(pid):
    """Seconds of this process and of its children that have ended."""
    fields = stat(pid)
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICK


def cpu_own(pid):
    try:
        fields = stat(pid)
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / TICK


def children(pid):
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            if pathlib.Path(path).read_text().rsplit(")", 1)[1].split()[1] == str(pid):
                found.append(int(path.split("/")[2]))
        except OSError:
            pass
    return found


def postgresql_cpu(postmaster):
    """A reader of the seconds that the whole of PostgreSQL has taken since this call."""
    # An ended backend counts in the postmaster's with all it ever took; those that live count on their own.
    taken = lambda: cpu(postmaster) + sum(map(cpu_own, children(postmaster)))
    before = taken()
    return lambda: taken() - before


def rss_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


class Target:
    """A server under load."""

    def __init__(self, name, pid, url, path, env, token):
        self.name, self.pid, self.url, self.path, self.env, self.token = name, pid, url, path, env, token
        self.idle = rss_mb(pid)


def wrk(target, workload, connections, seconds):
    name = workload.removesuffix("-jwt")
    env = {**os.environ, "BENCH_WORKLOAD": name, "BENCH_PATH": target.path, **target.env}
    if workload.endswith("-jwt"):
        env["BENCH_TOKEN"] = target.token
    threads = min(2, connections)
    out = subprocess.run(
        ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(HERE / "requests.lua"), target.url],
        capture_output=True, text=True, env=env).stdout
    failed = int(re.search(r"failed (\d+)", out)[1])
    requests = int(re.search(r"(\d+) requests in", out)[1])
    if failed:
        print(f"  {target.name} {workload}: {failed} of {requests} answers were no success")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    percentile = lambda p: re.search(rf"^ +{p}% +(\S+)", out, re.M)[1]
    return requests, rate, percentile(50), percentile(99), failed


def micros(text):
    number, unit = re.match(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def await_ready(url, headers, process):
    began = time.monotonic()
    while time.monotonic() - began < 30:
        try:
            if http("GET", url, headers, timeout=2)[0] == 200:
                return
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.02)
    sys.exit(f"no answer from {url}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=str(ROOT / "target/release/launchdb"))
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--connections", default="1,32,256")
    parser.add_argument("--pool", type=int, default=10)
    parser.add_argument("--servers", default="gateway,rest,postgrest")
    parser.add_argument("--out", help="write the figures as JSON to this file")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="launchdb-bench-")
    os.chmod(folder, 0o755)
    data, port = f"{folder}/data", free_port()
    log = open(f"{folder}/log", "ab")
    started = []

    def start(command, env=None):
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        started.append(process)
        return process

    try:
        url = f"http://127.0.0.1:{port}"
        server = start([args.bin, "dev", "--data", data, "--port", str(port)])
        await_ready(url + "/health", {}, server)
        cli = lambda *a: subprocess.run([args.bin, *a, "--data", data], capture_output=True, text=True, check=True).stdout
        project = json.loads(cli("project", "create", "bench", "--json"))
        connection = json.loads(cli("project", "connection", project["id"], "--json"))
        login = json.loads((pathlib.Path(data) / "run/cli.json").read_text())
        auth = {"authorization": f"Bearer {login['token']}", "content-type": "application/json"}
        status, body = http("POST", f"{url}/api/projects/{project['id']}/sql", auth, json.dumps({"query": (HERE / "schema.sql").read_text()}).encode())
        assert status == 200, body
        settings = {"data_api": {"db_pool": args.pool}}
        status, body = http("PATCH", f"{url}/api/projects/{project['id']}/settings", auth, json.dumps(settings).encode())
        assert status == 200, body

        lines = next(iter(pathlib.Path(data).glob("**/postmaster.pid"))).read_text().splitlines()
        postmaster, pg_port, host = int(lines[0]), lines[3], lines[4]
        database = project["id"]
        password = re.search(r"^POSTGRES_SUPERUSER_PASSWORD=(.*)$", pathlib.Path(data, "secrets.env").read_text(), re.M)[1]
        libpq = {**os.environ, "PGPASSWORD": password, "PGHOST": host, "PGPORT": pg_port, "PGUSER": "supabase_admin", "PGDATABASE": database}
        sql = f"create role bench_authenticator noinherit login password 'bench'; grant anon, authenticated, service_role to bench_authenticator; grant connect on database {database} to bench_authenticator; vacuum analyze"
        for statement in sql.split(";"):
            subprocess.run(["psql", "-X", "-q", "-c", statement], env=libpq, check=True)

        secret = connection["jwt_secret"]
        claims = {"role": "authenticated", "sub": "5a1b6d3e-0000-4000-8000-000000000001", "aud": "authenticated", "exp": int(time.time()) + 36000}
        token = jwt(secret, claims)
        targets, base = [], re.sub(r"^https?://[^/]+", "", connection["api_url"]) + "/rest/v1"
        key = {"BENCH_KEY": connection["anon_key"]}
        if "gateway" in args.servers:
            targets.append(Target("launchdb", server.pid, url, base, key, token))
        drop_in = {
            "PGRST_DB_URI": f"postgresql://bench_authenticator:bench@/{database}?host={host}&port={pg_port}",
            "PGRST_DB_SCHEMAS": "public", "PGRST_DB_ANON_ROLE": "anon", "PGRST_DB_POOL": str(args.pool),
            "PGRST_JWT_SECRET": secret, "PGRST_SERVER_HOST": "127.0.0.1", "PGRST_LOG_LEVEL": "error",
        }
        programs = [("launchdb rest", [args.bin, "rest"])] if "rest" in args.servers.split(",") else []
        if "postgrest" in args.servers and shutil.which("postgrest"):
            programs.append(("postgrest", [shutil.which("postgrest")]))
        for name, command in programs:
            own_port = free_port()
            process = start(command, {**drop_in, "PGRST_SERVER_PORT": str(own_port)})
            own = f"http://127.0.0.1:{own_port}"
            await_ready(own + "/items?limit=1", {}, process)
            targets.append(Target(name, process.pid, own, "", {}, token))

        # wrk counts refusals alone: here is what it takes for an answer.
        for target in targets:
            headers = {"apikey": target.env["BENCH_KEY"]} if target.env else {}
            for bearer in ({}, {"authorization": f"Bearer {target.token}"}):
                answer = http("GET", f"{target.url}{target.path}/items?id=eq.7&select=name", {**headers, **bearer})
                assert answer == (200, b'[{"name":"item 7"}]'), answer
            body = {**headers, "content-type": "application/json"}
            answer = http("POST", f"{target.url}{target.path}/events", body, b'{"name":"event","amount":1}')
            assert answer == (201, b""), answer

        cells, references, statements = {}, {}, {}

        def pgbench(script, clients):
            line = [pgbench_path(), "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(args.seconds), "-f", str(HERE / f"{script}.pgbench")]
            out = subprocess.run(line, capture_output=True, text=True, env=libpq)
            found = re.search(r"tps = ([\d.]+)", out.stdout) or sys.exit(out.stderr)
            time.sleep(0.5)  # its backends have ended: only then their CPU is counted
            return float(found[1]), int(re.search(r"actually processed: (\d+)", out.stdout)[1])

        for run in range(args.runs):
            for workload in args.workloads.split(","):
                script = {"row": "one_row", "insert": "insert"}.get(workload)
                if script:
                    references.setdefault(workload, []).append(pgbench(script, 32)[0])
                if workload in POSTGREST:
                    theirs = postgresql_cpu(postmaster)
                    rate, count = pgbench(f"postgrest/{workload}", args.pool)
                    statements.setdefault(workload, []).append((rate, 1000 * theirs() / count))
                for connections in map(int, args.connections.split(",")):
                    for target in targets:
                        wrk(target, workload, connections, 1)  # prepared, and the pool is open
                        before, theirs = cpu(target.pid), postgresql_cpu(postmaster)
                        requests, rate, p50, p99, failed = wrk(target, workload, connections, args.seconds)
                        ours = cpu(target.pid) - before
                        cells.setdefault((workload, connections, target.name), []).append(
                            (rate, micros(p50), micros(p99), 1000 * ours / requests, 1000 * theirs() / requests, rss_mb(target.pid), failed))
                        print(f"  run {run + 1} {workload} x{connections} {target.name}: {rate:.0f}/s p50 {p50} p99 {p99}", flush=True)

        median = lambda rows, i: statistics.median(row[i] for row in rows)
        print(f"\n{'workload':<9} {'conns':>5} {'server':<14} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'own CPU s/1000':>15} {'PG CPU s/1000':>14} {'RSS MB':>7}")
        for (workload, connections, name), rows in cells.items():
            print(f"{workload:<9} {connections:>5} {name:<14} {median(rows, 0):>8.0f} {median(rows, 1) / 1e3:>8.2f} {median(rows, 2) / 1e3:>8.2f} "
                  f"{median(rows, 3):>15.4f} {median(rows, 4):>14.4f} {median(rows, 5):>7.0f}")
        print()
        for target in targets:
            print(f"{target.name}: {target.idle:.0f} MB resident before the first request")
        ratios = {}
        for workload, rows in statements.items():
            print(f"PostgREST's statements alone, {workload}, {args.pool} connections: {median(rows, 0):.0f}/s, PG CPU {median(rows, 1):.4f} s/1000")
            for target in targets:
                cell = cells.get((workload, 32, target.name))
                if cell:
                    ratios[f"{target.name} {workload} / PostgREST's statements alone"] = median(cell, 0) / median(rows, 0)
                    ratios[f"{target.name} {workload}: PostgreSQL's CPU / under PostgREST's statements"] = median(cell, 4) / median(rows, 1)
        for workload, rates in references.items():
            reference = statistics.median(rates)
            print(f"pgbench pipeline, {workload}, 32 clients: {reference:.0f}/s")
            for target in targets:
                rows = cells.get((workload, 32, target.name))
                if rows:
                    ratios[f"{target.name} {workload} / pgbench"] = median(rows, 0) / reference
        for target in targets:
            jwt_rows, rows = cells.get(("row-jwt", 32, target.name)), cells.get(("row", 32, target.name))
            if jwt_rows and rows:
                ratios[f"{target.name} row with a user's token / without"] = median(jwt_rows, 0) / median(rows, 0)
            for workload, known in POSTGREST.items():
                rows = cells.get((workload, 32, target.name))
                beside = cells.get((workload, 32, "postgrest"))
                if rows and target.name != "postgrest":
                    base_rate = median(beside, 0) if beside else known
                    what = "postgrest in this run" if beside else "PostgREST 14.17 on a quiet machine"
                    ratio = median(rows, 0) / base_rate
                    ratios[f"{target.name} {workload} / {what} ({base_rate:.0f}/s)"] = ratio
                    if beside:
                        ratios[f"{target.name} {workload}: p99 / postgrest's"] = median(rows, 2) / median(beside, 2)
                    elif "row" in references:
                        slower = POSTGREST_PGBENCH / statistics.median(references["row"])
                        ratios[f"{target.name} {workload} / the same at this machine's speed (pgbench {slower:.2f} times slower here)"] = ratio * slower
                        # Whoever answers so many a second to 32 that each wait for the last answer takes so long on average
                        # (Little's law), and longer at its p99.
                        mean = 32 / known * slower * 1e6
                        ratios[f"{target.name} {workload}: p99 / PostgREST's mean at this machine's speed ({mean / 1e3:.1f} ms)"] = median(rows, 2) / mean
        for name, ratio in ratios.items():
            print(f"{name}: {ratio:.2f}")
        if args.out:
            pathlib.Path(args.out).write_text(json.dumps({
                "cells": [{"workload": w, "connections": c, "server": s, "runs": rows} for (w, c, s), rows in cells.items()],
                "pgbench": references, "statements": statements, "ratios": ratios}, indent=1))
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
