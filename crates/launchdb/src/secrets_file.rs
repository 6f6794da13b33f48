//! `secrets.env` in the data folder: the platform's secrets, made at the first start, mode 0600, never printed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base::Secret;

use crate::config::secrets::{PREVIOUS_KINDS, PlatformSecrets, SECRET_KINDS, SecretKind};
use crate::config::source::parse_env_file;
use crate::config::{GivenSecrets, InvalidConfig, Problem};
use crate::exit::{Exit, ResultExt as _};
use crate::private_file::{self, Doubt};

/// The file's place in a data folder.
pub fn path(data: &Path) -> PathBuf {
    data.join("secrets.env")
}

/// Puts the given secrets and those of the file together, and makes what is missing.
///
/// Given ones win, but those that the folder is bound to (the master key that seals everything in it, the password of
/// its superuser) must not differ from the file's. `first_start` says that nothing is bound yet, so that they may be made.
pub fn complete(data: &Path, given: &GivenSecrets, first_start: bool) -> Result<PlatformSecrets, Exit> {
    let path = path(data);
    let stored = read(&path)?;
    let mut problems = Vec::new();
    let mut values = BTreeMap::new();
    let mut to_store = stored.clone();
    for kind in SECRET_KINDS {
        let value = match (given.get(kind.name), stored.get(kind.name)) {
            (Some(given), Some(stored)) if given != stored && kind.is_bound => {
                problems.push(Problem::new(
                    kind.name,
                    &format!("is not the value in {}, to which this data folder is bound", path.display()),
                    "unset it, so that the file's value is used",
                ));
                continue;
            }
            (Some(given), _) => given.clone(),
            (None, Some(stored)) => stored.clone(),
            (None, None) if given.must_exist() => continue,
            (None, None) if kind.is_bound && !first_start => {
                problems.push(Problem::new(
                    kind.name,
                    &format!("is neither given nor in {}, and this data folder is bound to it", path.display()),
                    "put back the file, or set the value that was given at the first start",
                ));
                continue;
            }
            (None, None) => {
                let fresh = kind.generate();
                to_store.insert(kind.name, fresh.clone());
                fresh
            }
        };
        values.insert(kind.name, value);
    }
    for kind in PREVIOUS_KINDS {
        if let Some(value) = given.get(kind.name).or(stored.get(kind.name)) {
            values.insert(kind.name, value.clone());
        }
    }
    if !problems.is_empty() {
        return Err(InvalidConfig(problems)).exit(crate::exit::CONFIG);
    }
    if to_store.len() > stored.len() {
        private_file::write(&path, render(&to_store).as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
            .exit(crate::exit::FAILURE)?;
    }
    PlatformSecrets::new(values).exit(crate::exit::CONFIG)
}

fn all_kinds() -> impl Iterator<Item = &'static SecretKind> {
    SECRET_KINDS.iter().chain(PREVIOUS_KINDS)
}

/// Changes the file as a whole, durably.
pub fn change(
    data: &Path,
    edit: impl FnOnce(&mut BTreeMap<&'static str, Secret<String>>),
) -> Result<(), std::io::Error> {
    let path = path(data);
    let mut values = read(&path).map_err(|exit| std::io::Error::other(exit.text()))?;
    edit(&mut values);
    private_file::write(&path, render(&values).as_bytes())
}

/// The secrets in the file; none when there is no file.
pub fn read(path: &Path) -> Result<BTreeMap<&'static str, Secret<String>>, Exit> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => {
            return Err(e).with_context(|| format!("cannot read {}", path.display())).exit(crate::exit::FAILURE);
        }
    };
    let name = path.display().to_string();
    let mut problems = Vec::new();
    match private_file::doubt(path) {
        Ok(None) => {}
        Ok(Some(Doubt::Mode(mode))) => problems.push(Problem::new(
            &name,
            &format!("can be read by others (mode {mode:o})"),
            &format!("chmod 600 {name}"),
        )),
        Ok(Some(Doubt::Owner(owner))) => problems.push(Problem::new(
            &name,
            &format!("belongs to another user (id {owner})"),
            "start LaunchDB as the user it was first started as",
        )),
        Err(e) => problems.push(Problem::new(&name, &format!("cannot be examined: {e}"), "mend its rights")),
    }
    let mut values = BTreeMap::new();
    match parse_env_file(&text) {
        Err(e) => problems.push(Problem::new(&name, &format!("is damaged: {e}"), "put back a copy of it")),
        Ok(pairs) => {
            for (key, value) in pairs {
                let Some(kind) = all_kinds().find(|kind| kind.name == key) else { continue };
                if let Some(weakness) = kind.weakness(&value) {
                    let place = format!("{key} in {name}");
                    problems.push(Problem::new(&place, &weakness, "put back a copy of the file as it was made"));
                }
                values.insert(kind.name, Secret::new(value));
            }
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(InvalidConfig(problems)).exit(crate::exit::CONFIG) }
}

