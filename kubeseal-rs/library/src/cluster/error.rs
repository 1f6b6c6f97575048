//! Errors on the way to the controller. Each message names the failure and a next step.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use kube::config::KubeconfigError;

use super::Service;
use super::api::Answer;
use super::busy::{Again, BROKEN_ATTEMPTS, is_broken};
use super::by_token::NoToken;
use crate::shown::ShowPath as _;

/// The controller cannot be reached, or refuses the request.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig files cannot be read or merged.
    #[error("the kubeconfig cannot be used to reach the cluster")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The kubeconfig is malformed. The parser's message is left out, because it may quote a token.
    #[error("the kubeconfig {} is malformed: `kubectl config view` says more", .0.shown())]
    MalformedKubeconfig(PathBuf),
    /// The kubeconfig has no context, cluster or user of that name.
    #[error(
        "{0} {1:?} does not exist in the kubeconfig; `kubectl config get-{0}s` lists what does"
    )]
    NoSuchEntry(&'static str, String),
    /// Neither kubeconfig nor flags name an API server.
    #[error(
        "the kubeconfig does not say which API server: it has no current context, or that has no cluster. \
         Choose a context with --context, or name a --server"
    )]
    NoServer,
    /// An address or a name has the wrong form.
    #[error("{text:?} is no {what}")]
    Malformed {
        /// What the text should be.
        what: &'static str,
        /// The text that was given.
        text: String,
    },
    /// A file cannot be read.
    #[error("cannot read the {what} {}", path.shown())]
    Unreadable {
        /// What the file should contain.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A CA file or its base64 data contains no certificate.
    #[error("{0} contains no certificate: PEM is expected, in the data as base64")]
    NoAuthority(&'static str),
    /// The proxy's URL cannot be used. It is left out of the message, because it may contain a
    /// password.
    #[error(
        "the proxy to the API server is not a URL that begins with http://, https:// or socks5://"
    )]
    Proxy,
    /// Groups or a UID to impersonate are given without a user.
    #[error("--as-group and --as-uid need the user to impersonate: --as")]
    NobodyToImpersonate,
    /// The credential plug-in is not installed.
    #[error(
        "the credential plug-in {0:?} of the kubeconfig is not a program in an absolute folder of PATH; install it, \
         or name it by its absolute path"
    )]
    NoPlugIn(String),
    /// A kubeconfig named by a relative path names a credential plug-in: the author of the current
    /// folder may have chosen both.
    #[error(
        "the kubeconfig {} names the credential plug-in {name:?}, and is itself named by a relative path in the \
         environment: the author of the current folder could run any program. If the kubeconfig is yours, name it \
         by an absolute path, or with --kubeconfig",
        file.shown()
    )]
    PlugInOfFolder {
        /// The name of the plug-in.
        name: String,
        /// The path of the kubeconfig.
        file: PathBuf,
    },
    /// There is no kubeconfig, and the program does not run in a Pod.
    #[error(
        "no cluster to ask: there is no kubeconfig and this is no Pod. Name one with --kubeconfig, or do \
         without: --cert FILE to seal, --key or --backup FILE to open, --directory DIR for `seal keys` and \
         `seal doctor`"
    )]
    NoCluster,
    /// The client cannot be set up, for example because of TLS or an exec plug-in.
    #[error("the client of the cluster cannot be set up: {0}")]
    Client(String),
    /// The operating system refuses to create an event loop.
    #[error("the system gives no event loop")]
    System(#[source] std::io::Error),
    /// The Service does not exist, or the caller may not read it.
    #[error(
        "cannot get sealed secret service: {}.\nPlease, use the flag --controller-name and \
         --controller-namespace to set up the name and namespace of the sealed secrets controller{}",
        .0.why, listed(.0)
    )]
    NoService(Box<NoService>),
    /// The Service has no ports.
    #[error(
        "the Service {0} has no ports, so nothing can be reached through it; \
         is it the one of the controller? --controller-name and --controller-namespace name another"
    )]
    NoPorts(Service),
    /// The API server does not answer, or not in time.
    #[error(
        "the API server cannot be reached at {server}: {why}\n{} \
         Sealing works without it: --cert FILE, or --offline with the certificate seen last",
        unreachable_hint(why)
    )]
    Unreachable {
        /// The address of the API server.
        server: String,
        /// The network error.
        why: String,
    },
    /// The controller or a proxy on the way answered with an error.
    #[error("{what}: {problem}")]
    Refused {
        /// The request that failed.
        what: &'static str,
        /// Why it failed.
        problem: Box<Problem>,
    },
    /// The API server refused to read or write an object.
    #[error("{what}: the answer was {code}{}", if text.is_empty() { String::new() } else { format!(", {text:?}") })]
    Object {
        /// The request that failed.
        what: &'static str,
        /// The status code.
        code: StatusCode,
        /// The message of the API server, in one line and truncated.
        text: String,
    },
    /// The controller's port for callers with a token failed.
    #[error("the controller leaves this to callers with a token")]
    ByToken(#[source] Box<NoToken>),
    /// The answer cannot be parsed.
    #[error("{what}: the answer is not understood; is that Service the controller's?")]
    Nonsense {
        /// The request that failed.
        what: &'static str,
    },
}

