//! Whether an address is one of this machine's. What the firewall keeps from the internet, a connection from the machine to
//! itself usually reaches, whatever address it names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// Asks whether an address is the machine's own; tests hand in a table.
pub type OwnAddress = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Asks the operating system: what is sent to an address of one's own leaves from that very address. Nothing is sent.
pub fn system_own_address() -> OwnAddress {
    Arc::new(is_own)
}

fn is_own(address: IpAddr) -> bool {
    // A mapped address would be connected to as the IPv4 address that it is.
    let address = address.to_canonical();
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let from = || -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        // The port is of no interest: "connecting" only looks the route up.
        socket.connect(SocketAddr::new(address, 9))?;
        socket.local_addr()
    };
    // Without a route nothing could be connected to either.
    from().is_ok_and(|from| from.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_its_own_addresses() {
        let own = system_own_address();
        assert!(own("127.0.0.1".parse().unwrap()) && own("::ffff:127.0.0.1".parse().unwrap()));
        for other in ["192.0.1.1", "2001:4860::8888"] {
            assert!(!own(other.parse().unwrap()), "{other}");
        }
        // The one that connections to elsewhere leave from, where there is a network.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.1.1:9").is_ok() {
            assert!(own(socket.local_addr().unwrap().ip()));
        }
    }
}
