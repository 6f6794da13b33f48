//! The backup drill: everything is lost but the backups and two keys, and everything works again.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use test_support::ScratchDir;

use crate::server::{Server, launchdb, refused, run};

const PROJECTS: usize = 3;

/// What a project's clients hold.
struct Held {
    id: String,
    anon_key: String,
    service_role_key: String,
    secret_key: String,
    db_uri: String,
}

#[test]
fn everything_comes_back_on_an_empty_machine() {
    let (home, safe) = (ScratchDir::new(), ScratchDir::new());
    let mut server = Server::start(home.path(), &[]);
    let held: Vec<Held> = (0..PROJECTS).map(|n| make(&server, n)).collect();
    server.until("the first project", |server| server.all_active().filter(|projects| projects.len() == PROJECTS + 1));
    let keys = keys(&server.data());
    let made = server.cli(&["backup", "run", "--all"]);
    // The platform's own, and the project that a first start makes.
    let count = PROJECTS + 2;
    assert_eq!(made.lines().count(), count, "{made}");
    assert!(server.cli(&["backup", "verify"]).contains(&format!("{count} backups are good")));
    let listed: Value = serde_json::from_str(&server.cli(&["backup", "list", "--json"])).expect("JSON");
    assert!(listed["backups"].as_array().expect("a list").iter().all(|file| file["verified_at"].is_string()));
    assert!(server.cli(&["status"]).contains("last backup"));
    assert_eq!(server.cli(&["backup", "prune"]).trim(), "", "nothing is old");

    // Over the API, too; in the same second there would be a file of that name already.
    let files: Vec<PathBuf> = made.lines().map(PathBuf::from).collect();
    let file = files.iter().find(|file| file.display().to_string().contains(&held[0].id)).expect("a backup");
    opens_by_hand(file, &keys[1].1);
    let kept: Vec<PathBuf> = files
        .iter()
        .map(|file| {
            let kept = safe.path().join(file.file_name().expect("a name"));
            std::fs::copy(file, &kept).expect("copied");
            kept
        })
        .collect();
    faults_are_clear(&server, file, &held[0].id);
    drop(server);
    drop(home);

    let home = ScratchDir::new();
    let settings: Vec<(&str, &str)> = keys.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut server = Server::start_with(home.path(), &[], &settings);
    for held in &held {
        let file = kept.iter().find(|file| file.display().to_string().contains(&held.id)).expect("a backup");
        let mut command = launchdb(home.path());
        command.args(["restore", &file.display().to_string(), &held.id]).envs(settings.iter().copied());
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        works(&mut server, held);
    }
}

/// A project with rows, a user and a policy.
fn make(server: &Server, n: usize) -> Held {
    let name = format!("project {n}");
    server.cli(&["project", "create", &name]);
    let sql = format!(
        "create table notes (id int primary key, owner uuid references auth.users, body text);
         insert into auth.users (id, email, encrypted_password)
             values ('6f1b2ab8-2f4e-4c53-9e0c-00000000000{n}', 'user{n}@example.org', 'hash');
         insert into notes select n, '6f1b2ab8-2f4e-4c53-9e0c-00000000000{n}', 'note ' || n from generate_series(1, 100) n;
         alter table notes enable row level security;
         create policy everybody on notes for select to anon using (id <= 10 + {n});
         grant select on notes to anon, service_role"
    );
    server.cli(&["project", "sql", &name, &sql]);
    server.cli(&["project", "settings", &name, "--set", r#"{"data_api": {"max_rows": 50}}"#]);
    let connection = server.cli_json(&["project", "connection", &name]);
    let text = |field: &str| connection[field].as_str().expect("a text").to_owned();
    Held {
        id: text("project_id"),
        anon_key: text("anon_key"),
        service_role_key: text("service_role_key"),
        secret_key: text("secret_key"),
        db_uri: text("db_uri"),
    }
}

/// The rows, the policy, the settings, every key and the database's password are the old ones.
fn works(server: &mut Server, held: &Held) {
    let url = format!("{}/p/{}/rest/v1/notes?select=id", server.url(), held.id);
    server.until("the project is served", |server| (server.get(&url, &held.anon_key).0 == 200).then_some(()));
    let rows = |key: &str| server.get(&url, key).1.as_array().map(Vec::len);
    assert!(rows(&held.anon_key).is_some_and(|rows| (10..10 + PROJECTS).contains(&rows)), "the policy is the old one");
    for key in [&held.service_role_key, &held.secret_key] {
        assert_eq!(rows(key), Some(50), "max_rows is the old one, and the key works");
    }
    // The port is this server's; user, password and database are the old ones.
    let mut uri = url::Url::parse(&held.db_uri).expect("a URL");
    let now = server.cli_json(&["project", "connection", &held.id]);
    let port = url::Url::parse(now["db_uri"].as_str().expect("a text")).expect("a URL").port();
    uri.set_port(port).expect("a port");
    let query =
        "select (select count(*) from notes) || ' ' || (select count(*) from auth.users) || ' ' || current_user";
    let output = Command::new("psql").args(["-At", uri.as_str(), "-c", query]).output().expect("psql runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "100 1 postgres", "{output:?}");
}

fn keys(data: &Path) -> [(&'static str, String); 2] {
    let secrets = std::fs::read_to_string(data.join("secrets.env")).expect("secrets were made");
    ["LAUNCHDB_MASTER_KEY", "BACKUP_ENCRYPTION_KEY"].map(|name| {
        let line = secrets.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        (name, line.expect("a value").to_owned())
    })
}

fn opens_by_hand(file: &Path, key: &str) {
    let gpg_home = ScratchDir::new();
    let gpg_home = gpg_home.path().display().to_string();
    let output = Command::new("gpg")
        .args(["--homedir", &gpg_home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", key])
        .args(["--decrypt".as_ref(), file.as_os_str()])
        .output()
        .expect("gpg runs");
    let _ = Command::new("gpgconf").args(["--homedir", &gpg_home, "--kill", "gpg-agent"]).output();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("PostgreSQL database dump complete") && text.contains("note 100"), "{output:?}");
}

fn faults_are_clear(server: &Server, file: &Path, id: &str) {
    let path = file.display().to_string();
    let cut = file.with_file_name("cut.sql.gpg");
    let whole = std::fs::read(file).expect("the backup");
    std::fs::write(&cut, &whole[..whole.len() / 2]).expect("written");
    for (args, code, text) in [
        (vec!["restore", path.as_str(), "proj_other"], 6, "holds"),
        (vec!["restore", cut.to_str().expect("a path"), id], 6, "cut off"),
        (vec!["restore", "/nonexistent", id], 4, "cannot be read"),
        (vec!["backup", "run", "--project", "proj_nobody"], 4, "there is no project"),
        (vec!["backup", "run", "--project", "x"], 2, "project id"),
    ] {
        let (found, stderr) = refused(&run(&server.home, &args));
        assert!(found == code && stderr.contains(text), "{args:?}: {found} {stderr}");
    }
    let mut wrong = launchdb(&server.home);
    wrong.args(["restore", &path, id]).env("BACKUP_ENCRYPTION_KEY", base64_key());
    let (found, stderr) = refused(&wrong.output().expect("the binary runs"));
    assert!(found == 10 && stderr.contains("the key does not open it"), "{found} {stderr}");
    let connection = server.cli_json(&["project", "connection", id]);
    let url = format!("{}/p/{id}/rest/v1/notes?select=id&limit=1", server.url());
    assert_eq!(server.get(&url, connection["service_role_key"].as_str().expect("a key")).0, 200, "nothing changed");
}

fn base64_key() -> String {
    "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=".to_owned()
}
