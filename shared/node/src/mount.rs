//! The method `Mount`: turns the attributes of a volume into a request, and the response into files.

use std::collections::HashMap;

use agent::client::{ClientError, Delivery, Refusal};
use class::encoding::Encoding;
use class::objects::{self, Selection};
use deliver::{DeliveredFile, DeliveredObject, Response};
use zeroize::Zeroizing;

use crate::attributes::Attributes;
use crate::failure::{Failure, FinalCode};
use crate::frame::{MAX_RESPONSE, Message};
use crate::protobuf::{bytes_field, bytes_len, number_len};

/// The number of the field `attributes` of the request. No other field is used.
const ATTRIBUTES_FIELD: u64 = 1;

/// A mount: what to request from the controller, and the token and the namespace of the Pod.
pub(crate) struct MountRequest {
    pub(crate) selection: Selection,
    pub(crate) token: Zeroizing<String>,
    pub(crate) namespace: String,
}

impl MountRequest {
    /// Reads the message of a request.
    pub(crate) fn read(message: &[u8]) -> Result<Self, Failure> {
        let attributes = bytes_field(message, ATTRIBUTES_FIELD);
        let attributes =
            attributes.map_err(|error| Failure::new(FinalCode::Internal, &error.to_string()))?;
        let attributes = Attributes::from_json(attributes.unwrap_or_default())?;
        let Attributes {
            objects,
            token,
            namespace,
        } = attributes;
        let selection = objects::read(&objects);
        let selection = selection.map_err(|error| Failure::invalid(&error.to_string()))?;
        Ok(Self {
            selection,
            token,
            namespace,
        })
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

/// Decodes values. All values are decoded, so that neither the failure nor its time depends on which value cannot be
/// decoded.
fn decode(response: &mut Response, encodings: &HashMap<String, Encoding>) -> Result<(), Failure> {
    let mut all_decoded = true;
    for file in &mut response.files {
        let Some(encoding) = encodings.get(file.path.as_str()) else {
            continue;
        };
        match encoding.decode(file.value.expose()) {
            Some(mut value) => file.value = std::mem::take(&mut *value).into(),
            None => all_decoded = false,
        }
    }
    if all_decoded {
        Ok(())
    } else {
        Err(unsuitable_values())
    }
}

/// Returns the failure for all reasons that depend on values: with the file or the reason in it, an author of templates
/// could spell out a value in the events of a Pod.
fn unsuitable_values() -> Failure {
    let text = "a value is not in the `encoding` that its entry names, or the files have more than 4 MiB in total\n\
                hint: use several volumes, and check the encodings; the entry is not reported, because it depends on the values";
    Failure::new(FinalCode::FailedPrecondition, text)
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
        // The limit of the Secrets Store CSI driver.
        return Err(unsuitable_values());
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

    /// Attack: an author lets one of 60 templates render a character that is not base64, the one whose number is a byte of
    /// a value, and reads the events of a Pod.
    #[test]
    fn a_failure_does_not_name_the_file_whose_value_cannot_be_decoded() {
        let names = ["t000", "t001"].map(str::to_owned);
        let encodings = HashMap::from(names.map(|name| (name, Encoding::Base64)));
        let failure = |values: [&[u8]; 2]| {
            let files = vec![file("t000", values[0]), file("t001", values[1])];
            response(Ok(delivery(files)), &encodings).err().unwrap()
        };
        let first = failure([b"!", b"MA=="]);
        assert!(!first.to_string().contains("t00"), "{first}");
        assert_eq!(first, failure([b"MA==", b"!"]));
        assert_eq!(first, failure([b"!", b"!"]));
        let files = (0..20_000).map(|index| file(&format!("{index:0>250}"), b"0"));
        let too_large = response_with_files(files.collect());
        assert_eq!(first, too_large.err().unwrap());
    }
}
