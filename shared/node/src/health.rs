//! The check whether a provider answers, for the probe of its Pod.

use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, header};
use tokio::net::UnixStream;
use tokio::runtime;

use crate::calls::VERSION;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The message of a call without fields.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);

/// No provider answers.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is no socket, or nobody listens.
    #[error("no provider listens at {}", .path.display())]
    Socket {
        /// The path of the socket.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The provider does not answer in time.
    #[error("the provider does not answer")]
    Silent,
    /// The provider answers with an error.
    #[error("the provider fails")]
    Call(#[from] h2::Error),
    /// The operating system refuses.
    #[error("cannot connect to the provider")]
    System(#[from] io::Error),
}

/// Calls the method `Version` of the provider at a socket.
///
/// # Errors
///
/// Fails if no provider answers.
pub fn check(socket: &Path) -> Result<(), HealthError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let call = async { tokio::time::timeout(TIMEOUT, call(socket)).await };
    runtime.block_on(call).map_err(|_| HealthError::Silent)?
}

async fn call(socket: &Path) -> Result<(), HealthError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|source| HealthError::Socket {
        path: socket.to_owned(),
        source,
    })?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::select! {
        result = version(client) => result,
        _ = connection => Err(HealthError::Silent),
    }
}

async fn version(client: SendRequest<Bytes>) -> Result<(), HealthError> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    // HTTP/2 does not accept the path of a socket as authority.
    let uri = format!("http://localhost{VERSION}");
    *request.uri_mut() = uri.parse().map_err(|_| HealthError::Silent)?;
    let content_type = header::HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(header::CONTENT_TYPE, content_type);
    let mut client = client.ready().await?;
    let (response, mut stream) = client.send_request(request, false)?;
    stream.send_data(EMPTY, true)?;
    let mut body = response.await?.into_body();
    while let Some(chunk) = body.data().await {
        let len = chunk?.len();
        let _ = body.flow_control().release_capacity(len);
    }
    let trailers = poll_fn(|context| body.poll_trailers(context)).await?;
    let is_ok = trailers.is_some_and(|trailers| {
        let status = trailers.get("grpc-status");
        status.is_some_and(|status| status == "0")
    });
    if is_ok { Ok(()) } else { Err(HealthError::Silent) }
}
