//! The method `Mount`: turns the attributes of a volume into a request, and the response into files.

use std::collections::HashMap;

use agent::client::{ClientError, Delivery, Refusal};
use class::encoding::Encoding;
use class::objects::{self, Selection};
use deliver::{DeliveredFile, DeliveredObject, Response, ResponseError};
use zeroize::Zeroizing;

use crate::attributes::Attributes;
use crate::failure::{Failure, FinalCode};
use crate::frame::{MAX_RESPONSE, Message};
use crate::protobuf::{bytes_field, bytes_len, number_len};

/// The number of the field `attributes` of the request. No other field is used.
const ATTRIBUTES_FIELD: u64 = 1;

/// A mount: what to request from the controller, and the token of the Pod.
pub(crate) struct MountRequest {
    pub(crate) selection: Selection,
    pub(crate) token: Zeroizing<String>,
}

impl MountRequest {
    /// Reads the message of a request.
    pub(crate) fn read(message: &[u8]) -> Result<Self, Failure> {
        let attributes = bytes_field(message, ATTRIBUTES_FIELD);
        let attributes =
            attributes.map_err(|error| Failure::new(FinalCode::Internal, &error.to_string()))?;
        let Attributes { objects, token } = Attributes::from_json(attributes.unwrap_or_default())?;
        let selection = objects::read(&objects);
        let selection = selection.map_err(|error| Failure::invalid(&error.to_string()))?;
        Ok(Self { selection, token })
    }
}

/// Returns the response to a mount.
///
/// It always contains all files; the driver writes nothing if they are unchanged. A response without files is a
/// failure, because the Pod could start with an empty volume.
pub(crate) fn response(
    result: Result<Delivery, ClientError>,
    encodings: &HashMap<String, Encoding>,
) -> Result<Message, Failure> {
    let mut response = match result.map_err(|error| failure(&error))? {
        Delivery::Values(response) => response,
        Delivery::Unchanged => {
            let text = "the controller did not send the values\nhint: use a provider and a controller of the same release";
            return Err(Failure::new(FinalCode::Internal, text));
        }
    };
    if response.files.is_empty() {
        let text = "the SealedSecrets contain no items, and a volume without files is not mounted\nhint: seal an item";
        return Err(Failure::new(FinalCode::FailedPrecondition, text));
    }
    decode(&mut response, encodings)?;
    message(&response)
}

/// Decodes values. The message of a failure does not depend on the value.
fn decode(response: &mut Response, encodings: &HashMap<String, Encoding>) -> Result<(), Failure> {
    for file in &mut response.files {
        let Some(encoding) = encodings.get(file.path.as_str()) else {
            continue;
        };
        let mut value = encoding.decode(file.value.expose()).ok_or_else(|| {
            let text = format!(
                "the value for objectName {:?} is not in the `encoding` that the entry names",
                file.path.as_str()
            );
            Failure::new(FinalCode::FailedPrecondition, &text)
        })?;
        file.value = std::mem::take(&mut *value).into();
    }
    Ok(())
}

const OBJECT_VERSION_FIELD: u64 = 1;
const FILES_FIELD: u64 = 3;

fn message(response: &Response) -> Result<Message, Failure> {
    let versions = response
        .objects
        .iter()
        .map(|object| bytes_len(version_len(object)));
    let files = response.files.iter().map(|file| bytes_len(file_len(file)));
    let len = versions.chain(files).sum();
    if len > MAX_RESPONSE {
        let text = "the files have more than 4 MiB in total, the limit of the Secrets Store CSI driver\nhint: use several volumes";
        return Err(Failure::new(FinalCode::FailedPrecondition, text));
    }
    Ok(Message::write(len, |writer| {
        for object in &response.objects {
            writer.begin(OBJECT_VERSION_FIELD, version_len(object));
            writer.bytes(1, object.name.as_bytes());
            writer.bytes(2, object.version.as_bytes());
        }
        for file in &response.files {
            writer.begin(FILES_FIELD, file_len(file));
            writer.bytes(1, file.path.as_str().as_bytes());
            writer.number(2, file.mode.bits().into());
            writer.bytes(3, file.value.expose());
        }
    }))
}

fn version_len(object: &DeliveredObject) -> usize {
    bytes_len(object.name.len()) + bytes_len(object.version.len())
}

