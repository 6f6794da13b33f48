//! Mails that are kept in a folder instead of being sent: what `launchdb dev` does without a mail server, and `launchdb mail`
//! shows.

use std::io;
use std::path::{Path, PathBuf};

use base::calendar;

/// Most mails that are kept; the oldest go first.
const MOST: usize = 500;

/// Keeps `bytes` as `<time>-<id>.eml`; names sort by time.
pub(crate) async fn keep(folder: &Path, id: &str, unix_seconds: i64, bytes: &[u8]) -> io::Result<PathBuf> {
    tokio::fs::create_dir_all(folder).await?;
    let (year, month, day) = calendar::civil_date(unix_seconds.div_euclid(86_400));
    let of_day = unix_seconds.rem_euclid(86_400);
    let time = format!("{:02}{:02}{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    let name = format!("{year:04}{month:02}{day:02}-{time}-{id}.eml");
    let (path, part) = (folder.join(&name), folder.join(format!(".{name}.part")));
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&part).await?;
    tokio::io::AsyncWriteExt::write_all(&mut file, bytes).await?;
    tokio::io::AsyncWriteExt::flush(&mut file).await?;
    drop(file);
    // A reader never sees half a mail.
    tokio::fs::rename(&part, &path).await?;
    forget_oldest(folder).await?;
    Ok(path)
}

async fn forget_oldest(folder: &Path) -> io::Result<()> {
    let mut entries = tokio::fs::read_dir(folder).await?;
    let mut mails = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "eml") {
            mails.push(path);
        }
    }
    mails.sort();
    let surplus = mails.len().saturating_sub(MOST);
    for path in &mails[..surplus] {
        tokio::fs::remove_file(path).await?;
    }
    Ok(())
}
