#!/usr/bin/env python3
"""What a number of projects takes of a machine: memory of all processes together (the server, PostgreSQL, PgBouncer) and disk.

    bench/scaling/run.py [--bin target/release/launchdb] [--counts 3,25,100,300] [--busy 10]

Every project has a table with 1,000 rows. Measured after each was asked once, while --busy of them are asked as fast as wrk can
(32 connections), and when nobody has asked for a while. Memory is the sum of proportional set sizes, so that what processes share
counts once; the cache of the file system is not in it. Needs wrk (Debian: wrk).
"""
import argparse, json, os, pathlib, re, shutil, signal, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/foundation"))
from run import free_port, http  # noqa: E402

SCHEMA = """create table public.items (id bigint primary key, name text, body jsonb);
insert into public.items select i, 'item ' || i, jsonb_build_object('number', i) from generate_series(1, 1000) i;
grant select on public.items to anon"""


def memory_mb(root):
    """Of a process and all below it."""
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rsplit(") ", 1)[1].split()[1]), []).append(int(stat.parent.name))
        except OSError:
            continue
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        waiting += parents.get(pid, [])
        try:
            total += int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
        except (OSError, TypeError):
            continue
    return total / 1024


def disk_mb(folder):
    return int(subprocess.run(["du", "-sm", folder], capture_output=True, text=True).stdout.split()[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=str(ROOT / "target/release/launchdb"))
    parser.add_argument("--counts", default="3,25,100,300")
    parser.add_argument("--busy", type=int, default=10)
    parser.add_argument("--idle", type=int, default=40, help="seconds")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="launchdb-scaling-")
    os.chmod(folder, 0o755)
    data, port = f"{folder}/data", free_port()
    url, log = f"http://127.0.0.1:{port}", open(f"{folder}/log", "ab")
    env = {**os.environ, "LAUNCHDB_STATUS_PORT": "off", "LAUNCHDB_ADMIN_PORT": "0"}
    server = subprocess.Popen([args.bin, "dev", "--data", data, "--port", str(port)], stdout=log, stderr=log, env=env)
    try:
        session = pathlib.Path(data, "run/cli.json")
        for _ in range(600):
            if session.exists():
                break
            time.sleep(0.1)
        owner = {"authorization": f"Bearer {json.loads(session.read_text())['token']}", "content-type": "application/json"}
        projects = []
        print(f"{'projects':>8} {'each asked once':>16} {f'{args.busy} busy':>10} {'req/s':>8} {'idle':>8} {'disk':>9}")
        for count in map(int, args.counts.split(",")):
            while len(projects) < count:
                status, body = http("POST", f"{url}/api/projects", owner, json.dumps({"name": f"p{len(projects)}"}).encode())
                assert status in (200, 201), body
                project = json.loads(body)["id"]
                status, body = http("POST", f"{url}/api/projects/{project}/sql", owner, json.dumps({"query": SCHEMA}).encode())
                assert status == 200, body
                connection = json.loads(http("GET", f"{url}/api/projects/{project}/connection", owner)[1])
                projects.append((f"/p/{project}/rest/v1/items?id=eq.7", connection["anon_key"]))
            for path, key in projects:
                status, body = http("GET", url + path, {"apikey": key})
                assert status == 200 and b"item 7" in body, body
            asked = memory_mb(server.pid)
            script = pathlib.Path(folder, "busy.lua")
            chosen = projects[: args.busy]
            script.write_text("local n = 0\nlocal projects = {" + ",".join(f'{{"{p}","{k}"}}' for p, k in chosen) + "}\n"
                              "function request() n = n + 1; local p = projects[n % #projects + 1]\n"
                              "  return wrk.format('GET', p[1], {apikey = p[2]}) end\n")
            wrk = subprocess.Popen(["wrk", "-t1", "-c32", "-d5s", "-s", script, url], stdout=subprocess.PIPE, text=True)
            time.sleep(3)
            busy = memory_mb(server.pid)
            out = wrk.communicate()[0]
            assert "Non-2xx" not in out, out
            rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
            time.sleep(args.idle)
            print(f"{count:>8} {asked:>13.0f} MB {busy:>7.0f} MB {rate:>8.0f} {memory_mb(server.pid):>5.0f} MB {disk_mb(data):>6} MB", flush=True)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