fn file_len(file: &DeliveredFile) -> usize {
    let mode = number_len(file.mode.bits().into());
    bytes_len(file.path.as_str().len()) + mode + bytes_len(file.value.len())
}

fn failure(error: &ClientError) -> Failure {
    let code = match error {
        ClientError::Refused(refusal) => code(refusal),
        // The position of a syntax error would depend on values.
        ClientError::Response(ResponseError::Malformed { .. }) => {
            let text = "the response of the controller is malformed";
            return Failure::new(FinalCode::Internal, text);
        }
        ClientError::Response(_) => FinalCode::Internal,
        _ => FinalCode::FailedPrecondition,
    };
    Failure::new(code, &agent::poll::error_chain(error))
}

/// Returns the gRPC code for an HTTP status code of the controller. The code for a busy controller is final too: the
/// kubelet retries a mount after any failure.
fn code(refusal: &Refusal) -> FinalCode {
    match refusal.status.as_u16() {
        400 => FinalCode::InvalidArgument,
        401 => FinalCode::Unauthenticated,
        403 => FinalCode::PermissionDenied,
        404 => FinalCode::NotFound,
        _ => FinalCode::FailedPrecondition,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf as _;
    use deliver::Mode;

    use super::*;

    fn file(path: &str, value: &[u8]) -> DeliveredFile {
        DeliveredFile {
            path: path.parse().unwrap(),
            mode: "0440".parse::<Mode>().unwrap(),
            version: "v1".into(),
            value: value.to_vec().into(),
        }
    }

    fn delivery(files: Vec<DeliveredFile>) -> Delivery {
        let object = DeliveredObject {
            name: "db".into(),
            generation: 1,
            version: "v2".into(),
        };
        Delivery::Values(Box::new(Response {
            revision: "r".into(),
            files,
            objects: vec![object],
        }))
    }

    fn response_with_files(files: Vec<DeliveredFile>) -> Result<Message, Failure> {
        response(Ok(delivery(files)), &HashMap::new())
    }

    #[test]
    fn a_response_has_the_versions_of_objects_and_the_files() {
        let message = response_with_files(vec![file("db/password", b"hunter2")]).unwrap();
        let expected =
            b"\x0a\x08\x0a\x02db\x12\x02v2\x1a\x19\x0a\x0bdb/password\x10\xa0\x02\x1a\x07hunter2";
        assert_eq!(message.chunk()[5..], expected[..]);
    }

    /// Fault: the driver rejects a large response with a code that is not final, so that a Pod can start with an empty
    /// volume.
    #[test]
    fn a_response_above_the_limit_of_the_driver_is_a_failure_here() {
        let long = "a".repeat(200);
        let files = |len| {
            (0..20_000)
                .map(|index| file(&format!("{long}{index}"), &vec![0; len]))
                .collect()
        };
        let failure = response_with_files(files(200)).err().unwrap();
        assert_eq!(failure.code, FinalCode::FailedPrecondition);
        assert!(response_with_files(vec![file("a", &vec![0; 3 << 20])]).is_ok());
    }

    #[test]
    fn no_files_are_a_failure_because_the_volume_would_be_empty() {
        let failure = response_with_files(Vec::new()).err().unwrap();
        assert_eq!(failure.code, FinalCode::FailedPrecondition);
        let failure = response(Ok(Delivery::Unchanged), &HashMap::new());
        assert_eq!(failure.err().unwrap().code, FinalCode::Internal);
    }

    #[test]
    fn values_are_decoded_where_the_class_says_so() {
        let encodings = HashMap::from([("key".to_owned(), Encoding::Hex)]);
        let files = vec![file("key", b"616263"), file("other", b"616263")];
        let message = response(Ok(delivery(files)), &encodings).unwrap();
        let message = message.chunk();
        let contains = |text: &[u8]| message.windows(text.len()).any(|window| window == text);
        assert!(contains(b"\x1a\x03abc") && contains(b"\x1a\x06616263"));
        let failure = response(Ok(delivery(vec![file("key", b"hunter2")])), &encodings);
        let failure = failure.err().unwrap();
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
        assert_eq!(failure.code, FinalCode::FailedPrecondition);
    }
}
