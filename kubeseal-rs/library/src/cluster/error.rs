//! Errors of requests to the controller and the API server. Each message names the failure and, where one exists, a
//! next step.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use kube::config::KubeconfigError;

use super::Service;
use super::api::Response;
use super::busy::{BROKEN_ATTEMPTS, Retry, is_broken};
use super::by_token::ByTokenError;
use crate::shown::ShowPath as _;

/// Why the controller or the API server cannot be reached, or rejects a request.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig files cannot be merged or used.
    #[error("the kubeconfig cannot be used to reach the cluster")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The kubeconfig is malformed. The parser's message is left out, because it may quote a token.
    #[error("the kubeconfig {} is malformed\nhint: check it with `kubectl config view`", .0.shown())]
    MalformedKubeconfig(PathBuf),
    /// The kubeconfig has no context, cluster or user of that name.
    #[error(
        "{0} {1:?} does not exist in the kubeconfig\nhint: list the existing {0}s with `kubectl config get-{0}s`"
    )]
    NoSuchEntry(&'static str, String),
    /// Neither kubeconfig nor flags name an API server.
    #[error(
        "the kubeconfig selects no API server: it has no current context, or the context has no cluster\n\
         hint: choose a context with --context, or pass --server to `kubeseal`"
    )]
    NoServer,
    /// An address or a name has the wrong form.
    #[error("{text:?} is not a valid {expected}")]
    Malformed {
        /// The kind of value that was expected.
        expected: &'static str,
        /// The invalid value.
        text: String,
    },
    /// A file cannot be read.
    #[error("cannot read the {content} {}", path.shown())]
    Unreadable {
        /// The expected content of the file.
        content: &'static str,
        /// The file that cannot be read.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The kubeconfig has a CA certificate, and also disables the verification of certificates.
    #[error(
        "the cluster of the kubeconfig has both a certificate authority and insecure-skip-tls-verify: true, so the \
         authority would have no effect\n\
         hint: remove insecure-skip-tls-verify; `kubeseal --insecure-skip-tls-verify` connects without the authority"
    )]
    InsecureWithAuthority,
    /// The CA file, or the base64 data in the kubeconfig, contains no certificate or is malformed.
    #[error("{0} contains no certificate: expected PEM (base64-encoded in -data fields)")]
    NoAuthority(&'static str),
    /// The proxy's URL cannot be used. It is left out of the message, because it may contain a
    /// password.
    #[error(
        "the proxy to the API server is not a URL that begins with http://, https:// or socks5://\n\
         hint: correct `proxy-url` in the kubeconfig, --proxy-url of `kubeseal`, or HTTPS_PROXY"
    )]
    Proxy,
    /// Groups, a UID or extra fields to impersonate are set without a user.
    #[error(
        "groups, a UID or extra fields to impersonate are set, but no user\n\
         hint: set `as` in the user entry of the kubeconfig, or pass --as to `kubeseal`"
    )]
    NoImpersonatedUser,
    /// The credential plug-in is not installed.
    #[error(
        "cannot find the credential plug-in {0:?} of the kubeconfig in the absolute directories of PATH\n\
         hint: install it, or name it by its absolute path in the kubeconfig"
    )]
    NoPlugIn(String),
    /// A kubeconfig named by a relative path names a credential plug-in: the author of the current
    /// directory may have chosen both.
    #[error(
        "the kubeconfig {} names the credential plug-in {name:?}, and an environment variable names the kubeconfig by \
         a relative path: the author of the current directory could run any program\n\
         hint: if the kubeconfig is yours, use its absolute path, or pass it with --kubeconfig",
        file.shown()
    )]
    PlugInOfDirectory {
        /// The name of the plug-in.
        name: String,
        /// The path of the kubeconfig.
        file: PathBuf,
    },
    /// A kubeconfig named by a relative path names a file outside its directory: the author of the
    /// current directory may have chosen the server that a credential in the file is sent to.
    #[error(
        "the kubeconfig {} names the {content} {}, outside its directory, and an environment variable names the \
         kubeconfig by a relative path: the author of the current directory could use any file of this user\n\
         hint: if the kubeconfig is yours, use its absolute path, or pass it with --kubeconfig",
        kubeconfig.shown(), path.shown()
    )]
    FileOutsideDirectory {
        /// The field of the kubeconfig.
        content: &'static str,
        /// The file that the field names.
        path: PathBuf,
        /// The path of the kubeconfig.
        kubeconfig: PathBuf,
    },
    /// A kubeconfig that an environment variable names by a relative path names the server, and another kubeconfig the
    /// user.
    #[error(
        "the kubeconfig {} names the server and another kubeconfig the user, and an environment variable names the \
         former by a relative path: the author of the current directory could get the credentials of this user\n\
         hint: if the kubeconfig is yours, use its absolute path, or pass it with --kubeconfig",
        kubeconfig.shown()
    )]
    UserOfAnotherFile {
        /// The path of the kubeconfig with the server.
        kubeconfig: PathBuf,
    },
    /// There is no kubeconfig, and the program does not run in a Pod.
    #[error(
        "no cluster is configured: no kubeconfig was found, and the program does not run in a Pod\n\
         hint: pass --kubeconfig, or work without a cluster: --cert FILE to seal, --key or --backup FILE to unseal, \
         --directory DIR for `seal keys` and `seal doctor`"
    )]
    NoCluster,
    /// The client cannot be set up, for example because of TLS or an exec plug-in.
    #[error("cannot create the Kubernetes client: {0}")]
    Client(String),
    /// The operating system refuses to create an event loop.
    #[error("cannot create an event loop")]
    System(#[source] std::io::Error),
    /// The Service does not exist, or RBAC does not allow the caller to read it.
    #[error(
        "cannot get sealed secret service: {}.\nPlease, use the flag --controller-name and \
         --controller-namespace to set up the name and namespace of the sealed secrets controller{}",
        .0.why, candidates_text(.0)
    )]
    NoService(Box<NoService>),
    /// The Service has no ports.
    #[error(
        "the Service {0} has no ports\n\
         hint: if it is not the controller's Service, pass --controller-name and --controller-namespace"
    )]
    NoPorts(Service),
    /// A list from the API server is too long.
    #[error(
        "{failure}: the list from the API server is too long: more than 512 MiB, a million objects or 100 empty pages\n\
         hint: check that the kubeconfig names the right API server"
    )]
    EndlessList {
        /// The beginning of the message, such as `cannot list the SealedSecrets`.
        failure: &'static str,
    },
    /// The time limit of the command was reached before the response was complete.
    #[error("the time limit was reached before the API server had responded")]
    TimeLimit,
    /// The API server cannot be reached, or does not respond in time.
    #[error(
        "cannot reach the API server at {server}: {why}\nhint: {}\n\
         hint: to seal without the API server, pass --cert FILE, or use the cached certificate with \
         `kubeseal --offline`",
        unreachable_hint(why)
    )]
    Unreachable {
        /// The address of the API server.
        server: String,
        /// Why the request failed.
        why: String,
    },
    /// The controller, the API server or a proxy in between responded with an error.
    #[error("{failure}: {problem}")]
    Refused {
        /// The beginning of the message, such as `cannot fetch certificate`.
        failure: &'static str,
        /// Why it failed.
        problem: Box<Problem>,
    },
    /// The API server responded with an error to a request for an object or a list.
    #[error("{failure}: {}", refusal_text(*code, text))]
    Object {
        /// The beginning of the message, such as `cannot list the SealedSecrets`.
        failure: &'static str,
        /// The HTTP status code of the API server's response.
        code: StatusCode,
        /// The first line of the API server's message, truncated.
        text: String,
    },
    /// The response of the API server reports success, but does not contain the requested change, object or list.
    #[error(
        "{failure}: the response is not {expected}\n\
         hint: check that --server or the kubeconfig names the API server itself, and that no proxy or login page responds in \
         its place"
    )]
    Unexpected {
        /// The beginning of the message, such as `cannot list the SealedSecrets`.
        failure: &'static str,
        /// The expected content, such as `an object`.
        expected: &'static str,
    },
    /// The controller's TLS port cannot be used, or refuses the request.
    #[error("this request needs the controller's TLS port and a token")]
    ByToken(#[source] Box<ByTokenError>),
    /// The controller's response cannot be parsed.
    #[error(
        "{failure}: cannot parse the response\nhint: check that the Service is the controller's"
    )]
    MalformedResponse {
        /// The beginning of the message, such as `cannot fetch certificate`.
        failure: &'static str,
    },
}

