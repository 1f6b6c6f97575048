//! The only Kubernetes client of the programs: the controller, through the API server's service
//! proxy.

mod objects;
mod overrides;

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

pub use objects::{Created, Objects};
pub use overrides::{Hidden, Overrides};

const FETCH: &str = "cannot fetch certificate";
const VERIFY: &str = "cannot validate sealed secret";
const ROTATE: &str = "cannot re-encrypt secret";

/// So often a request is sent again that was answered with a time to wait, as the peer's client
/// does.
const ATTEMPTS: u32 = 10;
/// Nobody is made to wait longer between two of them.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Which controller, and how to reach it.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// What the flags put over it.
    pub overrides: Overrides,
    /// `--controller-name`: its Service.
    pub name: String,
    /// `--controller-namespace`.
    pub namespace: String,
    /// `--request-timeout`; none for as long as it takes.
    pub timeout: Option<Duration>,
}

/// The controller cannot be asked, or says no.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig cannot be used to reach the cluster")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The context is nowhere.
    #[error(
        "context {0:?} does not exist in the kubeconfig; `kubectl config get-contexts` lists them"
    )]
    NoSuchContext(String),
    /// No kubeconfig, and not in a Pod.
    #[error(
        "no cluster to ask: there is no kubeconfig and this is no Pod. Name one with --kubeconfig, or do without \
         a cluster: --cert FILE or --cert URL"
    )]
    NoCluster,
    /// TLS, an exec plug-in and the like.
    #[error("the client of the cluster cannot be set up")]
    Client(#[source] Box<kube::Error>),
    /// The system refused what every process needs.
    #[error("the system gives no event loop")]
    System(#[source] std::io::Error),
    /// The Service is not there, or may not be read.
    #[error(
        "cannot get sealed secret service: {why}.\nPlease, use the flag --controller-name and \
         --controller-namespace to set up the name and namespace of the sealed secrets controller"
    )]
    Service {
        /// What the API server says.
        why: String,
    },
    /// The Service has no ports.
    #[error(
        "the Service {namespace}/{name} has no ports, so nothing can be reached through it; \
         is it the one of the controller? --controller-name and --controller-namespace name another"
    )]
    NoPorts {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// No answer in time or at all.
    #[error("the API server cannot be reached at {server}: {why}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What the network says.
        why: String,
    },
    /// Another answer than success.
    #[error("{what}: the answer was {code}{}{}", separated(text), advice(what, *code))]
    Answer {
        /// What was asked for.
        what: &'static str,
        /// Its code.
        code: StatusCode,
        /// Its text, cut and in one line.
        text: String,
    },
    /// Not what was asked for.
    #[error("{what}: the answer is not understood; is that Service the controller's?")]
    Nonsense {
        /// What was asked for.
        what: &'static str,
    },
}

fn separated(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(", {text:?}")
    }
}

fn advice(what: &str, code: StatusCode) -> &'static str {
    let is_of_controller = [FETCH, VERIFY, ROTATE].contains(&what);
    match code.as_u16() {
        403 if !is_of_controller => {
            "; RBAC forbids it: ask for this right, or take an account that has it"
        }
        404 | 503 if !is_of_controller => "",
        409 if !is_of_controller => "; it changed meanwhile: run the command again",
        401 => "; the API server does not know you: is the kubeconfig up to date?",
        403 => {
            "; RBAC forbids it: ask for `get` and `create` on services/proxy of the controller's Service, \
             or do without it: --cert FILE"
        }
        404 => "; this controller has no such endpoint, or the Service leads elsewhere",
        429 => "; too many requests: wait and try again",
        503 => "; the Service has no running Pod behind it: is the controller up?",
        _ => "",
    }
}

/// The controller behind its Service.
pub struct Controller {
    runtime: Runtime,
    client: Client,
    headers: HeaderMap,
    proxy: String,
    server: String,
    timeout: Option<Duration>,
}

/// An answer, whatever it says.
struct Answer {
    code: StatusCode,
    wait: Option<Duration>,
    body: Vec<u8>,
}

