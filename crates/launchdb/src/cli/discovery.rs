//! Finding the running server: `run/cli.json` in its data folder, a URL and a token, or a login.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::ReachArgs;
use super::client::Client;
use super::login;
use crate::config::{DATA_FOLDER_NAME, SYSTEM_DATA_FOLDER, Source};
use crate::exit::{self, Exit, ResultExt as _};
use crate::private_file::{self, Doubt};

/// What the server writes at its start for commands on the same machine (mode 0600).
#[derive(Clone, Serialize, Deserialize)]
pub struct ServerFile {
    /// Where the server listens, reachable from this machine.
    pub url: String,
    /// An owner's token of this start; worthless after the server's end.
    pub token: String,
    /// Process id of the server.
    pub pid: u32,
}

/// The server file's place in a data folder.
pub fn server_file(data: &Path) -> PathBuf {
    data.join("run").join("cli.json")
}

/// Reads the server file of a data folder; none when no server wrote one.
pub fn read_server_file(data: &Path) -> Result<Option<ServerFile>, Exit> {
    let path = server_file(data);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(Exit::message(
                exit::NOT_ALLOWED,
                format!(
                    "{} belongs to another user: run this as the server's user, or use --url and --token",
                    path.display()
                ),
            ));
        }
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())).exit(exit::FAILURE),
    };
    // Somebody else's file in a shared folder would send our SQL and passwords to their server.
    match private_file::doubt(&path).exit(exit::FAILURE)? {
        None => {}
        Some(Doubt::Owner(_) | Doubt::Mode(_)) => {
            return Err(Exit::message(
                exit::NOT_ALLOWED,
                format!(
                    "{} is not this user's private file, so it is not believed: name the server with --url and --token",
                    path.display()
                ),
            ));
        }
    }
    serde_json::from_str(&text)
        .map(Some)
        .with_context(|| format!("{} is damaged: start the server again", path.display()))
        .exit(exit::FAILURE)
}

/// Data folders to look at: the named one alone, or `.launchdb` here and above, then the system's.
pub fn candidate_folders(named: Option<&Path>, working_folder: &Path) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let mut folders: Vec<_> = working_folder.ancestors().map(|folder| folder.join(DATA_FOLDER_NAME)).collect();
    folders.push(SYSTEM_DATA_FOLDER.into());
    folders
}

/// The first existing data folder, by the same search.
pub fn find_data_folder(source: &Source, named: Option<&Path>) -> Result<Option<PathBuf>, Exit> {
    let named = named.map(Path::to_owned).or_else(|| source.get("LAUNCHDB_DATA").map(PathBuf::from));
    let here = crate::config::source::working_folder().exit(exit::FAILURE)?;
    Ok(candidate_folders(named.as_deref(), &here).into_iter().find(|folder| folder.is_dir()))
}

/// A client for the server that the arguments, the environment or a data folder name.
pub fn connect(source: &Source, reach: &ReachArgs) -> Result<Client, Exit> {
    let token = reach.token.clone().or_else(|| source.get("LAUNCHDB_TOKEN").map(str::to_owned));
    let url = reach.url.clone().or_else(|| {
        // A data folder named on the command line is meant more than a variable set long ago.
        if reach.data.is_some() { None } else { source.get("LAUNCHDB_URL").map(str::to_owned) }
    });
    if let Some(url) = url {
        let token = match token {
            Some(token) => Some(token),
            None => login::known(source, Some(&url))?.map(|server| server.token),
        };
        return Client::new(&url, token);
    }
    let named = reach.data.clone().or_else(|| source.get("LAUNCHDB_DATA").map(PathBuf::from));
    let here = crate::config::source::working_folder().exit(exit::FAILURE)?;
    let folders = candidate_folders(named.as_deref(), &here);
    for folder in &folders {
        if let Some(file) = read_server_file(folder)? {
            return Client::new(&file.url, token.or(Some(file.token)));
        }
    }
    let existing = folders.iter().find(|folder| folder.is_dir());
    if existing.is_none()
        && named.is_none()
        && let Some(server) = login::known(source, None)?
    {
        return Client::new(&server.url, token.or(Some(server.token)));
    }
    Err(Exit::message(
        exit::UNREACHABLE,
        match (existing, named) {
            (Some(folder), _) => format!(
                "no server runs on the data folder {}: start it with: launchdb dev --data {}",
                folder.display(),
                folder.display()
            ),
            (None, Some(folder)) => format!("there is no data folder {}", folder.display()),
            (None, None) => "no data folder was found here, above, or in /var/lib/launchdb: start a server with \
                             `launchdb dev`, or name one with --data DIR or --url URL --token TOKEN"
                .to_owned(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn folders_are_searched_from_here_upwards() {
        let folders = candidate_folders(None, Path::new("/a/b"));
        let expected = ["/a/b/.launchdb", "/a/.launchdb", "/.launchdb", "/var/lib/launchdb"];
        assert_eq!(folders, expected.map(PathBuf::from));
        assert_eq!(candidate_folders(Some(Path::new("x")), Path::new("/a")), [PathBuf::from("x")]);
    }

    #[test]
    fn a_server_file_others_can_write_is_not_believed() {
        let data = tempfile::tempdir().unwrap();
        assert!(read_server_file(data.path()).unwrap().is_none());
        std::fs::create_dir(data.path().join("run")).unwrap();
        let file = ServerFile { url: "http://127.0.0.1:1".to_owned(), token: "t".to_owned(), pid: 1 };
        let path = server_file(data.path());
        private_file::write(&path, &serde_json::to_vec(&file).unwrap()).unwrap();
        assert_eq!(read_server_file(data.path()).unwrap().unwrap().token, "t");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(read_server_file(data.path()).err().unwrap().code, exit::NOT_ALLOWED);
    }
}