fn refusal_text(code: StatusCode, text: &str) -> String {
    let quoted = match text {
        "" => String::new(),
        text => format!(", {text:?}"),
    };
    let hint = match code {
        StatusCode::UNAUTHORIZED => format!("\n{UNAUTHORIZED_HINT}"),
        StatusCode::FORBIDDEN => {
            "\nhint: ask an administrator of the cluster to allow this request".to_owned()
        }
        _ => String::new(),
    };
    format!("the response was {code}{quoted}{hint}")
}

const UNAUTHORIZED_HINT: &str = "hint: authentication failed; check that the kubeconfig is up to date and its token has \
                                 not expired";

fn unreachable_hint(why: &str) -> &'static str {
    if why.contains("certificate") {
        return "check that certificate-authority names the CA certificate of this cluster, and that no proxy \
                intercepts TLS";
    }
    if why.contains("plug-in") {
        return "run the credential plug-in manually to see why it fails";
    }
    "check that the cluster is up, and whether you need a VPN or a proxy (HTTPS_PROXY, proxy-url)"
}

/// A Service that does not exist or cannot be read.
#[derive(Debug)]
pub struct NoService {
    /// The Service that was requested.
    pub service: Service,
    /// Whether RBAC does not allow the caller to read the Service. If so, it is unknown whether the Service exists.
    pub is_forbidden: bool,
    /// The message of the API server, or the status code if there is none.
    pub why: String,
    /// Services that look like a controller's.
    pub candidates: Vec<Service>,
    /// Whether no controller was named, so that a candidate may be used instead.
    pub can_use_candidate: bool,
}

