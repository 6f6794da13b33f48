//! `launchdb status` and `launchdb mail`.

use base::Clock;
use serde_json::Value;

use super::output::{cell, pairs, print};
use super::{MailArgs, ReachArgs, discovery};
use crate::config::Source;
use crate::exit::{self, Exit, ResultExt as _};

/// Asks the server for its health; ends with a failure when it is not healthy.
pub fn run(source: &Source, reach: &ReachArgs) -> Result<(), Exit> {
    let client = discovery::connect(source, reach)?;
    let (status, text) = client.send("GET", "/api/health", None)?;
    if reach.json {
        print(&text)?;
    } else {
        let json: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let mut rows = vec![("server", client.url().to_owned())];
        for (name, value) in json.as_object().into_iter().flatten() {
            match value.as_object() {
                Some(parts) => rows.extend(parts.iter().map(|(part, state)| (part.as_str(), cell(state)))),
                None => rows.push((name.as_str(), cell(value))),
            }
        }
        if reach.url.is_none()
            && let Some(backup) = last_backup(source, reach)
        {
            rows.push(("last backup", backup));
        }
        print(&pairs(rows))?;
    }
    match status {
        200..300 => Ok(()),
        503 => Err(Exit::message(exit::FAILURE, "the server runs but is not healthy: launchdb doctor may know why")),
        other => Err(Exit::message(exit::FAILURE, format!("the server answered {other} when asked for its health"))),
    }
}

/// The age of the oldest of the newest backups: what would be lost at most. None where no backup was ever made.
fn last_backup(source: &Source, reach: &ReachArgs) -> Option<String> {
    let newest = super::direct::backup_folder(source, reach.data.as_deref()).ok()?.newest().ok()?;
    let oldest = newest.iter().min_by_key(|file| file.name.taken_at)?;
    let hours = (Clock::system().unix_seconds() - oldest.name.taken_at) / 3600;
    let databases = newest.len();
    Some(format!("{hours} h ago at the latest ({databases} databases, the oldest is {})", oldest.name.database))
}

/// Lists the mails that were kept instead of being sent, or shows one.
pub fn mail(source: &Source, args: &MailArgs) -> Result<(), Exit> {
    let Some(data) = discovery::find_data_folder(source, args.data.as_deref())? else {
        return Err(Exit::message(exit::NOT_FOUND, "no data folder was found: name it with --data DIR"));
    };
    let folder = data.join("mail");
    let mut mails = Vec::new();
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.exit(exit::FAILURE)?.path();
                if path.extension().is_some_and(|extension| extension == "eml") {
                    mails.push(path);
                }
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Exit::new(exit::FAILURE, e)),
    }
    // Names begin with the time a mail was kept.
    mails.sort();
    let name = |path: &std::path::PathBuf| {
        path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    };
    match args.mail.as_deref() {
        None if mails.is_empty() => print(&format!("no mails in {}", folder.display())),
        None => print(&mails.iter().map(name).collect::<Vec<_>>().join("\n")),
        Some(wanted) => {
            let found = if wanted == "last" { mails.last() } else { mails.iter().find(|path| name(path) == wanted) };
            let Some(path) = found else {
                return Err(Exit::message(
                    exit::NOT_FOUND,
                    format!("there is no mail \"{wanted}\": `launchdb mail` lists those there are"),
                ));
            };
            print(&String::from_utf8_lossy(&std::fs::read(path).exit(exit::FAILURE)?))
        }
    }
}
