//! TLS of the server itself: certificates from files, and new ones as they come.

use std::path::Path;
use std::process::Command;

use test_support::ScratchDir;

use crate::server::{Server, launchdb, refused};

/// A certificate that signs itself, and its key, into `cert.pem` and `key.pem`.
fn certificate(folder: &Path, name: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
}

/// What curl says, which trusts only the certificate in `folder`.
fn curl(folder: &Path, url: &str, more: &[&str]) -> (bool, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--max-time", "20", "--cacert"])
        .arg(folder.join("cert.pem"))
        .args(more)
        .arg(url)
        .output()
        .expect("curl runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_server_does_tls_itself() {
    let (home, files) = (ScratchDir::new(), ScratchDir::new());
    certificate(files.path(), "first");
    let path = |name: &str| files.path().join(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let port = test_support::free_port();
    let redirect_port = test_support::free_port().to_string();
    let (public_url, port_text) = (format!("https://localhost:{port}"), port.to_string());
    let settings = [
        ("LAUNCHDB_TLS_CERT", cert.as_str()),
        ("LAUNCHDB_TLS_KEY", key.as_str()),
        ("LAUNCHDB_PUBLIC_URL", public_url.as_str()),
        ("LAUNCHDB_PORT", port_text.as_str()),
        ("LAUNCHDB_REDIRECT_PORT", redirect_port.as_str()),
    ];
    let server = Server::start_at(home.path(), &settings);
    // Commands on the same machine go over loopback.
    server.cli(&["project", "create", "shop"]);
    let sql = "create table items (id int primary key); insert into items values (7); grant select on items to anon";
    server.cli(&["project", "sql", "shop", sql]);
    let connection = server.cli_json(&["project", "connection", "shop"]);
    let api_url = connection["api_url"].as_str().expect("a URL");
    assert!(api_url.starts_with(&public_url), "{api_url}");
    let header = format!("apikey: {}", connection["anon_key"].as_str().expect("a key"));
    let (ok, text) = curl(files.path(), &format!("{api_url}/rest/v1/items"), &["--header", &header]);
    assert!(ok && text.contains("200 OK") && text.contains(r#"[{"id":7}]"#), "{text}");
    let (ok, text) = curl(files.path(), &format!("http://localhost:{port}/health"), &[]);
    assert!(!ok || !text.contains("200 OK"), "plain HTTP is refused: {text}");
    let plain = format!("http://localhost:{redirect_port}/health?a=b");
    let (ok, text) = curl(files.path(), &plain, &[]);
    assert!(ok && text.contains("308") && text.contains(&format!("{public_url}/health?a=b")), "{text}");
    let (ok, text) = curl(files.path(), &plain, &["--location"]);
    assert!(ok && text.contains("200 OK"), "{text}");
    let (ok, _) = curl(files.path(), &format!("{public_url}/health"), &["--tls-max", "1.1"]);
    assert!(!ok, "nothing older than TLS 1.2");
    let (ok, text) = curl(files.path(), &format!("{public_url}/health"), &["--tlsv1.3"]);
    assert!(ok && text.contains("200 OK"), "{text}");
    assert!(text.to_ascii_lowercase().contains("strict-transport-security"), "{text}");
    drop(server);

    for (name, value, expected) in [
        ("LAUNCHDB_TLS_KEY", "", "LAUNCHDB_TLS_KEY is missing"),
        ("LAUNCHDB_TLS_KEY", "/nonexistent", "cannot be read as a key"),
        ("LAUNCHDB_TLS_CERT", key.as_str(), "no certificate"),
    ] {
        let mut command = launchdb(home.path());
        command.args(["serve", "--tls", "--data", ".launchdb"]).envs(settings).env(name, value);
        command.env("LAUNCHDB_POOLER_PORT", "off").env("LAUNCHDB_ADMIN_PORT", "0");
        if value.is_empty() {
            command.env_remove(name);
        }
        let (code, text) = refused(&command.output().expect("the binary runs"));
        assert!(code == 10 && text.contains(expected), "{code} {text}");
    }
}