fn candidates_text(missing: &NoService) -> String {
    let NoService {
        service,
        candidates,
        can_use_candidate,
        ..
    } = missing;
    let mut text = format!("\nThe requested Service is {service}");
    if candidates.is_empty() {
        let _ = write!(
            text,
            "\nhint: find the Service with `kubectl get service -A -l app.kubernetes.io/name=sealed-secrets`"
        );
        return text;
    }
    let _ = write!(text, ". These Services have a controller's labels:");
    for Service { namespace, name } in candidates {
        let _ = write!(
            text,
            "\n  --controller-name {name} --controller-namespace {namespace}"
        );
    }
    if *can_use_candidate {
        let _ = write!(
            text,
            "\nNone was chosen automatically: anyone can set these labels, so a certificate found by them is \
             trusted only if it is pinned for its Service or has the expected fingerprint\n\
             hint: pass the flags of one of these Services, or the expected fingerprint with --cert-fingerprint"
        );
    }
    text
}

/// Why a request to the controller, or for its Service, failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The cause. Callers that can recover match on it.
    pub cause: Cause,
    message: String,
    service: Service,
    port: String,
}

/// The causes of a problem. Each has its own next step for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The API server did not authenticate the caller.
    Unauthorized,
    /// RBAC forbids the service proxy.
    Forbidden,
    /// No running Pod is behind the Service.
    NoPod,
    /// The API server cannot connect to the Pod.
    Blocked,
    /// The API server connected to the Pod, and the connection ended before the response.
    Broken,
    /// The server behind the Service has no such endpoint.
    NoEndpoint,
    /// The request limit was reached: the number of attempts, and how long the server asks to wait.
    TooMany(u32, Option<Duration>),
    /// Any other status code.
    Other(StatusCode),
}