impl Controller {
    /// Looks up the Service. Its first port is taken, as by the peer.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn find(access: &Access) -> Result<Self, ClusterError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ClusterError::System)?;
        let config = runtime.block_on(config(access))?;
        let mut controller = Self {
            headers: impersonation(&config),
            server: config.cluster_url.to_string(),
            client: {
                let _guard = runtime.enter();
                Client::try_from(config).map_err(|error| ClusterError::Client(Box::new(error)))?
            },
            runtime,
            proxy: String::new(),
            timeout: access.timeout,
        };
        controller.proxy = controller.find_proxy(&access.namespace, &access.name)?;
        Ok(controller)
    }

    fn find_proxy(&self, namespace: &str, name: &str) -> Result<String, ClusterError> {
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
        let answer = self.ask(Method::GET, &path, None)?;
        let body: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
        if !answer.code.is_success() {
            let said = body["message"].as_str().map(str::to_owned);
            let why = said.unwrap_or_else(|| answer.code.to_string());
            return Err(ClusterError::Service { why });
        }
        let port = body["spec"]["ports"].get(0);
        let port = port.ok_or_else(|| ClusterError::NoPorts {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })?;
        let port = port["name"].as_str().unwrap_or_default();
        Ok(format!(
            "/api/v1/namespaces/{namespace}/services/http:{name}:{port}/proxy"
        ))
    }

    /// The certificate to seal with, as it is.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn certificate(&self) -> Result<Vec<u8>, ClusterError> {
        let path = format!("{}/v1/cert.pem", self.proxy);
        let answer = self.ask(Method::GET, &path, None)?;
        answer.success(FETCH)
    }

    /// Can the controller decrypt this SealedSecret?
    ///
    /// # Errors
    ///
    /// [`ClusterError`], if it says neither yes nor no.
    pub fn verify(&self, sealed: &Json) -> Result<bool, ClusterError> {
        let path = format!("{}/v1/verify", self.proxy);
        let answer = self.ask(Method::POST, &path, Some(sealed))?;
        if answer.code == StatusCode::CONFLICT {
            return Ok(false);
        }
        answer.success(VERIFY).map(|_| true)
    }

    /// The same SealedSecret for the newest key; none if it does not open.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn rotate(&self, sealed: &Json) -> Result<Option<Json>, ClusterError> {
        let what = ROTATE;
        let path = format!("{}/v1/rotate", self.proxy);
        let answer = self.ask(Method::POST, &path, Some(sealed))?;
        if answer.code == StatusCode::CONFLICT {
            return Ok(None);
        }
        let body = answer.success(what)?;
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|_| ClusterError::Nonsense { what })
    }

    /// Asks again for as long as the answer is a time to wait.
    fn ask(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Answer, ClusterError> {
        self.runtime.block_on(async {
            for _ in 1..ATTEMPTS {
                let answer = self.ask_once(method.clone(), path, body).await?;
                match answer.wait {
                    Some(wait) => tokio::time::sleep(wait.min(LONGEST_WAIT)).await,
                    None => return Ok(answer),
                }
            }
            self.ask_once(method, path, body).await
        })
    }

    async fn ask_once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Answer, ClusterError> {
        let unreachable = |why: String| ClusterError::Unreachable {
            server: self.server.clone(),
            why,
        };
        let answer = async {
            let body = body
                .map(|json| json.to_string().into_bytes())
                .unwrap_or_default();
            let request = Request::builder().method(method).uri(path);
            let mut request = request.body(Body::from(body)).map_err(|e| e.to_string())?;
            request.headers_mut().extend(self.headers.clone());
            let sent = self.client.send(request).await;
            let (head, body) = sent.map_err(|e| shared::error_chain(&e))?.into_parts();
            let body = body.collect().await.map_err(|e| e.to_string())?;
            Ok::<_, String>(Answer {
                code: head.status,
                wait: wait(head.status, &head.headers),
                body: body.to_bytes().to_vec(),
            })
        };
        match self.timeout {
            None => answer.await.map_err(unreachable),
            Some(timeout) => match tokio::time::timeout(timeout, answer).await {
                Ok(answer) => answer.map_err(unreachable),
                Err(_) => Err(unreachable(format!("no answer within {timeout:?}"))),
            },
        }
    }
}

impl Answer {
    fn success(self, what: &'static str) -> Result<Vec<u8>, ClusterError> {
        if self.code.is_success() {
            return Ok(self.body);
        }
        let text = String::from_utf8_lossy(&self.body);
        let status: Option<Json> = serde_json::from_str(&text).ok();
        let said = status.and_then(|json| json["message"].as_str().map(str::to_owned));
        let text = said.unwrap_or_else(|| text.into_owned());
        Err(ClusterError::Answer {
            what,
            code: self.code,
            text: text
                .trim()
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(300)
                .collect(),
        })
    }
}

/// Of answers that ask for patience.
fn wait(code: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let asks = code == StatusCode::TOO_MANY_REQUESTS || code.is_server_error();
    let seconds = headers.get("retry-after").filter(|_| asks)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

async fn config(access: &Access) -> Result<Config, ClusterError> {
    let unusable = |error| ClusterError::Kubeconfig(Box::new(error));
    let read = match &access.kubeconfig {
        Some(path) => Kubeconfig::read_from(path).map_err(unusable)?,
        None => match Kubeconfig::read() {
            Ok(kubeconfig) => kubeconfig,
            Err(error) if access.overrides.server.is_none() && !is_absent(&error) => {
                return Err(unusable(error));
            }
            Err(_) => Kubeconfig::default(),
        },
    };
    if let Some(context) = access.overrides.missing_context(&read) {
        return Err(ClusterError::NoSuchContext(context));
    }
    if read.contexts.is_empty() && access.overrides.server.is_none() {
        return Config::incluster().map_err(|_| ClusterError::NoCluster);
    }
    let mut kubeconfig = read;
    access.overrides.put_over(&mut kubeconfig);
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(unusable)?;
    config.default_retry = false;
    Ok(config)
}

fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// `kube` reads these and never sends them.
fn impersonation(config: &Config) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let auth = &config.auth_info;
    let mut add = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    };
    if let Some(user) = auth.impersonate.as_ref().filter(|user| !user.is_empty()) {
        add("impersonate-user", user);
    }
    if let Some(uid) = &auth.impersonate_uid {
        add("impersonate-uid", uid);
    }
    for group in auth.impersonate_groups.iter().flatten() {
        add("impersonate-group", group);
    }
    headers
}
