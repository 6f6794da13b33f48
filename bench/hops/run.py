#!/usr/bin/env python3
"""What a hop costs: the data API straight, with Caddy in front (TLS), and with PgBouncer behind.

    bench/hops/run.py [--bin target/release/launchdb] [--seconds 5] [--rounds 3] [--connections 32]

Two processes `serve --only rest` on one PostgreSQL, one of them through PgBouncer, and Caddy with infra/caddy/Caddyfile in front of
the direct one. Every round goes through all ways, so that a slow moment of the machine meets all of them; figures are
medians. Needs wrk, pgbouncer, and Caddy (e2e/py/.venv, which script/setup tests makes).
"""
import argparse, json, os, pathlib, re, shutil, signal, ssl, statistics, subprocess, sys, tempfile, time, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "bench/foundation"))
from run import TABLE_SQL, Server, free_port, http, wrk  # noqa: E402

WORKLOADS = {"one row": "/items?select=id,name,price&id=eq.", "list of 100": "/items?select=id,name,price&limit=100&id=gt."}
SCRIPT = """
local path, key = os.getenv("BENCH_PATH"), os.getenv("BENCH_KEY")
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"):sub(-6), 16)) end
function request() return wrk.format("GET", path .. math.random(1, 9000), { apikey = key }) end
function response(status) if status ~= 200 then failed = (failed or 0) + 1 end end
function done()
  local sum = 0
  for _, thread in ipairs(threads) do sum = sum + (thread:get("failed") or 0) end
  io.write("failed " .. sum .. "\\n")
end
"""


def await_health(url, process, context=None):
    began = time.monotonic()
    while time.monotonic() - began < 30:
        try:
            with urllib.request.urlopen(url, timeout=2, context=context) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.05)
    sys.exit(f"no answer from {url}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=str(ROOT / "target/release/launchdb"))
    parser.add_argument("--caddy", default=str(ROOT / "e2e/py/.venv/bin/caddy"))
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="launchdb-bench-")
    os.chmod(folder, 0o755)
    os.environ.update(LAUNCHDB_POOLER_PORT="off", LAUNCHDB_STATUS_PORT="off", LAUNCHDB_ADMIN_PORT="0", LAUNCHDB_DISK_RESERVE_MB="64")
    data, processes = f"{folder}/data", []
    server = Server(args.bin, data, free_port())
    try:
        connection = server.project("hops")
        server.cli("project", "sql", connection["project_id"], TABLE_SQL)
        secrets = dict(line.split("=", 1) for line in pathlib.Path(data, "secrets.env").read_text().splitlines() if "=" in line and line[0] != "#")
        postgres = pathlib.Path(data, "postgres/port").read_text().strip()
        pooler = free_port()
        settings = {
            **os.environ, **secrets,
            "DATABASE_URL": f"postgresql://platform:{secrets['LAUNCHDB_PLATFORM_DB_PASSWORD']}@127.0.0.1:{postgres}/platform",
            "LAUNCHDB_ADMIN_DATABASE_URL": f"postgresql://supabase_admin:{secrets['POSTGRES_SUPERUSER_PASSWORD']}@127.0.0.1:{postgres}/postgres",
            "LAUNCHDB_PUBLIC_URL": server.url, "LAUNCHDB_RATE_LIMIT_PER_SECOND": "0", "LAUNCHDB_TRUSTED_PROXIES": "127.0.0.1",
            "LAUNCHDB_POOLER_DIR": f"{folder}/pooler", "LAUNCHDB_POOLER_PORT": str(pooler),
        }

        def service(name, **more):
            port = free_port()
            command = [args.bin, "serve", "--only", name, "--port", str(port)]
            process = subprocess.Popen(command, cwd=folder, env={**settings, **more}, stdout=subprocess.DEVNULL, stderr=server.log)
            processes.append(process)
            await_health(f"http://127.0.0.1:{port}/health", process)
            return port

        service("pgbouncer")
        direct = service("rest")
        pooled = service("rest", LAUNCHDB_POOLER_ADDRESS=f"127.0.0.1:{pooler}")
        log = pathlib.Path(server.log.name).read_text()
        if "LAUNCHDB_POOLER_ADDRESS is no setting" in log:
            sys.exit("this binary is too old to go through PgBouncer")
        tls = free_port()
        caddy = subprocess.Popen(
            [args.caddy, "run", "--adapter", "caddyfile", "--config", str(ROOT / "infra/caddy/Caddyfile")], cwd=folder,
            env={
                "DOMAIN": "localhost", "ACME_EMAIL": "you@example.org", "CADDY_ADMIN": "off", "HOME": folder, "XDG_DATA_HOME": folder,
                "XDG_CONFIG_HOME": folder, "CADDY_OPTIONS": "local_certs\nskip_install_trust", "LAUNCHDB_UPSTREAM": f"127.0.0.1:{direct}",
                "CADDY_HTTPS_PORT": str(tls), "CADDY_HTTP_PORT": str(free_port()), "CADDY_METRICS_PORT": str(free_port()),
            }, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        processes.append(caddy)
        # wrk looks at no certificate either.
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        await_health(f"https://localhost:{tls}/health", caddy, trusting)

        script = pathlib.Path(folder, "hops.lua")
        script.write_text(SCRIPT)
        base = f"/db/{connection['project_id']}"
        ways = {"direct": f"http://127.0.0.1:{direct}", "Caddy": f"https://localhost:{tls}", "PgBouncer": f"http://127.0.0.1:{pooled}"}
        program = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
        version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        print(f"{version.splitlines()[0]}, Caddy {subprocess.run([args.caddy, 'version'], capture_output=True, text=True).stdout.split()[0]}, "
              f"{args.connections} connections, medians of {args.rounds} rounds of {args.seconds} s")
        print(f"{'workload':12} {'way':10} {'req/s':>8} {'ratio':>6} {'p50':>9} {'p99':>9}")
        for name, path in WORKLOADS.items():
            env = {"BENCH_PATH": base + path, "BENCH_KEY": connection["anon_key"]}
            figures = {way: [] for way in ways}
            for url in ways.values():
                wrk(url, script, 1, env, args.connections)
            for _ in range(args.rounds):
                for way, url in ways.items():
                    figures[way].append(wrk(url, script, args.seconds, env, args.connections))
            rate = {way: statistics.median(figure[0] for figure in rounds) for way, rounds in figures.items()}
            for way, rounds in figures.items():
                middle = sorted(rounds)[len(rounds) // 2]
                print(f"{name:12} {way:10} {rate[way]:8.0f} {rate[way] / rate['direct']:6.2f} {middle[1]:>9} {middle[2]:>9}", flush=True)
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(processes):
            process.wait(30)
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
