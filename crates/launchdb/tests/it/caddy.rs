//! The real Caddy with `infra/caddy/Caddyfile` in front of the real server, with certificates of its own authority.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use test_support::{ScratchDir, free_port};

use crate::server::Server;

/// Ends Caddy with the test.
struct Caddy(Child);

impl Drop for Caddy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Front {
    port: u16,
    root: PathBuf,
}

impl Front {
    fn curl(&self, host: &str, path: &str, args: &[&str]) -> Output {
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--include", "--noproxy", "*", "--cacert"])
            .arg(&self.root)
            .args(["--resolve", &format!("{host}:{}:127.0.0.1", self.port)])
            .args(args)
            .arg(format!("https://{host}:{}{path}", self.port))
            .output()
            .expect("curl runs")
    }

    fn get(&self, host: &str, path: &str, args: &[&str]) -> String {
        let output = self.curl(host, path, args);
        assert!(output.status.success(), "{host}{path}: {output:?}");
        String::from_utf8_lossy(&output.stdout).to_lowercase()
    }
}

#[test]
fn https_reaches_everything_and_certificates_are_for_our_names_only() {
    let (home, state) = (ScratchDir::new(), ScratchDir::new());
    let settings = [("DOMAIN", "launchdb.test"), ("LAUNCHDB_TRUSTED_PROXIES", "127.0.0.1")];
    let mut server = Server::start_with(home.path(), &[], &settings);
    server.cli(&["project", "create", "shop"]);
    let sql =
        "create table items (id int primary key); insert into items values (7); grant select, insert on items to anon";
    server.cli(&["project", "sql", "shop", sql]);
    server.cli(&["project", "domains", "add", "shop", "api.shop.test"]);
    let connection = server.cli_json(&["project", "connection", "shop"]);
    let id = connection["project_id"].as_str().expect("an id").to_owned();
    let apikey = format!("apikey: {}", connection["anon_key"].as_str().expect("a key"));
    assert_eq!(connection["api_url"], format!("https://launchdb.test/p/{id}"));

    let (port, metrics) = (free_port(), free_port());
    let _caddy = start(&server, state.path(), port, metrics);
    let front = Front { port, root: state.path().join("caddy/pki/authorities/local/root.crt") };
    server.until("Caddy answers", |_| {
        front.root.exists().then(|| front.curl("launchdb.test", "/api/health", &[])).filter(|o| o.status.success())
    });

    let health = front.get("launchdb.test", "/api/health", &["--header", "X-Request-Id: of-the-client"]);
    assert!(health.contains("http/2 200") || health.contains("http/1.1 200"), "{health}");
    assert!(health.contains("strict-transport-security: max-age=31536000"), "{health}");
    assert!(health.contains("x-request-id:") && !health.contains("of-the-client"), "{health}");
    let label = id.replace('_', "-");
    for (host, path) in [
        ("launchdb.test", format!("/p/{id}/rest/v1/items")),
        (&format!("{label}.launchdb.test"), "/rest/v1/items".to_owned()),
        ("api.shop.test", "/rest/v1/items".to_owned()),
        ("launchdb.test", format!("/db/{id}/items")),
    ] {
        let answer = front.get(host, &path, &["--header", &apikey]);
        assert!(answer.contains("[{\"id\":7}]"), "{host}{path}: {answer}");
    }
    for host in ["evil.test", "proj-nobody.launchdb.test", "x.launchdb.test"] {
        let output = front.curl(host, "/api/health", &[]);
        assert!(!output.status.success(), "{host} got a certificate: {output:?}");
    }
    // A body of some megabytes, which neither side may cut.
    let body = state.path().join("body.json");
    let rows: Vec<String> = (100..200_100).map(|id| format!("{{\"id\":{id}}}")).collect();
    std::fs::write(&body, format!("[{}]", rows.join(","))).expect("written");
    let upload = ["--header", &apikey, "--header", "Content-Type: application/json", "--data-binary"];
    let file = format!("@{}", body.display());
    let answer = front.get("launchdb.test", &format!("/p/{id}/rest/v1/items"), &[&upload[..], &[&file]].concat());
    assert!(answer.contains(" 201"), "{answer}");
    let text = server.get(&format!("http://127.0.0.1:{metrics}/metrics"), "").1;
    assert!(text.as_str().is_some_and(|text| text.contains("caddy_http_requests_total")), "{text}");
}

fn start(server: &Server, state: &Path, port: u16, metrics: u16) -> Caddy {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let caddy = root.join("e2e/py/.venv/bin/caddy");
    assert!(caddy.exists(), "{} is missing: run script/test, which makes it", caddy.display());
    let upstream = server.url().trim_start_matches("http://").to_owned();
    let child = Command::new(caddy)
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(root.join("infra/caddy/Caddyfile"))
        .env_clear()
        .envs([("DOMAIN", "launchdb.test"), ("ACME_EMAIL", "you@example.org"), ("CADDY_ADMIN", "off")])
        // Its own authority in place of a public one, and no ports that need rights.
        .envs([("CADDY_OPTIONS", "local_certs\nskip_install_trust"), ("LAUNCHDB_UPSTREAM", upstream.as_str())])
        .env("CADDY_HTTPS_PORT", port.to_string())
        .env("CADDY_HTTP_PORT", free_port().to_string())
        .env("CADDY_METRICS_PORT", metrics.to_string())
        .env("XDG_DATA_HOME", state)
        .env("XDG_CONFIG_HOME", state)
        .env("HOME", state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Caddy(child.expect("caddy starts"))
}
