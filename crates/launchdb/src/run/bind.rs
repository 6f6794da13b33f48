//! The listeners of a server: bound before anything else is touched, so that a used port costs nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::config::ListenConfig;
use crate::exit::{self, Exit};

/// Bound, and not yet answering.
pub struct Listeners {
    pub public: TcpListener,
    /// Plain HTTP on loopback for commands on this machine, where the public port is TLS.
    pub local: Option<TcpListener>,
    /// Plain HTTP that is sent on to the public port, where that is TLS.
    pub redirect: Option<TcpListener>,
    /// The status page on the port of the specification's dashboard.
    pub status: Option<TcpListener>,
    /// Metrics, on loopback only.
    pub admin: TcpListener,
    /// Things to tell the person who started the server.
    pub notes: Vec<String>,
}

/// Binds everything.
pub fn bind(config: &ListenConfig) -> Result<Listeners, Exit> {
    let mut notes = Vec::new();
    let public = TcpListener::bind(config.public).map_err(|e| refused("--port N", config.public, &e))?;
    let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let admin_address = loopback(config.admin_port);
    let admin = match TcpListener::bind(admin_address) {
        Ok(listener) => listener,
        Err(e) if config.admin_port_required => return Err(refused("LAUNCHDB_ADMIN_PORT", admin_address, &e)),
        Err(_) => {
            let listener =
                TcpListener::bind(loopback(0)).map_err(|e| refused("LAUNCHDB_ADMIN_PORT", loopback(0), &e))?;
            if let Ok(address) = listener.local_addr() {
                notes.push(format!("port {} is in use, so metrics are on {address}", config.admin_port));
            }
            listener
        }
    };
    let status = match config.status_port.filter(|port| *port != config.public.port() || *port == 0) {
        None => None,
        Some(port) => {
            let address = SocketAddr::new(config.public.ip(), port);
            let bound = optional("LAUNCHDB_STATUS_PORT", address, config.status_port_required)?;
            if bound.is_none() {
                notes.push(format!("port {port} is in use, so the status page is on the public port only"));
            }
            bound
        }
    };
    let redirect = match config.redirect_port {
        None => None,
        Some((port, required)) => {
            let bound = optional("LAUNCHDB_REDIRECT_PORT", SocketAddr::new(config.public.ip(), port), required)?;
            if bound.is_none() {
                notes.push(format!("http:// is not sent on to https://, because port {port} cannot be had"));
            }
            bound
        }
    };
    let local = match config.tls {
        Some(_) => Some(TcpListener::bind(loopback(0)).map_err(|e| refused("--port N", loopback(0), &e))?),
        None => None,
    };
    Ok(Listeners { public, local, redirect, status, admin, notes })
}

/// None when it cannot be had and was not asked for by name.
fn optional(setting: &str, address: SocketAddr, required: bool) -> Result<Option<TcpListener>, Exit> {
    match TcpListener::bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(e) if required => Err(refused(setting, address, &e)),
        Err(_) => Ok(None),
    }
}

fn refused(setting: &str, address: SocketAddr, error: &io::Error) -> Exit {
    let (code, text) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            exit::PORT_USED,
            format!(
                "port {} on {} is in use by another program (see it with: ss -ltnp 'sport = :{}'): stop that one, or choose \
                 another port with {setting}",
                address.port(),
                address.ip(),
                address.port()
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            exit::FAILURE,
            format!("this user may not listen on port {}: choose one above 1023 with {setting}", address.port()),
        ),
        io::ErrorKind::AddrNotAvailable => (
            exit::CONFIG,
            format!("{} is no address of this machine: set --bind or LAUNCHDB_BIND to one that is", address.ip()),
        ),
        _ => (exit::FAILURE, format!("cannot listen on {address}: {error}")),
    };
    Exit::message(code, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Invocation, Source};

    fn listen(pairs: &[(&str, &str)]) -> ListenConfig {
        Config::load(&Source::from_pairs(pairs.iter().copied()), &Invocation::default()).unwrap().listen
    }

    #[test]
    fn a_used_public_port_is_refused_and_optional_ones_move() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let error = bind(&listen(&[("LAUNCHDB_PORT", &port)])).err().unwrap();
        assert_eq!(error.code, exit::PORT_USED);
        assert!(error.error.to_string().contains(&port), "{}", error.error);

        let required =
            bind(&listen(&[("LAUNCHDB_PORT", "0"), ("LAUNCHDB_STATUS_PORT", &port), ("LAUNCHDB_ADMIN_PORT", "0")]));
        assert_eq!(required.err().unwrap().code, exit::PORT_USED);

        let mut config = listen(&[("LAUNCHDB_PORT", "0")]);
        config.status_port = Some(taken.local_addr().unwrap().port());
        config.admin_port = taken.local_addr().unwrap().port();
        let bound = bind(&config).unwrap();
        assert!(bound.status.is_none() && bound.notes.len() == 2, "{:?}", bound.notes);
    }
}
