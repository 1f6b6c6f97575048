//! The methods of the service `v1alpha1.CSIDriverProvider`.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use class::PROVIDER;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response, header};

use crate::controller::Controller;
use crate::failure::{Failure, FinalCode};
use crate::frame::{self, Message};
use crate::mount::MountRequest;
use crate::protobuf::bytes_len;

pub(crate) const VERSION_METHOD: &str = "/v1alpha1.CSIDriverProvider/Version";
pub(crate) const MOUNT_METHOD: &str = "/v1alpha1.CSIDriverProvider/Mount";
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// The time limit of a call. Without it, the driver waits until the kubelet gives up after two minutes, with a code
/// that is not final.
const DEADLINE: Duration = Duration::from_secs(12);

/// Serves one call, unless the driver cancels it.
pub(crate) async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Message>,
    controller: Arc<Controller>,
    log: fn(&str),
) {
    let (head, mut body) = request.into_parts();
    let result = tokio::select! {
        result = call_within_deadline(head.uri.path(), &mut body, &controller) => result,
        _ = poll_fn(|context| respond.poll_reset(context)) => {
            if head.uri.path() == MOUNT_METHOD {
                controller.metrics().count_canceled();
            }
            return;
        }
    };
    if head.uri.path() == MOUNT_METHOD {
        let code = result.as_ref().err().map(|failure| failure.code);
        controller.metrics().count_mount(code);
    }
    if let Err(failure) = &result {
        log(&format!("{}: {failure}", head.uri.path()));
    }
    // The driver may have closed the connection.
    let _ = send(&mut respond, result);
}

async fn call_within_deadline(
    method: &str,
    body: &mut RecvStream,
    controller: &Arc<Controller>,
) -> Result<Message, Failure> {
    let result = tokio::time::timeout(DEADLINE, call(method, body, controller)).await;
    result.unwrap_or_else(|_| {
        // A mount that waits in the queue for too long has failed earlier, with another message.
        let text = "the controller did not respond in time\n\
                    hint: the kubelet retries; check that the controller is running";
        Err(Failure::new(FinalCode::FailedPrecondition, text))
    })
}

async fn call(
    method: &str,
    body: &mut RecvStream,
    controller: &Arc<Controller>,
) -> Result<Message, Failure> {
    match method {
        MOUNT_METHOD => {
            let request = MountRequest::read(&frame::read(body).await?)?;
            controller.mount(request).await
        }
        VERSION_METHOD => {
            frame::read(body).await?;
            Ok(version())
        }
        _ => {
            let text = "this provider supports only the methods Version and Mount";
            Err(Failure::new(FinalCode::Unimplemented, text))
        }
    }
}

/// Returns the version of the service, and the name and version of this provider.
fn version() -> Message {
    let fields = ["v1alpha1", PROVIDER, env!("CARGO_PKG_VERSION")];
    let len = fields.iter().map(|field| bytes_len(field.len())).sum();
    Message::write(len, |writer| {
        for (number, field) in (1..).zip(fields) {
            writer.bytes(number, field.as_bytes());
        }
    })
}

fn send(
    respond: &mut SendResponse<Message>,
    result: Result<Message, Failure>,
) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE);
    match result {
        Ok(message) => {
            let mut stream = respond.send_response(response, false)?;
            stream.send_data(message, false)?;
            stream.send_trailers(status(0))
        }
        Err(failure) => {
            let mut headers = status(failure.code as u16);
            headers.insert("grpc-message", failure.header());
            response.headers_mut().extend(headers);
            respond.send_response(response, true).map(drop)
        }
    }
}

fn status(code: u16) -> HeaderMap {
    HeaderMap::from_iter([(
        header::HeaderName::from_static("grpc-status"),
        HeaderValue::from(code),
    )])
}
