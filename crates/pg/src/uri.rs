//! Connection strings (PostgreSQL docs, "Connection Strings").

use std::sync::Arc;
use std::time::Duration;

use base::Secret;
use tokio_postgres::config::{Host, SslMode};

use crate::driver::ConnectConfig;
use crate::error::Error;

/// What libpq takes from the environment for whatever a connection string leaves out (PostgreSQL docs, "Environment
/// Variables").
#[derive(Clone, Debug, Default)]
pub struct LibpqDefaults {
    /// `PGHOSTADDR`, else `PGHOST`; without any, the socket folder of Debian's packages.
    pub host: Option<String>,
    /// `PGPORT`
    pub port: Option<u16>,
    /// `PGUSER`, else the name of the operating system's user.
    pub user: Option<String>,
    /// `PGPASSWORD`
    pub password: Option<Secret<String>>,
    /// `PGDATABASE`; without it, the user's name.
    pub database: Option<String>,
    /// `PGCONNECT_TIMEOUT`
    pub connect_timeout: Option<Duration>,
    /// `PGOPTIONS`, `PGTZ` and the like, as settings of the session.
    pub session_settings: Vec<(String, String)>,
    /// The text of the password file (`PGPASSFILE`, `~/.pgpass`).
    pub password_file: Option<Secret<String>>,
}

impl ConnectConfig {
    /// Reads a `postgresql://` URI or a key/value string.
    pub fn from_uri(uri: &str, defaults: &LibpqDefaults) -> Result<Self, Error> {
        let config: tokio_postgres::Config = uri.parse().map_err(|error| Error::Connect(Arc::new(error)))?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(Error::Protocol("TLS to PostgreSQL is not built yet: use sslmode=prefer or disable"));
        }
        let host = match (config.get_hostaddrs().first(), config.get_hosts().first()) {
            (Some(address), _) => address.to_string(),
            (None, Some(Host::Tcp(name))) => name.clone(),
            (None, Some(Host::Unix(folder))) => folder.to_string_lossy().into_owned(),
            (None, None) => defaults.host.clone().unwrap_or_else(|| "/var/run/postgresql".to_owned()),
        };
        // The parser gives a host of a URI the usual port where none is named.
        let named = config.get_ports().first().copied().filter(|_| names_port(uri));
        let port = named.or(defaults.port).unwrap_or(5432);
        let user = config.get_user().or(defaults.user.as_deref()).unwrap_or("postgres").to_owned();
        let database = config.get_dbname().or(defaults.database.as_deref()).unwrap_or(&user).to_owned();
        let password = config.get_password().map(|raw| Secret::new(String::from_utf8_lossy(raw).into_owned()));
        let of_file = || {
            let text = defaults.password_file.as_ref()?.expose();
            password_of_file(text, [&host, &port.to_string(), &database, &user]).map(Secret::new)
        };
        let password = password.or_else(|| defaults.password.clone()).or_else(of_file);
        let mut settings = defaults.session_settings.clone();
        // Of two values for one setting the server takes the last.
        settings.extend(config.get_options().map(|options| ("options".to_owned(), options.to_owned())));
        settings.extend(config.get_application_name().map(|name| ("application_name".to_owned(), name.to_owned())));
        let connect_timeout = config.get_connect_timeout().copied().or(defaults.connect_timeout);
        Ok(Self {
            host,
            port,
            database,
            user,
            password,
            session_settings: settings,
            connect_timeout: connect_timeout.unwrap_or(Duration::from_secs(10)),
        })
    }
}

/// Whether a connection string says which port is meant.
fn names_port(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("postgresql://").or_else(|| uri.strip_prefix("postgres://")) else {
        return true;
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let behind_address = hosts.rsplit_once(']').map_or(hosts, |(_, rest)| rest);
    behind_address.contains(':') || tail.contains("?port=") || tail.contains("&port=")
}

/// The password of the first line that fits (PostgreSQL docs, "The Password File"): four fields and the password,
/// parted by colons, `*` for any, a backslash before a colon or backslash that belongs to a field.
fn password_of_file(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = vec![String::new()];
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => fields.last_mut()?.extend(chars.next()),
                ':' if fields.len() < 5 => fields.push(String::new()),
                other => fields.last_mut()?.push(other),
            }
        }
        let [host, port, database, user, password] = fields.try_into().ok()?;
        // Sockets go by the name localhost there.
        let hosts = if wanted[0].starts_with('/') { [wanted[0], "localhost"] } else { [wanted[0]; 2] };
        let fits = (host == "*" || hosts.contains(&host.as_str()))
            && [port, database, user].iter().zip(&wanted[1..]).all(|(own, wanted)| own == "*" || own == wanted);
        fits.then_some(password)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_string_leaves_out_comes_from_the_defaults() {
        let defaults = LibpqDefaults {
            host: Some("/run/pg".into()),
            port: Some(6000),
            user: Some("me".into()),
            password: Some(Secret::new("secret".into())),
            database: Some("shop".into()),
            ..LibpqDefaults::default()
        };
        let check = |uri: &str, expected: (&str, u16, &str, &str, Option<&str>)| {
            let config = ConnectConfig::from_uri(uri, &defaults).unwrap();
            let password = config.password.as_ref().map(|password| password.expose().as_str());
            assert_eq!((&*config.host, config.port, &*config.user, &*config.database, password), expected, "{uri}");
        };
        check("postgresql://", ("/run/pg", 6000, "me", "shop", Some("secret")));
        check("postgresql://h/x", ("h", 6000, "me", "x", Some("secret")));
        check("postgres://u:p@h:1/x", ("h", 1, "u", "x", Some("p")));
        check("postgres://u:p@[::1]/x", ("::1", 6000, "u", "x", Some("p")));
        check("postgres:///x?host=h&port=7", ("h", 7, "me", "x", Some("secret")));
        check("host=/a/b user=u", ("/a/b", 6000, "u", "shop", Some("secret")));
        let none = ConnectConfig::from_uri("host=h user=u", &LibpqDefaults::default()).unwrap();
        assert_eq!((none.port, &*none.database), (5432, "u"));
    }

    #[test]
    fn the_password_file_is_searched() {
        let text = "# hosts\nh:5432:db:u:one\n*:*:*:u:t\\:wo\nlocalhost:*:*:v:three:3\n";
        let check = |host, user, expected: Option<&str>| {
            assert_eq!(password_of_file(text, [host, "5432", "db", user]).as_deref(), expected, "{host} {user}");
        };
        check("h", "u", Some("one"));
        check("other", "u", Some("t:wo"));
        check("/run/postgresql", "v", Some("three:3"));
        check("other", "v", None);
    }
}
