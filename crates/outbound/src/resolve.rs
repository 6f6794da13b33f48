//! Names to addresses, and which of them a target may have.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::own::{OwnAddress, system_own_address};
use crate::{ConfiguredBy, Error, address};

/// The port of the web over TLS.
pub(crate) const HTTPS: u16 = 443;

/// Asks DNS for a name's addresses; tests hand in a table.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The operating system's resolver.
pub fn system_lookup() -> Lookup {
    Arc::new(|host| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// What the operator lets projects reach.
#[derive(Clone)]
pub struct Rules {
    /// Whether targets of projects may be plain http, and at private, loopback and other addresses that are not public.
    pub private_targets_allowed: bool,
    /// Certificates of authorities that are trusted beside the public ones, in DER.
    pub extra_roots: Vec<Vec<u8>>,
    pub lookup: Lookup,
    pub own_address: OwnAddress,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            private_targets_allowed: false,
            extra_roots: Vec::new(),
            lookup: system_lookup(),
            own_address: system_own_address(),
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("private_targets_allowed", &self.private_targets_allowed).finish_non_exhaustive()
    }
}

impl Rules {
    /// Whether a target may be anywhere and without TLS.
    pub fn exempts(&self, by: ConfiguredBy) -> bool {
        by == ConfiguredBy::Operator || self.private_targets_allowed
    }

    /// Whether a target may be at this address and port: one of the public internet, and of the machine's own only the port that
    /// serves everybody anyway (an application on the same machine may well be somebody's hook).
    pub(crate) fn allows(&self, by: ConfiguredBy, ip: IpAddr, port: u16) -> bool {
        self.exempts(by) || address::is_public(ip) && (port == HTTPS || !(self.own_address)(ip))
    }

    /// The addresses of `host` (a name, or an address in whatever notation the resolver understands) at which a target may
    /// be reached. Connect to these and to nothing else: a second look at DNS may answer differently.
    ///
    /// # Errors
    /// [`Error::Unknown`] without any address, [`Error::PrivateAddress`] when none of them is allowed.
    pub async fn addresses(&self, by: ConfiguredBy, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).parse::<IpAddr>();
        let found = match literal {
            Ok(address) => vec![address],
            Err(_) if !may_be_a_name(host) => return Err(Error::Unknown { host: host.to_owned(), source: None }),
            Err(_) => {
                let looked_up = (self.lookup)(host.to_owned()).await;
                looked_up.map_err(|source| Error::Unknown { host: host.to_owned(), source: Some(source) })?
            }
        };
        if found.is_empty() {
            return Err(Error::Unknown { host: host.to_owned(), source: None });
        }
        let allowed: Vec<SocketAddr> =
            found.into_iter().filter(|ip| self.allows(by, *ip, port)).map(|ip| SocketAddr::new(ip, port)).collect();
        if allowed.is_empty() { Err(Error::PrivateAddress(host.to_owned())) } else { Ok(allowed) }
    }
}

fn may_be_a_name(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}
