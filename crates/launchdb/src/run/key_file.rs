//! Where a server's keys are written down when they are replaced: `secrets.env` of its data folder.

use std::path::PathBuf;

use base::Secret;
use platform::rotation::{InstallationKey, KeyFile, KeyFileError};

use crate::config::Config;
use crate::config::secrets::{INTERNAL_KEY_PREVIOUS, MASTER_KEY_PREVIOUS, SECRET_KINDS};
use crate::secrets_file;

/// The secrets file of a data folder, and which keys were given from elsewhere.
pub(super) struct SecretsKeyFile {
    /// None for a server without a data folder.
    data: Option<PathBuf>,
    given: Vec<&'static str>,
}

impl SecretsKeyFile {
    pub(super) fn new(config: &Config, data: Option<&std::path::Path>) -> Self {
        let given = config.secrets.iter().map(|(name, _)| name).collect();
        Self { data: data.map(ToOwned::to_owned), given }
    }
}

fn previous(key: InstallationKey) -> &'static str {
    match key {
        InstallationKey::Master => MASTER_KEY_PREVIOUS,
        InstallationKey::Internal => INTERNAL_KEY_PREVIOUS,
    }
}

/// The variable as the secrets file's maps know it.
fn name(key: InstallationKey) -> &'static str {
    SECRET_KINDS.iter().map(|kind| kind.name).find(|name| *name == key.variable()).unwrap_or_default()
}

impl KeyFile for SecretsKeyFile {
    fn begin(&self, key: InstallationKey, fresh: &Secret<String>) -> Result<(), KeyFileError> {
        let (name, previous) = (name(key), previous(key));
        let data = match &self.data {
            Some(data) if !self.given.contains(&name) && !self.given.contains(&previous) => data,
            _ => {
                return Err(KeyFileError::NotOurs(format!(
                    "{name} was given to the server: set {name} to a new one and {previous} to the present one where it was \
                     given (.env), and start the server again; it goes on by itself"
                )));
            }
        };
        let changed = secrets_file::change(data, |values| {
            if let Some(present) = values.insert(name, fresh.clone()) {
                values.insert(previous, present);
            }
        });
        changed.map_err(KeyFileError::Io)
    }

    fn end(&self, key: InstallationKey) -> Result<(), KeyFileError> {
        let previous = previous(key);
        match &self.data {
            Some(data) if !self.given.contains(&previous) => secrets_file::change(data, |values| {
                values.remove(previous);
            })
            .map_err(KeyFileError::Io),
            _ => Err(KeyFileError::NotOurs(format!(
                "{previous} is needed no more: take it away where it was given (.env)"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Invocation, Source};

    fn file(data: &std::path::Path, given: &[(&str, &str)]) -> SecretsKeyFile {
        let config = Config::load(&Source::from_pairs(given.iter().copied()), &Invocation::default()).unwrap();
        let first_start = !secrets_file::path(data).exists();
        secrets_file::complete(data, &config.secrets, first_start).unwrap();
        SecretsKeyFile::new(&config, Some(data))
    }

    #[test]
    fn both_keys_are_written_down_until_the_end() {
        let data = tempfile::tempdir().unwrap();
        let keys = file(data.path(), &[]);
        let read = || secrets_file::read(&secrets_file::path(data.path())).unwrap();
        let before = read();
        let fresh = SECRET_KINDS[0].generate();
        keys.begin(InstallationKey::Master, &fresh).unwrap();
        let during = read();
        assert_eq!(during["LAUNCHDB_MASTER_KEY"], fresh);
        assert_eq!(during[MASTER_KEY_PREVIOUS], before["LAUNCHDB_MASTER_KEY"]);
        assert_eq!(during.len(), before.len() + 1);
        // A start in the middle has both.
        file(data.path(), &[]);
        let config = Config::load(&Source::from_pairs([]), &Invocation::default()).unwrap();
        let secrets = secrets_file::complete(data.path(), &config.secrets, false).unwrap();
        assert!(secrets.master_key().unwrap().is_rotating());
        keys.end(InstallationKey::Master).unwrap();
        assert!(!read().contains_key(MASTER_KEY_PREVIOUS));
        assert_eq!(read()["LAUNCHDB_MASTER_KEY"], fresh);
    }

    #[test]
    fn a_key_that_was_given_is_the_operators() {
        let data = tempfile::tempdir().unwrap();
        let given = base::random::hex::<32>();
        let keys = file(data.path(), &[("INTERNAL_API_KEY", &given)]);
        let refused = keys.begin(InstallationKey::Internal, &Secret::new(base::random::hex::<32>()));
        assert!(refused.unwrap_err().to_string().contains("INTERNAL_API_KEY_PREVIOUS"));
    }
}
