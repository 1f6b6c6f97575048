//! HTTP requests to servers other than the API server: the URLs of certificates and recipients, and the controller's
//! TLS port.

use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Proxy};

use crate::proxies::proxy_for;

/// The time limit for a whole request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit for connecting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a client for the server of this URL that trusts these root certificates. Proxies come
/// from the environment.
pub fn agent(uri: &str, roots: RootCerts) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(roots)
        .build();
    Agent::new_with_config(
        Agent::config_builder()
            .tls_config(tls)
            .proxy(proxy(uri))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build(),
    )
}

/// Removes the URL from an error, since it may contain credentials.
pub fn without_url(error: ureq::Error) -> ureq::Error {
    match error {
        ureq::Error::BadUri(_) => ureq::Error::BadUri("malformed".into()),
        other => other,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "proxies come from the environment of the process, as for every HTTP client"
)]
fn proxy(uri: &str) -> Option<Proxy> {
    let proxy = proxy_for(&uri.parse().ok()?, |name| std::env::var(name).ok())?;
    Proxy::new(&proxy).ok()
}
