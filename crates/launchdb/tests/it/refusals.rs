//! Bad states: each is named with its mend, has its exit code, and touches nothing.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use test_support::ScratchDir;

use crate::server::{launchdb, refused, run};

/// Names and sizes of everything below a folder.
fn contents(folder: &Path) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let metadata = entry.metadata().expect("a file");
            all.push((path.display().to_string(), metadata.len()));
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_used_port_touches_nothing() {
    let home = ScratchDir::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let (code, text) = refused(&run(home.path(), &["dev", "--port", &port]));
    assert_eq!(code, 11, "{text}");
    assert!(text.contains(&port) && text.contains("--port"), "{text}");
    assert_eq!(contents(home.path()), [], "nothing was made");
}

#[test]
fn a_foreign_folder_is_left_alone() {
    let home = ScratchDir::new();
    let foreign = home.path().join("photos");
    std::fs::create_dir(&foreign).expect("a folder");
    std::fs::write(foreign.join("holiday.jpg"), "x").expect("a file");
    let before = contents(home.path());
    let (code, text) = refused(&run(home.path(), &["dev", "--port", "0", "--data", "photos"]));
    assert_eq!(code, 13, "{text}");
    assert!(text.contains("photos"), "{text}");
    let doctor = run(home.path(), &["doctor", "--data", "photos"]);
    let found = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.code() == Some(1) && found.contains("no LaunchDB made it"), "{found}");
    assert_eq!(contents(home.path()), before);
}

#[test]
fn a_folder_that_cannot_be_made_is_named_once() {
    let home = ScratchDir::new();
    let (code, text) = refused(&run(home.path(), &["dev", "--port", "0", "--data", "/proc/nowhere/data"]));
    assert_ne!(code, 0);
    assert!(text.contains("/proc/nowhere") && text.matches("os error").count() == 1, "{text}");
}

#[test]
fn a_newer_folder_is_left_alone() {
    let home = ScratchDir::new();
    let data = home.path().join(".launchdb");
    std::fs::create_dir(&data).expect("a folder");
    std::fs::write(data.join("LAUNCHDB_VERSION"), "99\n").expect("a file");
    let before = contents(home.path());
    let (code, text) = refused(&run(home.path(), &["dev", "--port", "0"]));
    assert!(code == 13 && text.contains("newer"), "{code}: {text}");
    assert_eq!(contents(home.path()), before);
}

#[test]
fn without_postgresql_nothing_is_made() {
    let home = ScratchDir::new();
    let mut command = launchdb(home.path());
    command
        .args(["dev", "--port", "0"])
        .env("LAUNCHDB_POSTGRES_BIN", "/nowhere/bin")
        .env("LAUNCHDB_STATUS_PORT", "off");
    let (code, text) = refused(&command.output().expect("the binary runs"));
    assert!(code == 14 && text.contains("/nowhere/bin"), "{code}: {text}");
    assert_eq!(contents(home.path()), []);
}

#[test]
fn weak_and_missing_settings_are_named_together() {
    let home = ScratchDir::new();
    let output = launchdb(home.path())
        .args(["dev", "--port", "0"])
        .envs([
            ("LAUNCHDB_MASTER_KEY", "your-32-byte-master-key-goes-here"),
            ("PLATFORM_JWT_SECRET", "changeme"),
            ("LAUNCHDB_STATUS_PORT", "many"),
        ])
        .output()
        .expect("the binary runs");
    let (code, text) = refused(&output);
    assert_eq!(code, 10, "{text}");
    for wanted in ["LAUNCHDB_MASTER_KEY", "PLATFORM_JWT_SECRET", "LAUNCHDB_STATUS_PORT", "openssl rand -base64 32"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("changeme"), "values are not shown: {text}");
    assert_eq!(contents(home.path()), []);

    let url = "postgresql://launchdb:kq93Jf02kd8Lw@127.0.0.1:9/platform";
    let output = launchdb(home.path()).arg("serve").env("DATABASE_URL", url).output().expect("the binary runs");
    let (code, text) = refused(&output);
    assert_eq!(code, 10, "{text}");
    for wanted in ["DOMAIN", "LAUNCHDB_MASTER_KEY", "PLATFORM_JWT_SECRET"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("kq93Jf02kd8Lw"), "{text}");
}

#[test]
fn an_env_file_is_read_and_its_faults_are_named() {
    let home = ScratchDir::new();
    std::fs::write(home.path().join(".env"), "LAUNCHDB_PORT=nine\n").expect("a file");
    let (code, text) = refused(&run(home.path(), &["dev"]));
    assert!(code == 10 && text.contains("LAUNCHDB_PORT"), "{text}");
    std::fs::write(home.path().join(".env"), "nonsense\n").expect("a file");
    let (code, text) = refused(&run(home.path(), &["dev"]));
    assert!(code == 10 && text.contains("line 1"), "{text}");
}

#[test]
fn doctor_names_faults_without_a_server() {
    let home = ScratchDir::new();
    let data = home.path().join(".launchdb");
    std::fs::create_dir(&data).expect("a folder");
    std::fs::write(data.join("secrets.env"), "LAUNCHDB_MASTER_KEY=x\n").expect("a file");
    std::fs::set_permissions(data.join("secrets.env"), std::fs::Permissions::from_mode(0o644)).expect("rights");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = run(home.path(), &["doctor", "--port", &port]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    for wanted in ["chmod 600", "cannot listen", "PostgreSQL", "clock", "disk"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn without_a_server_commands_say_how_to_start_one() {
    let home = ScratchDir::new();
    let (code, text) = refused(&run(home.path(), &["project", "list", "--data", "nowhere"]));
    assert!(code == 3 && text.contains("nowhere"), "{code}: {text}");
}