impl Problem {
    /// Classifies a response. Only the API server's own responses are `Status` objects, never the
    /// controller's.
    pub(super) fn from_response(response: &Response, service: &Service, port: &str) -> Self {
        let status = response.json();
        let is_status = status["kind"] == "Status";
        let message = match status["message"].as_str() {
            Some(message) if is_status => message.to_owned(),
            _ => String::from_utf8_lossy(&response.body).into_owned(),
        };
        let cause = match response.code.as_u16() {
            401 if is_status => Cause::Unauthorized,
            403 if is_status => Cause::Forbidden,
            429 => Cause::TooMany(
                response.attempts,
                response.retry.and_then(Retry::requested_pause),
            ),
            503 if is_status && message.contains("no endpoints available") => Cause::NoPod,
            500..=504 if message.contains("trying to reach service") && is_broken(&message) => {
                Cause::Broken
            }
            // A response of the controller itself. Responses of the API server or of a proxy contain the text of a
            // proxy error, are empty, or have several lines or HTML.
            503 if !is_status && is_from_controller(&message) => Cause::Other(response.code),
            502..=504 => Cause::Blocked,
            // The Service was found just before this request, so it or its Pods are gone.
            404 if is_status => Cause::NoPod,
            404 | 405 => Cause::NoEndpoint,
            _ if message.contains("trying to reach service") => Cause::Blocked,
            _ => Cause::Other(response.code),
        };
        Self {
            cause,
            message: one_line(&message),
            service: service.clone(),
            port: port.to_owned(),
        }
    }

    /// Returns whether the caller cannot reach the controller through the service proxy, so a certificate in a
    /// `ConfigMap` may help.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.cause,
            Cause::Forbidden | Cause::NoPod | Cause::Blocked | Cause::Broken
        )
    }
}

/// Returns whether the string is a line of plain text, as the controller sends, and neither a message of the service
/// proxy nor an HTML page.
fn is_from_controller(text: &str) -> bool {
    let text = text.trim();
    let is_line = !text.is_empty() && !text.contains('\n') && !text.starts_with('<');
    is_line && !text.contains("trying to reach service")
}

pub(super) fn one_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().take(300).collect()
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (service, message) = (&self.service, &self.message);
        let Service { namespace, name } = service;
        match &self.cause {
            Cause::Unauthorized => write!(f, "{message}\n{UNAUTHORIZED_HINT}"),
            Cause::Forbidden => {
                writeln!(f, "{message}")?;
                self.write_missing_permission(f)
            }
            Cause::NoPod => write!(
                f,
                "{message}\nNo running Pod is behind the Service {service}\n\
                 hint: check the controller with `kubectl get pods -n {namespace}`, and the selector of the Service"
            ),
            Cause::Blocked => write!(
                f,
                "{}\nThe API server cannot reach the Pod behind the Service {service}: on private clusters, a \
                 firewall rule must allow the control plane to reach the controller's port (8080) on the nodes\n\
                 hint: until then, use `kubectl port-forward -n {namespace} service/{name} 8080` and \
                 --cert http://127.0.0.1:8080/v1/cert.pem",
                if message.is_empty() {
                    "the service proxy failed"
                } else {
                    message
                }
            ),
            Cause::Broken => write!(
                f,
                "{message}\nThe controller behind the Service {service} closed the connection before it responded, \
                 {BROKEN_ATTEMPTS} times; it may be restarting, or killed because of its resource limits\n\
                 hint: see `kubectl get pods -n {namespace}` and `kubectl logs -n {namespace} service/{name} --previous`"
            ),
            Cause::NoEndpoint => write!(
                f,
                "{}\nThe server behind the first port{} of the Service {service} is not a controller, or does not serve \
                 this endpoint\n\
                 hint: check that the Service is the controller's and that its first port serves HTTP\n\
                 hint: a controller with --plain-certificate-only requires a token: pass its TLS port with --authorized",
                if message.is_empty() {
                    "not found"
                } else {
                    message
                },
                port_clause(&self.port)
            ),
            Cause::TooMany(attempts, wait) => {
                write!(f, "too many requests, after {attempts} attempts")?;
                match wait {
                    Some(wait) => write!(f, "; the next one is allowed in {} s", wait.as_secs())?,
                    None => write!(f, "; try again in a minute")?,
                }
                write!(
                    f,
                    "\nhint: the controller accepts --rate-limit requests per second from each caller; wait, or raise the limit"
                )
            }
            Cause::Other(code) => {
                write!(f, "the response was {code}")?;
                if message.is_empty() {
                    write!(f, ", without a message")?;
                } else {
                    write!(f, ", {message:?}")?;
                }
                write!(
                    f,
                    "\nhint: see the controller's log: `kubectl logs -n {namespace} service/{name}`"
                )
            }
        }
    }
}