fn unreachable_hint(why: &str) -> &'static str {
    if why.contains("certificate") {
        return "It is not trusted: is certificate-authority that of this cluster, or does a proxy in between intercept TLS?";
    }
    if why.contains("plug-in") {
        return "Who you are is its to say: try it by hand.";
    }
    "Is the cluster up, and do you need a VPN or a proxy (HTTPS_PROXY, proxy-url)?"
}

/// A Service that does not exist or cannot be read.
#[derive(Debug)]
pub struct NoService {
    /// The Service that was requested.
    pub service: Service,
    /// Whether the API server refused to say if the Service exists.
    pub is_forbidden: bool,
    /// The message of the API server.
    pub why: String,
    /// Services that look like a controller's.
    pub candidates: Vec<Service>,
    /// Whether only the default name was looked up, so that a candidate may be used instead.
    pub may_be_another: bool,
}

fn listed(missing: &NoService) -> String {
    let NoService {
        service,
        candidates,
        may_be_another,
        ..
    } = missing;
    let mut text = format!("\nIt was looked for as {service}");
    if candidates.is_empty() {
        let _ = write!(
            text,
            "; `kubectl get service -A -l app.kubernetes.io/name=sealed-secrets` may show where it is"
        );
        return text;
    }
    let _ = write!(
        text,
        ". By their labels, these Services lead to a controller:"
    );
    for Service { namespace, name } in candidates {
        let _ = write!(
            text,
            "\n  --controller-name {name} --controller-namespace {namespace}"
        );
    }
    if *may_be_another {
        let _ = write!(
            text,
            "\nNone is used unasked, since anyone may label a Service so and its certificate is not known here: \
             name one, or give the fingerprint you expect with --cert-fingerprint"
        );
    }
    text
}

/// Why the controller gave no answer, or refused the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The cause. Callers that can recover match on it.
    pub cause: Cause,
    said: String,
    service: Service,
    port: String,
}

/// Causes that call for different next steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The API server does not know the caller.
    Stranger,
    /// RBAC forbids the service proxy.
    Forbidden,
    /// The API server knows no running Pod behind the Service.
    NoPod,
    /// The API server knows the Pod and cannot connect to it.
    Blocked,
    /// The API server connected to the Pod, and the connection ended before the answer.
    Broken,
    /// The server behind the Service has no such endpoint.
    NoEndpoint,
    /// The server answers too many requests: the number of attempts, and how long it asks to wait.
    TooMany(u32, Option<Duration>),
    /// Any other status code.
    Other(StatusCode),
}

impl Problem {
    /// Classifies an answer. Only the API server's own answers are `Status` objects, never the
    /// controller's.
    pub(super) fn of(answer: &Answer, service: &Service, port: &str) -> Self {
        let status = answer.json();
        let is_status = status["kind"] == "Status";
        let said = match status["message"].as_str() {
            Some(message) if is_status => message.to_owned(),
            _ => String::from_utf8_lossy(&answer.body).into_owned(),
        };
        let cause = match answer.code.as_u16() {
            401 if is_status => Cause::Stranger,
            403 if is_status => Cause::Forbidden,
            429 => Cause::TooMany(answer.attempts, answer.again.and_then(Again::wait)),
            503 if is_status && said.contains("no endpoints available") => Cause::NoPod,
            500..=504 if said.contains("trying to reach service") && is_broken(&said) => {
                Cause::Broken
            }
            // An answer of the controller itself. Answers of the API server or of a proxy mention
            // the Service, or are empty.
            503 if !is_status && is_of_controller(&said) => Cause::Other(answer.code),
            502..=504 => Cause::Blocked,
            // The Service was found just before this request, so its Pods are gone.
            404 if is_status => Cause::NoPod,
            404 | 405 => Cause::NoEndpoint,
            _ if said.contains("trying to reach service") => Cause::Blocked,
            _ => Cause::Other(answer.code),
        };
        Self {
            cause,
            said: one_line(&said),
            service: service.clone(),
            port: port.to_owned(),
        }
    }

    /// Returns whether a certificate published elsewhere may help.
    pub fn is_in_the_way(&self) -> bool {
        matches!(
            self.cause,
            Cause::Forbidden | Cause::NoPod | Cause::Blocked | Cause::Broken
        )
    }
}

