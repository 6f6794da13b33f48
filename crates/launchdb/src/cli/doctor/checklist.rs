//! What an operator has to look after besides the machine: backups, keys that are being replaced, the way in.

use std::path::Path;

use base::Clock;
use platform::backup::BackupFolder;
use procs::pgbackrest::PgBackRest;

use super::Findings;
use crate::config::Config;
use crate::config::secrets::{INTERNAL_KEY_PREVIOUS, MASTER_KEY_PREVIOUS};
use crate::secrets_file;

const DAY: i64 = 86_400;
/// A night may be missed without a word, not two; and one Sunday's verification.
const OLDEST: i64 = 2 * DAY;
const OLDEST_VERIFIED: i64 = 15 * DAY;

/// Warnings only: none of it keeps a server from serving.
pub(super) fn check(findings: &mut Findings, config: &Config, data: Option<&Path>) {
    check_backups(findings, &BackupFolder::new(config.backup.folder(data)));
    if data.is_some_and(PgBackRest::is_enabled) {
        findings.ok("recovery", "point-in-time recovery is enabled: launchdb backup pitr status");
    }
    check_rotations(findings, config, data);
    let listen = &config.listen;
    if !listen.public.ip().is_loopback() && listen.tls.is_none() && listen.public_url.starts_with("http://") {
        findings.warning(
            "tls",
            format!("keys and passwords cross the network in the clear: the public URL is {}", listen.public_url),
            "put Caddy in front (infra/caddy), or start with --tls, which gets certificates",
        );
    }
}

fn check_backups(findings: &mut Findings, folder: &BackupFolder) {
    const MEND: &str = "launchdb backup run --all, and LAUNCHDB_BACKUP_SCHEDULE=\"0 2 * * *\" for every night";
    let newest = match folder.newest() {
        Ok(newest) => newest,
        Err(error) => {
            let found = format!("{} cannot be read: {error}", folder.path().display());
            return findings.warning("backups", found, "run this as the server's user");
        }
    };
    let now = Clock::system().unix_seconds();
    let Some(oldest) = newest.iter().map(|file| file.name.taken_at).min() else {
        return findings.warning("backups", format!("there is none in {}", folder.path().display()), MEND);
    };
    let hours = (now - oldest) / 3600;
    if now - oldest > OLDEST {
        return findings.warning("backups", format!("one database's newest is {hours} hours old"), MEND);
    }
    let verified = newest.iter().map(|file| file.verified_at.unwrap_or_default()).min().unwrap_or_default();
    if now - verified > OLDEST_VERIFIED {
        let found = format!("of {} databases, and one was never restored for a test, or long ago", newest.len());
        return findings.warning("backups", found, "launchdb backup verify, or LAUNCHDB_BACKUP_VERIFY_SCHEDULE");
    }
    findings.ok("backups", format!("of {} databases, none older than {hours} hours, all verified", newest.len()));
}

fn check_rotations(findings: &mut Findings, config: &Config, data: Option<&Path>) {
    let stored = data.and_then(|data| secrets_file::read(&secrets_file::path(data)).ok()).unwrap_or_default();
    let is_there = |name: &str| config.secrets.get(name).is_some() || stored.contains_key(name);
    if is_there(MASTER_KEY_PREVIOUS) {
        findings.warning(
            "keys",
            "the master key is being replaced, and the one before it is still needed",
            "let the server run; launchdb rotate status says how far it is",
        );
    }
    if is_there(INTERNAL_KEY_PREVIOUS) {
        findings.warning(
            "keys",
            "the internal key of before is still accepted",
            "launchdb rotate internal-key --end-previous, once nobody uses it",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_unverified_backups_are_named() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = BackupFolder::new(scratch.path().to_owned());
        let now = Clock::system().unix_seconds();
        let check = |expected: &str| {
            let mut findings = Findings::default();
            check_backups(&mut findings, &folder);
            let [finding] = findings.0.as_slice() else { panic!("one finding") };
            assert!(finding.found.contains(expected), "{}", finding.found);
        };
        check("there is none");
        let write = |taken_at: i64, verified: bool| {
            let name = platform::backup::BackupName { database: "platform".to_owned(), taken_at };
            std::fs::write(scratch.path().join(name.to_string()), "").unwrap();
            if verified {
                std::fs::write(scratch.path().join(format!("{name}.verified")), now.to_string()).unwrap();
            }
        };
        write(now - 3 * DAY, true);
        check("72 hours old");
        write(now - 60, false);
        check("never restored");
        write(now - 30, true);
        check("all verified");
    }
}
