//! Backups: where, how long, and when.

use std::path::{Path, PathBuf};

use platform::backup::{Cron, Schedule};

use super::files::StoreConfig;
use super::reader::Reader;
use super::{Invocation, Service};

/// Where backups are kept when there is no data folder: the specification's volume.
const SYSTEM_FOLDER: &str = "/backups";
/// Every night, and on Sundays after it.
const EVERY_NIGHT: &str = "0 2 * * *";
const EVERY_SUNDAY: &str = "0 4 * * 0";

/// What the server makes of backups by itself, and what the commands need.
#[derive(Clone, Debug)]
pub struct BackupSettings {
    /// As it was given; see [`BackupSettings::folder`].
    folder: Option<PathBuf>,
    /// Backups older than this are removed.
    pub retention_days: u32,
    /// What this process does by the clock.
    pub schedule: Schedule,
    /// Whether a schedule was asked for by name: then it needs a key.
    pub is_asked_for: bool,
    /// Where everything in the folder is copied to.
    pub off_site: Option<StoreConfig>,
}

impl BackupSettings {
    pub(crate) fn read(reader: &mut Reader<'_>, invocation: &Invocation) -> Self {
        // One process of a server does it, and a server for trying things out does not.
        let by_itself = invocation.serve && Service::keeps_projects(invocation.only);
        let is_asked_for = reader.text("LAUNCHDB_BACKUP_SCHEDULE").is_some_and(|text| text != "off");
        let mut cron = |name, default: &str, on: bool| match reader.text(name).as_deref() {
            Some("off") => None,
            Some(_) => reader.parsed_opt(name, "five fields of crontab such as \"0 2 * * *\", or off", |_: &Cron| true),
            None => on.then(|| default.parse().ok()).flatten(),
        };
        let run = cron("LAUNCHDB_BACKUP_SCHEDULE", EVERY_NIGHT, by_itself);
        let verify = cron("LAUNCHDB_BACKUP_VERIFY_SCHEDULE", EVERY_SUNDAY, run.is_some());
        Self {
            folder: reader.text("LAUNCHDB_BACKUP_DIR").map(PathBuf::from),
            retention_days: reader
                .parsed("BACKUP_RETENTION_DAYS", 7, "a number of days from 1 to 3650", |n| (1..=3650).contains(n)),
            schedule: Schedule { run, verify },
            is_asked_for,
            off_site: StoreConfig::read_for_backups(reader),
        }
    }

    /// The folder: as given, or in the data folder.
    pub fn folder(&self, data: Option<&Path>) -> PathBuf {
        match (&self.folder, data) {
            (Some(folder), _) => folder.clone(),
            (None, Some(data)) => data.join("backups"),
            (None, None) => PathBuf::from(SYSTEM_FOLDER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Source};

    #[test]
    fn only_a_server_for_others_backs_up_by_itself() {
        let check = |serve: bool, pairs: &[(&str, &str)], run: Option<&str>, verify: Option<&str>| {
            let invocation = Invocation { serve, ..Invocation::default() };
            let settings = Config::load(&Source::from_pairs(pairs.iter().copied()), &invocation).unwrap().backup;
            let text = |cron: &Option<Cron>| cron.as_ref().map(ToString::to_string);
            let found = (text(&settings.schedule.run), text(&settings.schedule.verify));
            assert_eq!(found, (run.map(str::to_owned), verify.map(str::to_owned)), "{pairs:?}");
        };
        check(true, &[], Some(EVERY_NIGHT), Some(EVERY_SUNDAY));
        check(false, &[], None, None);
        check(true, &[("LAUNCHDB_BACKUP_SCHEDULE", "off")], None, None);
        check(false, &[("LAUNCHDB_BACKUP_SCHEDULE", "5 1 * * *")], Some("5 1 * * *"), Some(EVERY_SUNDAY));
        check(true, &[("LAUNCHDB_BACKUP_VERIFY_SCHEDULE", "off")], Some(EVERY_NIGHT), None);
        let bad = Source::from_pairs([("LAUNCHDB_BACKUP_SCHEDULE", "nightly"), ("BACKUP_RETENTION_DAYS", "0")]);
        assert_eq!(Config::load(&bad, &Invocation::default()).unwrap_err().0.len(), 2);
    }
}
