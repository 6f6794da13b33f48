//! Finding the PostgreSQL server that is installed on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest PostgreSQL that LaunchDB runs on: `security_invoker` views and `GRANT ... SET` on parameters need 15.
pub const OLDEST_MAJOR: u32 = 15;

/// The programs a server needs; a folder without one of them is a client-only installation.
const PROGRAMS: [&str; 2] = ["postgres", "initdb"];

/// Where Debian's and Ubuntu's packages put one folder per major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// Where to look. The caller reads the environment, this crate does not.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The `bin` folder that the operator named. Nothing else is looked at when it is set.
    pub bin_dir: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
}

/// The programs of one PostgreSQL installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
    major: u32,
    version: String,
}

/// Why no PostgreSQL can be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BinariesError {
    #[error(
        "no PostgreSQL server was found on this machine (looked at PATH, {DEBIAN_ROOT}/*/bin and pg_config). \
         Install version {OLDEST_MAJOR} or newer, on Debian and Ubuntu with: apt-get install postgresql"
    )]
    Missing,
    #[error(
        "the newest PostgreSQL found is {version} in {}, but LaunchDB needs {OLDEST_MAJOR} or newer. \
         Install it, on Debian and Ubuntu with: apt-get install postgresql (older releases: https://apt.postgresql.org)",
        dir.display()
    )]
    TooOld { version: String, dir: PathBuf },
    #[error(
        "the PostgreSQL folder {} that was asked for holds no runnable `postgres` and `initdb`. Name the folder with the \
         server's programs, for instance {DEBIAN_ROOT}/{OLDEST_MAJOR}/bin, or leave the setting out", dir.display()
    )]
    NotThere { dir: PathBuf },
    #[error(
        "this data folder was made by PostgreSQL {wanted}, which is not installed (found: {found}). Install PostgreSQL \
         {wanted} (apt-get install postgresql-{wanted}), or move the data over with pg_upgrade or a dump"
    )]
    MajorMissing { wanted: u32, found: String },
}

impl Binaries {
    /// The newest usable installation.
    pub fn find(search: &Search) -> Result<Self, BinariesError> {
        newest(Self::installed(search)?)
    }

    /// The installation of exactly `major`, for a data folder that already exists: PostgreSQL reads no other version's.
    pub fn find_major(search: &Search, major: u32) -> Result<Self, BinariesError> {
        let all = Self::installed(search)?;
        let found = match all.iter().map(|b| b.version.as_str()).collect::<Vec<_>>().join(", ") {
            list if list.is_empty() => "none".to_owned(),
            list => list,
        };
        all.into_iter().find(|b| b.major == major).ok_or(BinariesError::MajorMissing { wanted: major, found })
    }

    /// Every installation found, in the order of the search, each folder once.
    pub fn installed(search: &Search) -> Result<Vec<Self>, BinariesError> {
        if let Some(dir) = &search.bin_dir {
            return match Self::in_dir(dir) {
                Some(binaries) => Ok(vec![binaries]),
                None => Err(BinariesError::NotThere { dir: dir.clone() }),
            };
        }
        let path = search.path.as_deref().map(|p| std::env::split_paths(p).collect::<Vec<_>>()).unwrap_or_default();
        let debian = std::fs::read_dir(DEBIAN_ROOT).into_iter().flatten().flatten().map(|e| e.path().join("bin"));
        let mut found: Vec<Self> = Vec::new();
        for dir in path.iter().cloned().chain(debian).chain(pg_config_dir(&path)) {
            let dir = dir.canonicalize().unwrap_or(dir);
            if found.iter().all(|b| b.dir != dir)
                && let Some(binaries) = Self::in_dir(&dir)
            {
                found.push(binaries);
            }
        }
        Ok(found)
    }

    fn in_dir(dir: &Path) -> Option<Self> {
        if !dir.is_absolute() || PROGRAMS.iter().any(|program| !dir.join(program).is_file()) {
            return None;
        }
        let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let (major, version) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { dir: dir.to_owned(), major, version })
    }

    /// The full path of one program, such as `psql`. It may be missing for programs other than the server's own.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder of the programs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The version as PostgreSQL prints it, such as `15.8`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

fn newest(all: Vec<Binaries>) -> Result<Binaries, BinariesError> {
    match all.into_iter().rev().max_by_key(|b| b.major) {
        None => Err(BinariesError::Missing),
        Some(b) if b.major < OLDEST_MAJOR => Err(BinariesError::TooOld { version: b.version, dir: b.dir }),
        Some(b) => Ok(b),
    }
}

/// Reads `postgres (PostgreSQL) 15.8 (Debian ...)`; also `16beta1` and `18devel`.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.split_once("(PostgreSQL)")?.1.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, version.to_owned()))
}

fn pg_config_dir(path: &[PathBuf]) -> Option<PathBuf> {
    let program = path.iter().map(|dir| dir.join("pg_config")).find(|program| program.is_file())?;
    let output = Command::new(program).arg("--bindir").output().ok()?;
    let dir = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    dir.is_absolute().then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let check = |text: &str, expected: Option<(u32, &str)>| {
            assert_eq!(parse_version(text), expected.map(|(major, v)| (major, v.to_owned())), "{text:?}");
        };
        check("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n", Some((15, "15.8")));
        check("postgres (PostgreSQL) 18beta2", Some((18, "18beta2")));
        check("postgres (PostgreSQL) 9.6.24", Some((9, "9.6.24")));
        check("bash 5.2", None);
        check("", None);
    }

    #[test]
    fn the_newest_wins_and_an_old_one_is_named() {
        let of =
            |major: u32| Binaries { dir: format!("/opt/pg{major}/bin").into(), major, version: format!("{major}.1") };
        assert_eq!(newest(vec![of(15), of(17), of(16)]).unwrap().major(), 17);
        assert_eq!(newest(vec![]), Err(BinariesError::Missing));
        let error = newest(vec![of(13), of(14)]).unwrap_err().to_string();
        assert!(error.contains("14.1") && error.contains("/opt/pg14/bin") && error.contains("apt-get"), "{error}");
    }

    #[test]
    fn a_named_folder_without_a_server_is_an_error() {
        let dir = PathBuf::from("/nonexistent/bin");
        let search = Search { bin_dir: Some(dir.clone()), path: None };
        assert_eq!(Binaries::find(&search), Err(BinariesError::NotThere { dir }));
    }
}
