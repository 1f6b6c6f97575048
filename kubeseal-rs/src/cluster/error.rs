//! What can go wrong between here and the controller: each message names the fault and a next step.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use kube::config::KubeconfigError;

use super::Service;
use super::api::Answer;
use super::busy::{Again, BROKEN_ATTEMPTS, is_broken};
use super::by_token::NoToken;
use crate::report::ShowPath as _;

/// The controller cannot be asked, or says no.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Files that do not go together.
    #[error("the kubeconfig cannot be used to reach the cluster")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// Not shown, because tokens stand in it.
    #[error("the kubeconfig {} is malformed: `kubectl config view` says more", .0.shown())]
    MalformedKubeconfig(PathBuf),
    /// A context, cluster or user that is nowhere.
    #[error(
        "{0} {1:?} does not exist in the kubeconfig; `kubectl config get-{0}s` lists what does"
    )]
    NoSuchEntry(&'static str, String),
    /// Nobody says where the API server is.
    #[error(
        "the kubeconfig does not say which API server: it has no current context, or that has no cluster. \
         Choose a context with --context, or name a --server"
    )]
    NoServer,
    /// An address or name that cannot be one.
    #[error("{text:?} is no {what}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// What it is.
        text: String,
    },
    /// A file cannot be read.
    #[error("cannot read the {what} {}", path.shown())]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Likewise.
    #[error("{0} contains no certificate: PEM is expected, in the data as base64")]
    NoAuthority(&'static str),
    /// Not shown, because it may hold a password.
    #[error(
        "the proxy to the API server is not a URL that begins with http://, https:// or socks5://"
    )]
    Proxy,
    /// Groups of nobody.
    #[error("--as-group and --as-uid need the user to impersonate: --as")]
    NobodyToImpersonate,
    /// A credential plug-in that is not installed.
    #[error(
        "the credential plug-in {0:?} of the kubeconfig is not a program in an absolute folder of PATH; install it, \
         or name it by its absolute path"
    )]
    NoPlugIn(String),
    /// A credential plug-in that the author of the current folder chose.
    #[error(
        "the kubeconfig {} names the credential plug-in {name:?}, and is itself named by a relative path in the \
         environment: whoever wrote the current folder could run any program. If it is yours, name it by an \
         absolute path, or with --kubeconfig",
        file.shown()
    )]
    PlugInOfFolder {
        /// The plug-in.
        name: String,
        /// The kubeconfig.
        file: PathBuf,
    },
    /// No kubeconfig, and not in a Pod.
    #[error(
        "no cluster to ask: there is no kubeconfig and this is no Pod. Name one with --kubeconfig, or do \
         without: --cert FILE to seal, --key or --backup FILE to open, --directory DIR for `seal keys` and \
         `seal doctor`"
    )]
    NoCluster,
    /// TLS, an exec plug-in and the like.
    #[error("the client of the cluster cannot be set up: {0}")]
    Client(String),
    /// The system refused what every process needs.
    #[error("the system gives no event loop")]
    System(#[source] std::io::Error),
    /// The Service is not there, or may not be read.
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
    /// No answer in time or at all.
    #[error(
        "the API server cannot be reached at {server}: {why}\n{} \
         Sealing works without it: --cert FILE, or --offline with the certificate seen last",
        unreachable_hint(why)
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What the network says.
        why: String,
    },
    /// Another answer than success.
    #[error("{what}: {problem}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What became of it.
        problem: Box<Problem>,
    },
    /// The API server does not give or take an object.
    #[error("{what}: the answer was {code}{}", if text.is_empty() { String::new() } else { format!(", {text:?}") })]
    Object {
        /// What was asked for.
        what: &'static str,
        /// Its code.
        code: StatusCode,
        /// What it says, cut and in one line.
        text: String,
    },
    /// The controller's port for callers with a token.
    #[error("the controller leaves this to callers with a token")]
    ByToken(#[source] Box<NoToken>),
    /// Not what was asked for.
    #[error("{what}: the answer is not understood; is that Service the controller's?")]
    Nonsense {
        /// What was asked for.
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

/// A Service that cannot be read.
#[derive(Debug)]
pub struct NoService {
    /// The Service that was asked for.
    pub service: Service,
    /// Did the API server refuse to say whether it exists?
    pub is_forbidden: bool,
    /// What the API server says.
    pub why: String,
    /// Services that look like a controller's.
    pub candidates: Vec<Service>,
    /// Was nothing but the usual name looked for, so that one of them might be used?
    pub(crate) may_be_another: bool,
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

/// What stands between us and the controller's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The cause, for those who go on differently.
    pub cause: Cause,
    said: String,
    service: Service,
    port: String,
}

/// Causes that differ in what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The API server does not know the caller.
    Stranger,
    /// RBAC forbids the service proxy.
    Forbidden,
    /// The API server knows no running Pod behind the Service.
    NoPod,
    /// The API server knows the Pod and cannot get through to it.
    Blocked,
    /// The API server got through to the Pod, and the connection ended before the answer.
    Broken,
    /// What answers has no such endpoint.
    NoEndpoint,
    /// Too many requests, after so many attempts; and how long to wait.
    TooMany(u32, Option<Duration>),
    /// Anything else.
    Other(StatusCode),
}

impl Problem {
    /// The API server's own answers are objects of the kind Status; the controller's never are.
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
            // The controller's own answer: what the API server or a proxy in between says mentions the Service, or is empty.
            503 if !is_status && is_of_controller(&said) => Cause::Other(answer.code),
            502..=504 => Cause::Blocked,
            // The Service was there a moment ago.
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

    /// Might a certificate that is published elsewhere help?
    pub(crate) fn is_in_the_way(&self) -> bool {
        matches!(
            self.cause,
            Cause::Forbidden | Cause::NoPod | Cause::Blocked | Cause::Broken
        )
    }
}

/// Is it a line of plain text, as the controller answers, and not a page of a proxy?
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
    /// The peer's role names the ports that it lets callers reach, and no others.
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
