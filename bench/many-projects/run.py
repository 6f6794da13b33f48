#!/usr/bin/env python3
"""Many projects in one process: each is made and touched once.

    bench/many-projects/run.py [--bin target/release/launchdb] [--projects 1000]

Starts LaunchDB on a temporary data folder, measures, and stops it. A project takes some 11 MiB of disk.
"""
import argparse, collections, concurrent.futures, json, os, pathlib, re, shutil, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench/foundation"))
from run import Server, free_port, http, pgbench_path, sockets  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=str(ROOT / "target/release/launchdb"))
    parser.add_argument("--projects", type=int, default=1000)
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="launchdb-bench-")
    os.chmod(folder, 0o755)
    data, short = f"{folder}/data", []
    server = Server(args.bin, data, free_port())

    def row(what, value, target="", ok=True):
        print(f"  {what}: {value}{f' (target {target})' if target else ''}{'' if ok else ' SHORT'}", flush=True)
        if not ok:
            short.append(what)

    try:
        login = json.loads((pathlib.Path(data) / "run/cli.json").read_text())
        auth = {"authorization": f"Bearer {login['token']}", "content-type": "application/json"}

        def create(i):
            status, body = http("POST", server.url + "/api/projects", auth, json.dumps({"name": f"many-{i}"}).encode())
            return status, json.loads(body)

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            made = list(pool.map(create, range(args.projects)))
        failed = [answer for answer in made if answer[0] != 201]
        row(f"{args.projects} projects made", f"{time.monotonic() - began:.0f} s, {len(failed)} failures", "0 failures", not failed)
        if failed:
            print(failed[:3])
        ids = [project["id"] for status, project in made if status == 201]
        keys = {i: json.loads(http("GET", f"{server.url}/api/projects/{i}/connection", auth)[1])["anon_key"] for i in ids}
        rss = server.rss_mb()

        def touch(project):
            began = time.monotonic()
            status, _ = http("GET", f"{server.url}/p/{project}/rest/v1/nothing", {"apikey": keys[project]})
            return status, (time.monotonic() - began) * 1000

        for round_name in ("first", "second"):
            began = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(touch, ids))
            statuses = collections.Counter(status for status, _ in answers)
            times = sorted(ms for _, ms in answers)
            # There is no such table, and only the project's own database can say so.
            row(f"{round_name} touch of each, 16 at a time", f"{time.monotonic() - began:.1f} s, p50 {statistics.median(times):.0f} ms, "
                f"most {times[-1]:.0f} ms, statuses {dict(statuses)}", "404 from all", set(statuses) == {404})
            row("resident memory before and after", f"{rss:.0f} MB, {server.rss_mb():.0f} MB", "< 250 MB", server.rss_mb() < 250)

        host, port = sockets(data)
        password = re.search(r"^POSTGRES_SUPERUSER_PASSWORD=(.*)$", pathlib.Path(data, "secrets.env").read_text(), re.M)[1]
        psql = [str(pathlib.Path(pgbench_path()).with_name("psql")), "-X", "-At", "-h", host, "-p", port, "-U", "supabase_admin", "-d", "postgres",
                "-c", "select count(*) from pg_stat_activity where usename like '%\\_authenticator'"]
        began, left = time.monotonic(), None
        while left != 0 and time.monotonic() - began < 120:
            time.sleep(1)
            left = int(subprocess.run(psql, capture_output=True, text=True, env={**os.environ, "PGPASSWORD": password}).stdout)
        row("connections of idle projects", f"{left} after {time.monotonic() - began:.0f} s", "0", left == 0)
        row("resident memory then", f"{server.rss_mb():.0f} MB", "< 250 MB", server.rss_mb() < 250)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if short else 0)


if __name__ == "__main__":
    main()
