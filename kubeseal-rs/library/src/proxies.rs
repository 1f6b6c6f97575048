//! Determines the proxy for a server, with the environment variables and rules of Go's `net/http`, as kubectl does.

use std::net::IpAddr;

use http::Uri;

/// Returns the URL of the proxy for this server, or `None` for a direct connection.
///
/// `HTTPS_PROXY` applies to https and `HTTP_PROXY` to http, in upper or lower case; a proxy without scheme is
/// `http://`. Loopback addresses are always reached directly. `NO_PROXY` lists hosts (including their subdomains),
/// `.domains` and `*.domains` (subdomains only), addresses, each with an optional `:port`, and CIDR blocks; `*` matches
/// everything. Malformed entries match nothing.
pub fn proxy_for(server: &Uri, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let variable_in_any_case = |capital: &str| {
        let nonempty = |name: &str| variable(name).filter(|value| !value.is_empty());
        nonempty(capital).or_else(|| nonempty(&capital.to_lowercase()))
    };
    let target = Target::from_uri(server)?;
    let proxy = variable_in_any_case(if target.is_https {
        "HTTPS_PROXY"
    } else {
        "HTTP_PROXY"
    })?;
    let exempt = variable_in_any_case("NO_PROXY").unwrap_or_default();
    if target.is_loopback() || exempt.split(',').any(|entry| target.matches(entry.trim())) {
        return None;
    }
    Some(if proxy.contains("://") {
        proxy
    } else {
        format!("http://{proxy}")
    })
}

struct Target {
    host: String,
    address: Option<IpAddr>,
    port: u16,
    is_https: bool,
}

impl Target {
    fn from_uri(server: &Uri) -> Option<Self> {
        let host = server.host()?.trim_matches(['[', ']']).to_lowercase();
        let is_https = server.scheme_str() != Some("http");
        Some(Self {
            address: host.parse().ok(),
            host,
            port: server.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            is_https,
        })
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.address.is_some_and(|address| address.is_loopback())
    }

    fn matches(&self, entry: &str) -> bool {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            let network = network.parse().ok().zip(bits.parse().ok());
            return network
                .zip(self.address)
                .is_some_and(|((network, bits), address)| is_within(address, network, bits));
        }
        let (host, port) = host_and_port(entry);
        if host.is_empty() || port.is_some_and(|port| port != self.port) {
            return false;
        }
        if let (Some(address), Ok(entry)) = (self.address, host.parse::<IpAddr>()) {
            return address == entry;
        }
        self.is_host(host.to_lowercase().trim_start_matches('*'))
    }

    fn is_host(&self, entry: &str) -> bool {
        let name = entry.trim_start_matches('.');
        let is_below = self
            .host
            .strip_suffix(name)
            .is_some_and(|rest| rest.ends_with('.'));
        is_below || (name == entry && self.host == name)
    }
}

fn host_and_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    match entry.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host.trim_matches(['[', ']']), Some(port)),
            Err(_) => ("", None),
        },
        None => (entry, None),
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let bytes = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let (address, network): (Vec<u8>, Vec<u8>) = (bytes(address), bytes(network));
    let widths = (0..)
        .step_by(8)
        .map(|start: u32| bits.saturating_sub(start).min(8));
    let masks = widths.map(|width| 0xff_u8.checked_shl(8 - width).unwrap_or(0));
    address.len() == network.len()
        && address
            .iter()
            .zip(&network)
            .zip(masks)
            .all(|((a, b), mask)| a & mask == b & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(server: &str, variables: &[(&str, &str)]) -> Option<String> {
        proxy_for(&server.parse().unwrap(), |name| {
            let entry = variables.iter().find(|(set, _)| *set == name);
            entry.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn uses_the_variable_of_the_scheme() {
        let upper_case = [
            ("HTTPS_PROXY", "http://secure:1"),
            ("HTTP_PROXY", "http://plain:1"),
        ];
        assert_eq!(
            proxy("https://a.example", &upper_case).as_deref(),
            Some("http://secure:1")
        );
        assert_eq!(
            proxy("http://a.example", &upper_case).as_deref(),
            Some("http://plain:1")
        );
        let lower_case = [("https_proxy", "small:1"), ("HTTPS_PROXY", "")];
        assert_eq!(
            proxy("https://a.example", &lower_case).as_deref(),
            Some("http://small:1")
        );
        assert_eq!(proxy("https://a.example", &[]), None);
    }

    #[test]
    fn reaches_loopback_addresses_directly() {
        for server in [
            "https://localhost:6443",
            "https://127.0.0.1",
            "https://[::1]:6443",
        ] {
            assert_eq!(
                proxy(server, &[("HTTPS_PROXY", "http://p:1")]),
                None,
                "{server}"
            );
        }
    }

    #[test]
    fn no_proxy_matches_like_go() {
        for (server, exempt, is_exempt) in [
            ("https://k.example", "k.example", true),
            ("https://k.example", "other,  K.Example ,", true),
            ("https://a.k.example", "k.example", true),
            ("https://ak.example", "k.example", false),
            ("https://a.k.example", ".k.example", true),
            ("https://k.example", ".k.example", false),
            ("https://a.k.example", "*.k.example", true),
            ("https://k.example", "*", true),
            ("https://k.example:6443", "k.example:6443", true),
            ("https://k.example:6443", "k.example:443", false),
            ("https://k.example", "k.example:443", true),
            ("https://10.1.2.3", "10.0.0.0/8", true),
            ("https://10.1.2.3", "10.1.2.0/25", true),
            ("https://10.1.2.200", "10.1.2.0/25", false),
            ("https://11.1.2.3", "10.0.0.0/8", false),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://10.1.2.3", "10.1.2.3", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
            ("https://10.1.2.3", "10.1.2.0/x,:,/,a:b:c", false),
            ("https://k.example", "", false),
        ] {
            let variables = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", exempt)];
            assert_eq!(
                proxy(server, &variables).is_none(),
                is_exempt,
                "{server} {exempt}"
            );
        }
    }
}
