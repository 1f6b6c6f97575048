use std::fmt;
use std::str::FromStr;

/// An address to listen on, in Go's format: `host:port`, or `:port` for all interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address; `None` for all interfaces.
    pub host: Option<String>,
    /// Port; with 0, the system chooses a free port.
    pub port: u16,
}

/// The string is not a valid address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid address; use a form like :8080, 127.0.0.1:8080 or [::1]:8080, with a port from 0 to 65535"
)]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let port = port.parse().map_err(|_| AddressError)?;
        let bracketed = host
            .strip_prefix('[')
            .map(|address| address.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner.ok_or(AddressError)?,
            None if host.contains([':', '[', ']']) => return Err(AddressError),
            None => host,
        };
        let host = Some(host.to_owned()).filter(|host| !host.is_empty());
        Ok(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, ":{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses_in_gos_format() {
        for (text, want) in [
            (":8080", Some((None, 8080))),
            ("127.0.0.1:0", Some((Some("127.0.0.1"), 0))),
            ("localhost:80", Some((Some("localhost"), 80))),
            ("[::1]:443", Some((Some("::1"), 443))),
            ("[]:443", Some((None, 443))),
            ("", None),
            ("8080", None),
            ("host:", None),
            (":http", None),
            (":65536", None),
            ("::1:80", None),
            ("[::1:80", None),
        ] {
            let got = text.parse::<Address>().ok();
            let want = want.map(|(host, port)| Address {
                host: host.map(str::to_owned),
                port,
            });
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn displays_an_address_as_it_was_parsed() {
        for text in [":8080", "127.0.0.1:0", "[::1]:443"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }
}
