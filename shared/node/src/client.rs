//! Calls a provider as the driver does: for the probe of the provider's Pod, and for tests.

use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, header};
use tokio::net::UnixStream;
use tokio::runtime;

use crate::calls::{MOUNT_METHOD, VERSION_METHOD};
use crate::frame::Message;
use crate::protobuf::bytes_len;

/// The time limit of the check.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call of a provider failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no socket, or no process listens on it.
    #[error(
        "no provider listens at {}: {source}\nhint: start `seal node` with this --socket, and see its log",
        .path.display()
    )]
    Socket {
        /// The path of the socket.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The provider sent no gRPC response in time.
    #[error("the provider sent no gRPC response in time")]
    NoResponse,
    /// The connection failed.
    #[error("the connection to the provider failed")]
    Connection(#[from] h2::Error),
    /// The provider returned an error.
    #[error("the provider returned the error code {code}: {message}")]
    Failed {
        /// The gRPC status code.
        code: String,
        /// The message, percent-encoded.
        message: String,
    },
    /// The runtime of the client cannot be started.
    #[error("cannot connect to the provider")]
    System(#[from] io::Error),
}

/// Checks that a provider responds on a socket: calls its method `Version`.
///
/// # Errors
///
/// Fails if no provider responds.
pub fn check(socket: &Path) -> Result<(), CallError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let call = call(socket, VERSION_METHOD, Message::write(0, |_| {}));
    let call = async { tokio::time::timeout(TIMEOUT, call).await };
    runtime
        .block_on(call)
        .map_err(|_| CallError::NoResponse)?
        .map(drop)
}

/// Requests the files of a volume with these `attributes`, in JSON. Returns the Protocol Buffers message of the
/// response.
///
/// # Errors
///
/// Fails if the provider does not respond, or returns an error.
pub async fn mount(socket: &Path, attributes: &str) -> Result<Vec<u8>, CallError> {
    let attributes = attributes.as_bytes();
    let message = Message::write(bytes_len(attributes.len()), |writer| {
        writer.bytes(1, attributes);
    });
    call(socket, MOUNT_METHOD, message).await
}

async fn call(socket: &Path, method: &str, message: Message) -> Result<Vec<u8>, CallError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|source| CallError::Socket {
        path: socket.to_owned(),
        source,
    })?;
    let (client, connection) = h2::client::Builder::new().handshake(stream).await?;
    tokio::select! {
        result = call_with(client, method, message) => result,
        _ = connection => Err(CallError::NoResponse),
    }
}

async fn call_with(
    client: SendRequest<Message>,
    method: &str,
    message: Message,
) -> Result<Vec<u8>, CallError> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    // HTTP/2 does not accept the path of a socket as authority.
    let uri = format!("http://localhost{method}");
    *request.uri_mut() = uri.parse().map_err(|_| CallError::NoResponse)?;
    let content_type = header::HeaderValue::from_static("application/grpc");
    request
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    let (response, mut stream) = client.ready().await?.send_request(request, false)?;
    stream.send_data(message, true)?;
    let (head, mut body) = response.await?.into_parts();
    check_status(&head.headers)?;
    let bytes = read(&mut body).await?;
    let trailers = poll_fn(|context| body.poll_trailers(context)).await?;
    check_status(&trailers.ok_or(CallError::NoResponse)?)?;
    Ok(bytes.slice(5.min(bytes.len())..).to_vec())
}

async fn read(body: &mut RecvStream) -> Result<Bytes, CallError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        bytes.extend_from_slice(&chunk);
        let _ = body.flow_control().release_capacity(chunk.len());
    }
    Ok(bytes.into())
}

/// Fails if the headers or trailers contain an error status.
fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    let text = |name| {
        let value = headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    match text("grpc-status") {
        Some(code) if code != "0" => Err(CallError::Failed {
            code,
            message: text("grpc-message").unwrap_or_default(),
        }),
        _ => Ok(()),
    }
}
