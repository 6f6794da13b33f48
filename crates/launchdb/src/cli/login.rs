//! `launchdb login` and `logout`: tokens for servers elsewhere, kept in the user's configuration folder (mode 0600).

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::Client;
use super::output::{cell, pairs, print};
use super::{LoginArgs, LogoutArgs, password};
use crate::config::Source;
use crate::exit::{self, Exit, ResultExt as _};
use crate::private_file;

/// What is kept: a login for each server.
#[derive(Default, Serialize, Deserialize)]
struct Logins {
    /// URL of the server that was logged in to last.
    last: Option<String>,
    servers: BTreeMap<String, Login>,
}

#[derive(Serialize, Deserialize)]
struct Login {
    email: String,
    token: String,
}

/// A server that this user is logged in to.
pub struct KnownServer {
    pub url: String,
    pub token: String,
}

fn path(source: &Source) -> Option<PathBuf> {
    let folder = match source.get("XDG_CONFIG_HOME").map(PathBuf::from) {
        Some(folder) if folder.is_absolute() => folder,
        _ => PathBuf::from(source.get("HOME")?).join(".config"),
    };
    Some(folder.join("launchdb").join("logins.json"))
}

fn read(source: &Source) -> Result<Logins, Exit> {
    let Some(path) = path(source) else { return Ok(Logins::default()) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Logins::default()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())).exit(exit::FAILURE),
    };
    // Somebody else's file would send our SQL and passwords to their server.
    if private_file::doubt(&path).exit(exit::FAILURE)?.is_some() {
        return Err(Exit::message(
            exit::NOT_ALLOWED,
            format!("{} is not this user's private file, so it is not believed: remove it and log in", path.display()),
        ));
    }
    serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged: remove it and log in again", path.display()))
        .exit(exit::FAILURE)
}

fn write(source: &Source, logins: &Logins) -> Result<PathBuf, Exit> {
    let path = path(source).context("HOME is not set, so there is no place to keep the login").exit(exit::FAILURE)?;
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make {}", folder.display()))
            .exit(exit::FAILURE)?;
    }
    let text = serde_json::to_vec_pretty(logins).exit(exit::FAILURE)?;
    private_file::write(&path, &text)
        .with_context(|| format!("cannot write {}", path.display()))
        .exit(exit::FAILURE)?;
    Ok(path)
}

/// The login at this server, or the last one.
pub fn known(source: &Source, url: Option<&str>) -> Result<Option<KnownServer>, Exit> {
    let mut logins = read(source)?;
    let url = url.map(normal).or_else(|| logins.last.take());
    Ok(url.and_then(|url| logins.servers.remove(&url).map(|login| KnownServer { url, token: login.token })))
}

/// One spelling for one server.
fn normal(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.as_str().trim_end_matches('/').to_owned())
}

/// Asks for the password, gets a token and keeps it.
pub fn log_in(source: &Source, args: &LoginArgs) -> Result<(), Exit> {
    let url = args.url.as_deref().or_else(|| source.get("LAUNCHDB_URL"));
    let Some(url) = url.map(normal) else {
        return Err(Exit::message(exit::USAGE, "name the server: launchdb login --url https://db.example.org EMAIL"));
    };
    let client = Client::new(&url, None)?;
    let password = password::ask(&format!("password of {} at {url}", args.email))?;
    let body = json!({ "email": args.email, "password": password });
    let answer = client.post("/api/owners/login", &body).map_err(|refused| {
        // The mend that others print for a missing token is no mend here.
        let text = refused.error.to_string();
        let text = text.split("\n  mend:").next().unwrap_or_default().to_owned();
        Exit::message(refused.code, text)
    })?;
    let token = answer.json["token"].as_str().context("the server answered no token").exit(exit::FAILURE)?;
    let mut logins = read(source)?;
    logins.last = Some(url.clone());
    logins.servers.insert(url.clone(), Login { email: args.email.clone(), token: token.to_owned() });
    let kept = write(source, &logins)?;
    if args.json {
        return print(&answer.text);
    }
    print(&pairs([
        ("logged in", format!("{} at {url}", args.email)),
        ("until", cell(&answer.json["expires_at"])),
        ("kept in", kept.display().to_string()),
    ]))
}

/// Ends the login at a server, there and here.
pub fn log_out(source: &Source, args: &LogoutArgs) -> Result<(), Exit> {
    let Some(server) = known(source, args.url.as_deref())? else {
        return Err(Exit::message(exit::NOT_FOUND, "there is no login to end"));
    };
    let mut logins = read(source)?;
    logins.servers.remove(&server.url);
    logins.last = logins.last.filter(|last| *last != server.url);
    write(source, &logins)?;
    let ended = Client::new(&server.url, Some(server.token))?.post("/api/owners/logout", &json!({}));
    match ended {
        // A token that ended before is as good.
        Err(refused) if refused.code != exit::NOT_ALLOWED => Err(refused),
        _ => print(&format!("logged out of {}", server.url)),
    }
}
