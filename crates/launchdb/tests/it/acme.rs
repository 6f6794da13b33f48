//! Certificates that come by themselves, from the authority that Caddy has built in (smallstep's): it connects to port 443 of
//! each name, as every authority does.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use test_support::ScratchDir;

use crate::own_network::OwnNetwork;
use crate::server::Server;

const DIRECTORY: &str = "https://acme.test:8443/acme/local/directory";

/// The authority; ends with the test.
struct Authority {
    caddy: Child,
}

impl Authority {
    fn start(state: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let caddy = root.join("e2e/py/.venv/bin/caddy");
        assert!(caddy.exists(), "{} is missing: run script/test, which makes it", caddy.display());
        let config = state.join("Caddyfile");
        let text = "{\n\tadmin off\n\tskip_install_trust\n\thttp_port 8080\n\thttps_port 8443\n\tauto_https disable_redirects\n}\n\
                    https://acme.test:8443 {\n\ttls internal\n\tacme_server {\n\t\tchallenges tls-alpn-01\n\t}\n}\n";
        std::fs::write(&config, text).expect("written");
        let log = std::fs::File::create(state.join("caddy.log")).expect("a log");
        let caddy = Command::new(caddy)
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(config)
            .env_clear()
            .envs([("XDG_DATA_HOME", state), ("XDG_CONFIG_HOME", state), ("HOME", state)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Self { caddy: caddy.expect("caddy starts") }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = self.caddy.kill();
        let _ = self.caddy.wait();
    }
}

fn root_of(state: &Path) -> PathBuf {
    state.join("caddy/pki/authorities/local/root.crt")
}

fn curl(root: &Path, url: &str, more: &[&str]) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--max-time", "40", "--noproxy", "*", "--cacert"])
        .arg(root)
        .args(more)
        .arg(url)
        .output()
        .expect("curl runs")
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Waits for a value without a server to look at.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(value) = look() {
            return value;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("never came: {what}");
}

#[test]
fn certificates_come_by_themselves() {
    let Some(network) = OwnNetwork::enter("acme::certificates_come_by_themselves") else { return };
    let (home, state) = (ScratchDir::new(), ScratchDir::new());
    for name in ["acme.test", "launchdb.test", "api.shop.test", "evil.test", "proj-nobody.launchdb.test"] {
        network.add(name);
    }
    let authority = Authority::start(state.path());
    let root = root_of(state.path());
    eventually("the authority", || curl(&root, DIRECTORY, &[]).status.success().then_some(()));
    drop(authority);

    let root_text = root.display().to_string();
    let settings = [
        ("DOMAIN", "launchdb.test"),
        ("ACME_EMAIL", "you@example.org"),
        ("LAUNCHDB_ACME_DIRECTORY", DIRECTORY),
        ("LAUNCHDB_ACME_CA", root_text.as_str()),
        ("LAUNCHDB_SPARES", "0"),
    ];
    // Without an authority everything else works, and TLS says that there is no certificate.
    let mut server = Server::serve_tls(home.path(), &settings);
    server.until("the failure is told", |server| server.stderr().contains("no certificate could be got").then_some(()));
    let said = server.stderr();
    assert!(said.contains("the directory https://acme.test:8443/acme/local/directory cannot be used"), "{said}");
    let refused = curl(&root, "https://launchdb.test/health", &[]);
    assert!(!refused.status.success() && text_of(&refused).contains("alert"), "{}", text_of(&refused));
    server.cli(&["project", "create", "shop"]);
    let sql = "create table items (id int primary key); insert into items values (7); grant select on items to anon";
    server.cli(&["project", "sql", "shop", sql]);
    server.cli(&["project", "domains", "add", "shop", "api.shop.test"]);
    let connection = server.cli_json(&["project", "connection", "shop"]);
    let id = connection["project_id"].as_str().expect("an id").to_owned();
    let apikey = format!("apikey: {}", connection["anon_key"].as_str().expect("a key"));
    let subdomain = format!("{}.launchdb.test", id.replace('_', "-"));
    network.add(&subdomain);

    // It comes as soon as there is one to ask.
    let authority = Authority::start(state.path());
    let get = |url: &str, more: &[&str]| {
        let output = curl(&root, url, more);
        assert!(output.status.success(), "{url}: {}", text_of(&output));
        text_of(&output)
    };
    server.until("the server's own certificate", |_| {
        curl(&root, "https://launchdb.test/health", &[]).status.success().then_some(())
    });
    assert_eq!(connection["api_url"], format!("https://launchdb.test/p/{id}"));
    for url in [
        format!("https://launchdb.test/p/{id}/rest/v1/items"),
        // Nobody has these yet: the first connection waits.
        format!("https://{subdomain}/rest/v1/items"),
        "https://api.shop.test/rest/v1/items".to_owned(),
    ] {
        let answer = get(&url, &["--header", &apikey]);
        assert!(answer.contains("200 OK") && answer.contains(r#"[{"id":7}]"#), "{url}: {answer}");
    }
    for name in ["evil.test", "proj-nobody.launchdb.test"] {
        let output = curl(&root, &format!("https://{name}/health"), &[]);
        assert!(!output.status.success(), "{name} got a certificate: {}", text_of(&output));
    }
    let folder = server.data().join("acme");
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let mut kept: Vec<String> = Vec::new();
    for file in std::fs::read_dir(folder.join("names")).expect("a folder") {
        let path = file.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        kept.push(path.file_name().expect("a name").to_string_lossy().into_owned());
    }
    kept.sort();
    let mut expected = ["api.shop.test.pem", "launchdb.test.pem", &format!("{subdomain}.pem")].map(str::to_owned);
    expected.sort();
    assert_eq!(kept, expected);
    assert_eq!((mode(&folder), mode(&folder.join("names"))), (0o700, 0o700));
    assert_eq!(mode(&folder.join("account.json")), 0o600);
    let account = std::fs::read(folder.join("account.json")).expect("an account");
    let metrics = server.admin_metrics();
    assert!(metrics.contains("\nlaunchdb_tls_certificates 3\n"), "{metrics}");
    assert!(metrics.contains("\nlaunchdb_tls_certificates_failing 0\n"), "{metrics}");
    drop(server);
    drop(authority);

    // What was got is kept.
    let server = Server::serve_tls(home.path(), &settings);
    get("https://launchdb.test/health", &[]);
    get("https://api.shop.test/rest/v1/items", &["--header", &apikey]);
    drop(server);

    // One that is due is renewed, whoever gave it; clients are served with it meanwhile.
    std::fs::write(folder.join("names/launchdb.test.pem"), due("launchdb.test")).expect("written");
    let _authority = Authority::start(state.path());
    let mut server = Server::serve_tls(home.path(), &settings);
    server.until("the new certificate", |_| {
        curl(&root, "https://launchdb.test/health", &[]).status.success().then_some(())
    });
    get("https://api.shop.test/rest/v1/items", &["--header", &apikey]);
    assert_eq!(std::fs::read(folder.join("account.json")).expect("an account"), account, "one account for all");
}

/// Key and certificate that are good, and due.
fn due(name: &str) -> String {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    format!("{}{}", key.serialize_pem(), certificate.pem())
}