/// Returns whether the text is a line of plain text, as the controller sends, and not a proxy's
/// HTML page.
fn is_of_controller(said: &str) -> bool {
    let said = said.trim();
    let is_line = !said.is_empty() && !said.contains('\n') && !said.starts_with('<');
    is_line && !said.contains("trying to reach service")
}

pub(super) fn one_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().take(300).collect()
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (service, said) = (&self.service, &self.said);
        let Service { namespace, name } = service;
        match &self.cause {
            Cause::Stranger => write!(
                f,
                "{said}\nThe API server does not know you: is the kubeconfig up to date, or its token expired?"
            ),
            Cause::Forbidden => {
                writeln!(f, "{said}")?;
                self.say_how_to_be_allowed(f)
            }
            Cause::NoPod => write!(
                f,
                "{said}\nNo running Pod is behind the Service {service}: is the controller up? See \
                 `kubectl get pods -n {namespace}` and the selector of the Service"
            ),
            Cause::Blocked => write!(
                f,
                "{}\nThe API server cannot reach the Pod behind the Service {service}: on private clusters a \
                 firewall rule has to let the control plane reach the controller's port (8080) on the nodes. \
                 Until then go around it: `kubectl port-forward -n {namespace} service/{name} 8080` and \
                 --cert http://127.0.0.1:8080/v1/cert.pem",
                if said.is_empty() {
                    "the service proxy gives up"
                } else {
                    said
                }
            ),
            Cause::Broken => write!(
                f,
                "{said}\nThe controller behind the Service {service} ended the connection before its answer, \
                 {BROKEN_ATTEMPTS} times: is it starting again, or ended by its limits? See \
                 `kubectl get pods -n {namespace}` and `kubectl logs -n {namespace} service/{name} --previous`"
            ),
            Cause::NoEndpoint => write!(
                f,
                "{}\nWhat answers behind the first port{} of the Service {service} is no controller, or one without \
                 this endpoint: is that Service the controller's, and its first port the one for HTTP? One with \
                 --plain-certificate-only leaves it to callers with a token: name that port with --authorized",
                if said.is_empty() { "not found" } else { said },
                named(&self.port)
            ),
            Cause::TooMany(attempts, wait) => {
                write!(f, "too many requests, after {attempts} attempts")?;
                match wait {
                    Some(wait) => write!(f, "; the next one may come in {} s", wait.as_secs())?,
                    None => write!(f, "; wait a minute")?,
                }
                write!(
                    f,
                    ".\nThe controller takes --rate-limit requests a second from each caller: try again then, or raise it"
                )
            }
            Cause::Other(code) => {
                write!(f, "the answer was {code}")?;
                if said.is_empty() {
                    write!(f, ", without a word")?;
                } else {
                    write!(f, ", {said:?}")?;
                }
                write!(
                    f,
                    "\nThe log of the controller behind {service} may say more: `kubectl logs -n {namespace} service/{name}`"
                )
            }
        }
    }
}

impl Problem {
    /// Writes which permission is missing. Upstream's role allows only the port names that it
    /// lists.
    fn say_how_to_be_allowed(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Service { namespace, name }, port) = (&self.service, &self.port);
        if !port.is_empty() && port != "http" {
            return write!(
                f,
                "The first port of the Service is named {port:?}, while the usual role allows only \
                 http:{name}: and http:{name}:http. Name the port http, or add http:{name}:{port} to the \
                 resourceNames of the role {name}-service-proxier in {namespace}"
            );
        }
        write!(
            f,
            "RBAC forbids you the service proxy. Ask for `get` and `create` on services/proxy, resource name \
             http:{name}:{port}, in {namespace}; or do without it: --cert FILE or --cert URL"
        )
    }
}

fn named(port: &str) -> String {
    match port {
        "" => String::new(),
        port => format!(", {port:?},"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: u16, body: &str) -> Problem {
        let answer = Answer {
            code: StatusCode::from_u16(code).unwrap(),
            again: None,
            attempts: 1,
            body: body.into(),
        };
        let service = Service {
            namespace: "ops".into(),
            name: "seals".into(),
        };
        Problem::of(&answer, &service, "http")
    }

    fn status(message: &str) -> String {
        serde_json::json!({ "kind": "Status", "message": message }).to_string()
    }

    #[test]
    fn tells_the_api_servers_answers_from_the_controllers() {
        for (code, body, want) in [
            (401, status("Unauthorized"), Cause::Stranger),
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
    fn long_answers_are_cut_to_a_line() {
        let text = problem(500, &format!("{}\nsecond", "x".repeat(1000))).to_string();
        assert!(text.len() < 600 && !text.contains("second"), "{text}");
    }
}