fn render(values: &BTreeMap<&'static str, Secret<String>>) -> String {
    let mut text = String::from(
        "# Secrets of this LaunchDB, made at its first start. Without LAUNCHDB_MASTER_KEY no project's keys and\n\
         # passwords can be read again: keep a copy of this file in a safe place, apart from the backups.\n",
    );
    for kind in all_kinds() {
        if let Some(value) = values.get(kind.name) {
            text.push_str(&format!("{}={}\n", kind.name, value.expose()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{Config, Invocation, Source};

    fn given(pairs: &[(&str, &str)]) -> GivenSecrets {
        Config::load(&Source::from_pairs(pairs.iter().copied()), &Invocation::default()).unwrap().secrets
    }

    #[test]
    fn secrets_are_made_once_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let first = complete(data.path(), &given(&[]), true).unwrap();
        let again = complete(data.path(), &given(&[]), false).unwrap();
        assert_eq!(first.values, again.values);
        assert_eq!(first.values.len(), SECRET_KINDS.len());
        let mode = std::fs::metadata(path(data.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        first.master_key().unwrap();
    }

    #[test]
    fn a_given_secret_wins_and_is_not_written_down() {
        let data = tempfile::tempdir().unwrap();
        let own = base::random::hex::<32>();
        let secrets = complete(data.path(), &given(&[("INTERNAL_API_KEY", &own)]), true).unwrap();
        assert_eq!(secrets.get("INTERNAL_API_KEY").unwrap().expose(), &own);
        assert!(!std::fs::read_to_string(path(data.path())).unwrap().contains(&own));
    }

    #[test]
    fn a_lost_or_different_master_key_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let error = complete(data.path(), &given(&[]), false).unwrap_err();
        assert_eq!(error.code, crate::exit::CONFIG);
        assert!(!path(data.path()).exists(), "nothing was touched");
        complete(data.path(), &given(&[]), true).unwrap();
        let other = SECRET_KINDS[0].generate();
        let error = complete(data.path(), &given(&[("LAUNCHDB_MASTER_KEY", other.expose())]), false).unwrap_err();
        assert!(format!("{:#}", error.error).contains("bound"), "{:#}", error.error);
    }

    #[test]
    fn a_readable_or_damaged_file_is_refused() {
        let data = tempfile::tempdir().unwrap();
        complete(data.path(), &given(&[]), true).unwrap();
        let file = path(data.path());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = complete(data.path(), &given(&[]), false).unwrap_err();
        assert!(format!("{:#}", error.error).contains("chmod 600"), "{:#}", error.error);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&file, "LAUNCHDB_MASTER_KEY=short\n").unwrap();
        assert!(complete(data.path(), &given(&[]), false).is_err());
    }

    #[test]
    fn with_a_given_database_nothing_is_invented() {
        let data = tempfile::tempdir().unwrap();
        let (key, secret) = (SECRET_KINDS[0].generate(), SECRET_KINDS[1].generate());
        let given = given(&[
            ("DATABASE_URL", "postgres://a:k2Jd93kfQlz0@h/platform"),
            ("DOMAIN", "db.acme.org"),
            ("LAUNCHDB_MASTER_KEY", key.expose()),
            ("PLATFORM_JWT_SECRET", secret.expose()),
        ]);
        let secrets = complete(data.path(), &given, true).unwrap();
        assert_eq!(secrets.values.len(), 2);
        assert!(!path(data.path()).exists());
    }
}
