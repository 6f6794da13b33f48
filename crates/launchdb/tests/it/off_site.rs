//! Copies of backups elsewhere: a folder by rsync, with the scripts of the specification.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use test_support::ScratchDir;

use crate::server::Server;

fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => names.push(entry.file_name().into_string().expect("a text")),
            }
        }
    }
    names.sort();
    names
}

#[test]
fn the_scripts_back_up_copy_and_restore() {
    let (home, elsewhere, bin) = (ScratchDir::new(), ScratchDir::new(), ScratchDir::new());
    let mut server = Server::start(home.path(), &[]);
    server.cli(&["project", "create", "shop"]);
    // A first start makes a project beside the first requests.
    server.until("the first project", |server| server.all_active().filter(|projects| projects.len() == 2));
    server.cli(&["project", "sql", "shop", "create table items (id int); insert into items values (1), (2)"]);
    let connection = server.cli_json(&["project", "connection", "shop"]);
    let text = |name: &str| connection[name].as_str().expect("a text").to_owned();
    let (id, key) = (text("project_id"), text("service_role_key"));
    let headers = [("apikey", key.as_str()), ("content-type", "application/json")];
    let storage = format!("{}/p/{id}/storage/v1", server.url());
    assert_eq!(server.ask("POST", &format!("{storage}/bucket"), &headers, r#"{"id": "b", "name": "b"}"#).status, 200);
    let object = format!("{storage}/object/b/file.txt");
    let headers = [("apikey", key.as_str()), ("content-type", "text/plain")];
    assert_eq!(server.ask("POST", &object, &headers, "content").status, 200);

    // As in the container: the binary is in the path, the scripts beside each other.
    let link = bin.path().join("launchdb");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_launchdb"), &link).expect("a link");
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").expect("a path"));
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/backup");
    let script = |name: &str, args: &[&str]| -> Output {
        let mut command = Command::new(scripts.join(name));
        command.args(args).current_dir(home.path()).env("PATH", &path).env("RSYNC_DEST", elsewhere.path());
        command.env("LAUNCHDB_BACKUP_DIR", home.path().join(".launchdb/backups")).output().expect("the script runs")
    };
    for (name, args) in [("backup.sh", vec!["--all"]), ("storage-backup.sh", vec![])] {
        assert_eq!(std::fs::metadata(scripts.join(name)).expect("the script").permissions().mode() & 0o111, 0o111);
        let output = script(name, &args);
        assert!(output.status.success(), "{name}: {output:?}");
    }
    let copied = names(elsewhere.path());
    // The platform, two projects, a list and a content.
    assert!(copied.len() == 5 && copied.iter().all(|name| name.ends_with(".gpg")), "{copied:?}");
    assert_eq!(copied.iter().filter(|name| name.ends_with(".files.gpg")).count(), 1);

    // From the copy, everything comes back.
    server.cli(&["project", "sql", "shop", "drop table items"]);
    let is_shops = |name: &&String| name.starts_with(&id) && name.ends_with(".sql.gpg");
    let file: PathBuf = elsewhere.path().join(copied.iter().find(is_shops).expect("a backup"));
    let output = script("restore.sh", &[&file.display().to_string(), &id]);
    assert!(output.status.success(), "{output:?}");
    let rows = server.cli(&["project", "sql", "shop", "select count(*) as items from items"]);
    assert!(rows.contains('2'), "{rows}");
    let bad = script("backup.sh", &["--project", "proj_nobody"]);
    assert_eq!(bad.status.code(), Some(4), "{bad:?}");
}
