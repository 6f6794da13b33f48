//! Where PostgreSQL listens: a unix socket with a path that fits, and a loopback port that stays the same.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::ClusterError;
use crate::private_file;
use crate::unprivileged::RunAs;

/// The longest path of a unix socket: `sun_path` has 108 bytes, one ends it.
const LONGEST_PATH: usize = 107;
/// As long as a socket's name gets.
const LONGEST_NAME: &str = "/.s.PGSQL.65535";
/// Ports are picked from here: below the range that Linux gives to outgoing connections (32768 up), so that the port is
/// still free at the next start, and above the well-known ones.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The folder for the socket: inside the cluster's own folder, or a short one when that path is too long.
pub(super) fn make_socket_dir(dir: &Path, id: &str, run_as: &RunAs) -> Result<PathBuf, ClusterError> {
    let own = dir.join("socket");
    if fits(&own) {
        run_as.make_dir(&own)?;
        return Ok(own);
    }
    let us = rustix::process::geteuid().as_raw();
    let roots = [if us == 0 { PathBuf::from("/run") } else { format!("/run/user/{us}").into() }, "/tmp".into()];
    let mut last = None;
    for root in roots {
        let short = root.join(format!("{id}-{us}"));
        match run_as.make_dir(&short).map_err(ClusterError::from).and_then(|()| check_ours(&short, run_as)) {
            Ok(()) => return Ok(short),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| ClusterError::io(&own, io::Error::other("its path is too long for a unix socket"))))
}

fn fits(dir: &Path) -> bool {
    dir.as_os_str().as_bytes().len() + LONGEST_NAME.len() <= LONGEST_PATH
}

/// In a folder that everyone may write, somebody else could have made it before us to catch passwords.
fn check_ours(dir: &Path, run_as: &RunAs) -> Result<(), ClusterError> {
    let meta = fs::symlink_metadata(dir).map_err(|e| ClusterError::io(dir, e))?;
    if meta.is_dir() && meta.uid() == run_as.uid && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    let text = "it is not PostgreSQL's own private folder; remove it, or use a data folder with a shorter path";
    Err(ClusterError::io(dir, io::Error::new(io::ErrorKind::PermissionDenied, text)))
}

/// The port for the next start: the one asked for, else the one of the last start if it is free, else a fresh one, which
/// is written down.
pub(super) fn choose_port(dir: &Path, wanted: Option<u16>) -> Result<u16, ClusterError> {
    if let Some(port) = wanted {
        return if is_free(port) { Ok(port) } else { Err(ClusterError::PortTaken { port }) };
    }
    let file = dir.join("port");
    if let Some(port) = kept_port(dir).filter(|port| is_free(*port)) {
        return Ok(port);
    }
    let port = (0..100)
        .map(|_| PORTS.start + u16::from_le_bytes(base::random::bytes::<2>()) % (PORTS.end - PORTS.start))
        .find(|port| is_free(*port))
        .ok_or(ClusterError::NoPort)?;
    private_file::write(&file, &format!("{port}\n"), None).map_err(|e| ClusterError::io(&file, e))?;
    Ok(port)
}

/// The port of the last start.
pub(super) fn kept_port(dir: &Path) -> Option<u16> {
    fs::read_to_string(dir.join("port")).ok()?.trim().parse().ok()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_gets_a_short_socket_folder() {
        let scratch = tempfile::tempdir_in("/tmp").unwrap();
        let run_as = RunAs::for_this_process().unwrap();
        let id = format!("launchdb-{}", base::random::hex::<4>());
        assert_eq!(make_socket_dir(scratch.path(), &id, &run_as).unwrap(), scratch.path().join("socket"));
        let long = scratch.path().join("x".repeat(90));
        fs::create_dir(&long).unwrap();
        let short = make_socket_dir(&long, &id, &run_as).unwrap();
        assert!(fits(&short) && short.is_dir(), "{}", short.display());
        assert_eq!(make_socket_dir(&long, &id, &run_as).unwrap(), short, "the same again");
        fs::remove_dir(short).unwrap();
    }

    #[test]
    fn the_port_stays_until_somebody_takes_it() {
        let scratch = tempfile::tempdir().unwrap();
        let port = choose_port(scratch.path(), None).unwrap();
        assert!(PORTS.contains(&port));
        assert_eq!(choose_port(scratch.path(), None).unwrap(), port);
        let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let other = choose_port(scratch.path(), None).unwrap();
        assert_ne!(other, port);
        assert!(matches!(choose_port(scratch.path(), Some(port)), Err(ClusterError::PortTaken { .. })));
        drop(taken);
        assert_eq!(kept_port(scratch.path()), Some(other));
    }
}