impl Problem {
    /// Writes which permission is missing. Upstream's role allows only the port names that it
    /// lists.
    fn write_missing_permission(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Service { namespace, name }, port) = (&self.service, &self.port);
        if !port.is_empty() && port != "http" {
            return write!(
                f,
                "The first port of the Service is named {port:?}, but the usual role allows only \
                 http:{name}: and http:{name}:http\n\
                 hint: name the port http, or add http:{name}:{port} to the resourceNames of the role \
                 {name}-service-proxier in {namespace}"
            );
        }
        write!(
            f,
            "RBAC does not allow you to use the service proxy\n\
             hint: ask an administrator for permission to `get` and `create` services/proxy, resource name \
             http:{name}:{port}, in {namespace}; or seal without the service proxy: pass --cert FILE or --cert URL"
        )
    }
}

fn port_clause(port: &str) -> String {
    match port {
        "" => String::new(),
        port => format!(", {port:?},"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: u16, body: &str) -> Problem {
        let response = Response {
            code: StatusCode::from_u16(code).unwrap(),
            retry: None,
            attempts: 1,
            date: None,
            body: body.into(),
        };
        let service = Service {
            namespace: "ops".into(),
            name: "seals".into(),
        };
        Problem::from_response(&response, &service, "http")
    }

    fn status(message: &str) -> String {
        serde_json::json!({ "kind": "Status", "message": message }).to_string()
    }

    #[test]
    fn distinguishes_responses_of_the_api_server_from_the_controllers() {
        for (code, body, want) in [
            (401, status("Unauthorized"), Cause::Unauthorized),
            (403, status("no"), Cause::Forbidden),
            (403, "no".into(), Cause::Other(StatusCode::FORBIDDEN)),
            (404, "404 page not found".into(), Cause::NoEndpoint),
            (404, status("services \"x\" not found"), Cause::NoPod),
            (429, "limit exceeded".into(), Cause::TooMany(1, None)),
            (
                503,
                status("no endpoints available for service \"x\""),
                Cause::NoPod,
            ),
            (
                503,
                "error trying to reach service: dial tcp: i/o timeout".into(),
                Cause::Blocked,
            ),
            (
                500,
                "Internal Server Error: trying to reach service: EOF".into(),
                Cause::Broken,
            ),
            (
                503,
                status("error trying to reach service: http: server closed idle connection"),
                Cause::Broken,
            ),
            (
                500,
                "trying to reach service: dial tcp: i/o timeout".into(),
                Cause::Blocked,
            ),
            (504, String::new(), Cause::Blocked),
            (503, String::new(), Cause::Blocked),
            (503, "<html>\nno server\n</html>\n".into(), Cause::Blocked),
            (
                503,
                "every key was removed, and the controller still decrypts\n".into(),
                Cause::Other(StatusCode::SERVICE_UNAVAILABLE),
            ),
            (
                500,
                String::new(),
                Cause::Other(StatusCode::INTERNAL_SERVER_ERROR),
            ),
        ] {
            assert_eq!(problem(code, &body).cause, want, "{code} {body}");
        }
    }

    #[test]
    fn truncates_a_long_response_to_one_line() {
        let text = problem(500, &format!("{}\nsecond", "x".repeat(1000))).to_string();
        assert!(text.len() < 600 && !text.contains("second"), "{text}");
    }
}
