//! The successful response of the controller: files with values.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::layout::{Layout, LayoutError};
use crate::mode::Mode;
use crate::path::FilePath;
use crate::value::Value;
use crate::{MAX_FILES, MAX_OBJECTS, MAX_RESPONSE, MAX_VALUES};

/// The files that a request selects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Identifies the delivered content; callers send it as `have` in the next request.
    pub revision: String,
    /// The files, sorted by path.
    pub files: Vec<DeliveredFile>,
    /// The SealedSecrets that the request names, including those that only templates may use.
    pub objects: Vec<DeliveredObject>,
}

/// A file for the Pod: its path, mode and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredFile {
    /// The path, relative to the target directory.
    pub path: FilePath,
    /// The mode of the file.
    pub mode: Mode,
    /// The version of the content. Equal versions of a path mean equal contents.
    pub version: String,
    /// The content of the file.
    pub value: Value,
}

/// A SealedSecret that the request names, and the content from which the response was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredObject {
    /// The name of the SealedSecret.
    pub name: String,
    /// The `metadata.generation` of the delivered content.
    pub generation: i64,
    /// The version of the content, as in `status.versions`.
    pub version: String,
}

/// Why a response is refused. The message contains no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The response is too long.
    #[error("the response has more than {MAX_RESPONSE} bytes")]
    TooLong,
    /// The response is not JSON of the expected form. The position is not reported, because it depends on the lengths of
    /// values.
    #[error("the response is malformed")]
    Malformed,
    /// The response has too many files.
    #[error("the response has more than {MAX_FILES} files")]
    TooManyFiles,
    /// The response names too many SealedSecrets.
    #[error("the response names more than {MAX_OBJECTS} SealedSecrets")]
    TooManyObjects,
    /// The values are too large in total.
    #[error("the values have more than {MAX_VALUES} bytes in total")]
    TooManyBytes,
    /// The paths of files conflict.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Response {
    /// Parses and checks the JSON of a response.
    ///
    /// # Errors
    ///
    /// Returns an error if the response is malformed, or exceeds a limit.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ResponseError> {
        if bytes.len() > MAX_RESPONSE {
            return Err(ResponseError::TooLong);
        }
        // The message of a `serde_json` error can contain a part of the response.
        let response: Self = serde_json::from_slice(bytes).map_err(|_| ResponseError::Malformed)?;
        response.check()?;
        Ok(response)
    }

    /// Returns the JSON of the response.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let values: usize = self
            .files
            .iter()
            .map(|file| file.value.len().div_ceil(3) * 4)
            .sum();
        let paths: usize = self
            .files
            .iter()
            .map(|file| file.path.as_str().len() + 128)
            .sum();
        let capacity = values + 2 * paths + 512 * (self.objects.len() + 1);
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        // Serializing strings, numbers and lists cannot fail.
        let _ = serde_json::to_writer(&mut *bytes, self);
        bytes
    }

    /// Checks the limits of a response, and its paths.
    ///
    /// # Errors
    ///
    /// Returns the first problem.
    pub fn check(&self) -> Result<(), ResponseError> {
        if self.files.len() > MAX_FILES {
            return Err(ResponseError::TooManyFiles);
        }
        if self.objects.len() > MAX_OBJECTS {
            return Err(ResponseError::TooManyObjects);
        }
        let len: usize = self.files.iter().map(|file| file.value.len()).sum();
        if len > MAX_VALUES {
            return Err(ResponseError::TooManyBytes);
        }
        let mut layout = Layout::default();
        for file in &self.files {
            layout.add_file(&file.path);
        }
        Ok(layout.check()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, value: &[u8]) -> DeliveredFile {
        DeliveredFile {
            path: path.parse().unwrap(),
            mode: Mode::default(),
            version: "v".into(),
            value: value.to_vec().into(),
        }
    }

    fn response(files: Vec<DeliveredFile>) -> Response {
        Response {
            revision: "r".into(),
            files,
            objects: vec![DeliveredObject {
                name: "db".into(),
                generation: 3,
                version: "v".into(),
            }],
        }
    }

    #[test]
    fn has_the_documented_form() {
        let response = response(vec![file("db/password", b"hunter2")]);
        let json = response.to_json();
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"{"revision":"r","files":[{"path":"db/password","mode":"0444","version":"v","value":"aHVudGVyMg=="}],"objects":[{"name":"db","generation":3,"version":"v"}]}"#
        );
        assert_eq!(Response::from_json(&json), Ok(response));
    }

    /// Attack: a machine in the middle or a broken controller makes the agent write outside its directory, or fill it.
    #[test]
    fn an_agent_refuses_paths_and_sizes_that_no_controller_sends() {
        let json = response(vec![file("good", b"x")]).to_json();
        let json = std::str::from_utf8(&json).unwrap();
        for path in ["../x", "/etc/passwd", "..data", ""] {
            let forged = json.replace("good", path);
            let result = Response::from_json(forged.as_bytes());
            assert!(matches!(result, Err(ResponseError::Malformed)), "{path}");
        }
        let twice = response(vec![file("a", b""), file("a/b", b"")]);
        assert!(matches!(
            Response::from_json(&twice.to_json()),
            Err(ResponseError::Layout(_))
        ));
        let big = response(vec![file("a", &vec![0; MAX_VALUES]), file("b", b"x")]);
        assert_eq!(
            Response::from_json(&big.to_json()),
            Err(ResponseError::TooManyBytes)
        );
        let many = (0..=MAX_FILES)
            .map(|i| file(&format!("f{i}"), b""))
            .collect();
        assert_eq!(response(many).check(), Err(ResponseError::TooManyFiles));
        let mut names = response(Vec::new());
        let object = DeliveredObject {
            name: "db".into(),
            generation: 1,
            version: "v".into(),
        };
        names.objects = vec![object; MAX_OBJECTS + 1];
        assert_eq!(names.check(), Err(ResponseError::TooManyObjects));
    }

    #[test]
    fn the_largest_response_is_within_the_limit() {
        let path = |i: usize| {
            let component = "a".repeat(255);
            let start = [component.as_str(); 3].join("/");
            format!("{start}/{i:0>255}")
        };
        let files = (0..MAX_FILES).map(|i| file(&path(i), &vec![0; MAX_VALUES / MAX_FILES]));
        let response = response(files.collect());
        let json = response.to_json();
        assert!(json.len() < MAX_RESPONSE, "{}", json.len());
        assert_eq!(Response::from_json(&json), Ok(response));
    }

    /// Fault: an agent logs a response, or the error about a malformed response.
    #[test]
    fn errors_and_debug_show_no_value() {
        let response = response(vec![file("a", b"hunter2")]);
        assert!(!format!("{response:?}").contains("hunter2"));
        let error =
            Response::from_json(br#"{"revision": "hunter2", "files": "hunter2"}"#).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
