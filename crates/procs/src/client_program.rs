//! Finding a client program of PostgreSQL, such as `pg_dump`, where no server need be installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binaries::Search;

/// Where Debian's and Ubuntu's packages put one folder per major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// Why a program cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no {program} of PostgreSQL {major} or newer was found: one that is older than the server cannot read it. Install it, \
     on Debian and Ubuntu with: apt-get install postgresql-client"
)]
pub struct NotFound {
    pub program: &'static str,
    pub major: u32,
}

/// The program of the oldest version that is not older than the server's.
pub fn find(search: &Search, program: &'static str, server_major: u32) -> Result<PathBuf, NotFound> {
    // What stands in the server's own folder need not be asked, which takes longer than a small dump when the answer comes
    // from Debian's script that chooses between versions.
    let own = Path::new(DEBIAN_ROOT).join(server_major.to_string()).join("bin").join(program);
    if search.bin_dir.is_none() && own.is_file() {
        return Ok(own);
    }
    let folders: Vec<PathBuf> = match &search.bin_dir {
        Some(folder) => vec![folder.clone()],
        None => {
            let debian = std::fs::read_dir(DEBIAN_ROOT).into_iter().flatten().flatten();
            let debian = debian.map(|entry| entry.path().join("bin"));
            search.path.iter().flat_map(std::env::split_paths).chain(debian).collect()
        }
    };
    folders
        .into_iter()
        .map(|folder| folder.join(program))
        .filter_map(|path| Some((major(&path)?, path)))
        .filter(|(major, _)| *major >= server_major)
        .min_by_key(|(major, _)| *major)
        .map(|(_, path)| path)
        .ok_or(NotFound { program, major: server_major })
}

/// The major version of a program that says `pg_dump (PostgreSQL) 15.8`.
fn major(path: &Path) -> Option<u32> {
    if !path.is_absolute() || !path.is_file() {
        return None;
    }
    let output = Command::new(path).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_once("(PostgreSQL)")?.1.trim_start();
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_older_than_the_server_is_not_taken() {
        let search = Search { bin_dir: None, path: std::env::var_os("PATH") };
        let found = find(&search, "pg_dump", 15).unwrap();
        assert!(major(&found).unwrap() >= 15, "{}", found.display());
        assert_eq!(find(&search, "pg_dump", 999), Err(NotFound { program: "pg_dump", major: 999 }));
        let elsewhere = Search { bin_dir: Some("/nonexistent".into()), ..search };
        assert!(find(&elsewhere, "pg_dump", 15).is_err());
    }
}
