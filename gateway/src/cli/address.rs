//! Where to listen, as an operator writes it.

use std::net::{SocketAddr, ToSocketAddrs as _};

/// The port where none is named.
const PORT: u16 = 8080;

/// The address of `HOST:PORT`, where `HOST` is a number or a name. Of a name that has several, IPv4 comes first, so that it is
/// the same one wherever it is asked for.
pub fn resolved(text: &str) -> Result<SocketAddr, String> {
    let found = match text.parse::<SocketAddr>() {
        Ok(address) => return Ok(address),
        // `localhost`, `127.0.0.1` or `[::1]`, without a port.
        Err(_) if !text.contains(':') || text.ends_with(']') => format!("{text}:{PORT}").to_socket_addrs(),
        Err(_) => text.to_socket_addrs(),
    };
    let mut found: Vec<SocketAddr> = found.map_err(|error| format!("{error}; it takes HOST:PORT"))?.collect();
    found.sort_by_key(|address| !address.is_ipv4());
    found.first().copied().ok_or_else(|| "this name has no address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_number_or_a_name_and_has_a_port() {
        for (text, address) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("127.0.0.1", "127.0.0.1:8080"),
            ("[::1]:0", "[::1]:0"),
            ("[::1]", "[::1]:8080"),
            ("localhost:81", "127.0.0.1:81"),
            ("localhost", "127.0.0.1:8080"),
        ] {
            assert_eq!(resolved(text).map(|found| found.to_string()).as_deref(), Ok(address), "{text}");
        }
        for text in ["", ":", "localhost:port", "localhost:70000", "::1", "http://localhost:80"] {
            assert!(resolved(text).is_err(), "{text}");
        }
    }
}
