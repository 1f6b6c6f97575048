//! Creates HTTP clients for the API server.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Config;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use tower::{BoxError, Service, ServiceBuilder};

/// A pool of direct connections with the settings of kube, but with Nagle's algorithm disabled: otherwise, the first
/// request on each connection waits for the API server's TCP acknowledgment of the TLS handshake, which Linux delays by
/// 40 ms. Ignores the proxy of the configuration. Clones use the same connections.
#[derive(Debug, Clone)]
pub struct Connections(legacy::Client<TimeoutConnector<HttpsConnector<HttpConnector>>, Body>);

impl Connections {
    /// Creates the pool. Connects only when a request is sent.
    ///
    /// # Errors
    ///
    /// Fails if the TLS settings cannot be used.
    pub fn new(config: &Config) -> kube::Result<Self> {
        if CryptoProvider::get_default().is_none() {
            // Fails only if another thread has set the provider in the meantime.
            let _ = aws_lc_rs::default_provider().install_default();
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let https = config.rustls_https_connector_with_connector(http)?;
        let mut connector = TimeoutConnector::new(https);
        connector.set_connect_timeout(config.connect_timeout);
        connector.set_read_timeout(config.read_timeout);
        connector.set_write_timeout(config.write_timeout);
        let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self(client))
    }

    /// Returns a builder of a kube client that sends its requests over these connections.
    ///
    /// # Errors
    ///
    /// Fails if the credentials or the extra headers of the configuration cannot be used.
    pub fn client_builder(
        self,
        config: &Config,
    ) -> kube::Result<
        ClientBuilder<
            impl Service<Request<Body>, Response = Response<Incoming>, Error = BoxError, Future: Send>
            + Send
            + 'static
            + use<>,
        >,
    > {
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .layer(config.extra_headers_layer()?)
            .map_err(BoxError::from)
            .service(self.0);
        Ok(ClientBuilder::new(
            service,
            config.default_namespace.clone(),
        ))
    }
}
