//! Determines from kubeconfig files, flags, environment variables and service account how to reach
//! the API server, and as which user.
//!
//! `kube` reads and merges the files. This module selects the entries and determines the proxy and the headers: `kube`
//! supports only three of the overrides, compares `NO_PROXY` with the proxy instead of the server, and reads the
//! impersonation settings without sending them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Uri};
use kube::Config;
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error_text::kubeconfig_error;
use super::outside_files;
use super::overrides::Overrides;
use super::plug_in;
use super::{Access, ClusterError};
use crate::bounded::{self, Kind};
use crate::environment::Environment;
use crate::kubeconfig;
use crate::proxies::proxy_for;
use crate::redacted::redacted;
use crate::web::CONNECT_TIMEOUT;

/// The address of an API server. Determining it sends no request and runs no exec plug-in.
#[derive(Debug, Clone)]
pub struct Address {
    /// The URL, without credentials.
    pub server: String,
    /// The trusted CA certificates, in DER; empty for those of the operating system.
    pub authorities: Vec<Vec<u8>>,
}

impl Address {
    /// Determines the address from the flags and the environment.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the settings cannot be used.
    pub fn find(access: &Access, environment: &Environment) -> Result<Self, ClusterError> {
        let (config, _) = config_without_plug_in(access, environment)?;
        Ok(Self::from_config(&config))
    }

    pub(super) fn from_config(config: &Config) -> Self {
        Self {
            server: redacted(&config.cluster_url.to_string()).into_owned(),
            authorities: config.root_cert.clone().unwrap_or_default(),
        }
    }
}

/// Determines how to reach the API server, with the user's plug-in resolved to an absolute path.
pub(super) fn config(access: &Access, environment: &Environment) -> Result<Config, ClusterError> {
    let (mut config, by_relative_path) = config_without_plug_in(access, environment)?;
    plug_in::resolve(&mut config.auth_info, by_relative_path.as_deref())?;
    Ok(config)
}

/// Determines how to reach the API server, without looking up the user's plug-in. Also returns the
/// file of the user's entry, if an environment variable names that file by a relative path.
///
/// # Errors
///
/// Also fails if such a kubeconfig names a file outside its directory.
fn config_without_plug_in(
    access: &Access,
    environment: &Environment,
) -> Result<(Config, Option<PathBuf>), ClusterError> {
    let files = read(access, environment)?;
    let overrides = &access.overrides;
    let is_empty = files.merged.contexts.is_empty() && files.merged.clusters.is_empty();
    let (mut config, by_relative_path) =
        if is_empty && overrides.server.is_none() && overrides.context.is_none() {
            (in_cluster_config(access, environment)?, None)
        } else {
            from_kubeconfig(&files, overrides)?
        };
    if config.proxy_url.is_none() {
        config.proxy_url = proxy_for(&config.cluster_url, |name| environment.variable(name))
            .map(|url| proxy(&url))
            .transpose()?;
    }
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    check_files(&config.auth_info)?;
    if config.cluster_url.scheme_str() != Some("https") {
        remove_credentials(&mut config.auth_info);
    }
    Ok((config, by_relative_path))
}

/// Removes the user's credentials, and keeps the impersonation settings. As in client-go, credentials are not sent
/// without TLS: everyone on the network path could read and use them.
fn remove_credentials(user: &mut AuthInfo) {
    *user = AuthInfo {
        impersonate: user.impersonate.take(),
        impersonate_uid: user.impersonate_uid.take(),
        impersonate_groups: user.impersonate_groups.take(),
        impersonate_user_extra: user.impersonate_user_extra.take(),
        ..AuthInfo::default()
    };
}

/// The merged content of the kubeconfig files.
#[derive(Default)]
struct Files {
    merged: Kubeconfig,
    /// The file of each user's entry, if an environment variable names that file by a relative path.
    by_relative_path: BTreeMap<String, PathBuf>,
    /// The file of each cluster's entry, likewise.
    clusters_by_relative_path: BTreeMap<String, PathBuf>,
}

impl Files {
    fn add(&mut self, path: &Path, is_by_variable: bool) -> Result<(), ClusterError> {
        let next = read_file(path)?;
        if is_by_variable && path.is_relative() {
            for user in &next.auth_infos {
                let is_new = !self.merged.auth_infos.iter().any(|u| u.name == user.name);
                if is_new {
                    let (user, path) = (user.name.clone(), path.to_owned());
                    self.by_relative_path.entry(user).or_insert(path);
                }
            }
            for cluster in &next.clusters {
                let is_new = !self.merged.clusters.iter().any(|c| c.name == cluster.name);
                if is_new {
                    let (cluster, path) = (cluster.name.clone(), path.to_owned());
                    self.clusters_by_relative_path
                        .entry(cluster)
                        .or_insert(path);
                }
            }
        }
        let merged = std::mem::take(&mut self.merged).merge(next);
        self.merged = merged.map_err(|error| kubeconfig_error(path, error))?;
        Ok(())
    }
}

/// Checks that existing credential files are regular files of at most 1 MiB, since `kube` reads them without limit.
fn check_files(user: &AuthInfo) -> Result<(), ClusterError> {
    for (content, path) in [
        ("client-certificate", &user.client_certificate),
        ("client-key", &user.client_key),
        ("tokenFile", &user.token_file),
    ] {
        let Some(path) = nonempty(path.as_ref()).map(PathBuf::from) else {
            continue;
        };
        // `kube` reports missing files. A token file may be created later.
        let metadata = path.metadata().ok();
        if metadata.is_some_and(|metadata| {
            !metadata.is_file() || metadata.len() > Kind::Credential.limit()
        }) {
            let source = io::Error::other("not a regular file, or larger than 1 MiB");
            return Err(ClusterError::Unreadable {
                content,
                path,
                source,
            });
        }
    }
    Ok(())
}

/// Reads the file of `--kubeconfig`, or those files of [`kubeconfig::default_files`] that exist and are not empty. If
/// several files contain an entry, the entry in the first file applies.
fn read(access: &Access, environment: &Environment) -> Result<Files, ClusterError> {
    let mut files = Files::default();
    if let Some(path) = &access.kubeconfig {
        let variable = environment.nonempty_variable("SEALED_SECRETS_KUBECONFIG");
        let is_by_variable = variable.is_some_and(|value| Path::new(&value) == path);
        files.add(path, is_by_variable)?;
        return Ok(files);
    }
    for path in kubeconfig::default_files(environment) {
        // An empty file is not a YAML document and counts as missing.
        if path.metadata().is_ok_and(|file| file.len() > 0) {
            files.add(&path, true)?;
        }
    }
    Ok(files)
}

/// Reads one kubeconfig within the size limit. `kube` reads without limit but resolves relative
/// paths against the file's directory, so it parses regular files; other files, such as pipes, are
/// parsed here.
fn read_file(path: &Path) -> Result<Kubeconfig, ClusterError> {
    let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
    let unreadable = |source| ClusterError::Unreadable {
        content: "kubeconfig",
        path: path.to_owned(),
        source,
    };
    let text = File::open(path).and_then(|file| bounded::read(file, 0, Kind::Settings));
    let text = text.map_err(unreadable)?;
    if is_file {
        // Use an absolute path: relative paths in the file are relative to its directory.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        return Kubeconfig::read_from(absolute).map_err(|error| kubeconfig_error(path, error));
    }
    let parsed = Kubeconfig::from_yaml(&String::from_utf8_lossy(&text));
    parsed.map_err(|error| kubeconfig_error(path, error))
}

/// Returns the address of the API server that this kubeconfig text names, with the flags applied.
/// Reads no file that the text names.
///
/// # Errors
///
/// Returns a [`ClusterError`] if the text or the flags cannot be used.
pub fn server_of_text(text: &str, overrides: &Overrides) -> Result<Uri, ClusterError> {
    let parsed = Kubeconfig::from_yaml(text);
    let mut merged = parsed.map_err(|error| kubeconfig_error("-".as_ref(), error))?;
    for cluster in merged
        .clusters
        .iter_mut()
        .filter_map(|c| c.cluster.as_mut())
    {
        cluster.certificate_authority = None;
    }
    let files = Files {
        merged,
        ..Files::default()
    };
    let (config, _) = from_kubeconfig(&files, overrides)?;
    Ok(config.cluster_url)
}

fn in_cluster_config(access: &Access, environment: &Environment) -> Result<Config, ClusterError> {
    // Without this variable, the program does not run in a Pod.
    if environment
        .nonempty_variable("KUBERNETES_SERVICE_HOST")
        .is_none()
    {
        return Err(ClusterError::NoCluster);
    }
    let mut config = Config::incluster().map_err(|_| ClusterError::NoCluster)?;
    access.overrides.impersonate(&mut config.auth_info);
    config.headers = impersonation(&config.auth_info)?;
    Ok(config)
}

fn from_kubeconfig(
    files: &Files,
    overrides: &Overrides,
) -> Result<(Config, Option<PathBuf>), ClusterError> {
    let (cluster, name, mut user) = overrides.choose(&files.merged)?;
    let has_user = name.is_some();
    let by_relative_path = name.and_then(|name| files.by_relative_path.get(&name).cloned());
    let cluster_name = overrides.cluster_name(&files.merged)?;
    let cluster_from = files.clusters_by_relative_path.get(&cluster_name);
    outside_files::check_user(cluster_from, by_relative_path.as_ref(), has_user)?;
    let (named_cluster, named_user) = overrides.without_flags(&cluster, &user);
    outside_files::check(
        (&named_cluster, cluster_from.map(PathBuf::as_path)),
        (&named_user, by_relative_path.as_deref()),
    )?;
    let mut config = Config::new(server(&cluster)?);
    config.root_cert = authorities(&cluster)?;
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    if config.accept_invalid_certs && config.root_cert.is_some() {
        return Err(ClusterError::InsecureWithAuthority);
    }
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name = nonempty(cluster.tls_server_name.as_ref()).cloned();
    config.proxy_url = nonempty(cluster.proxy_url.as_ref())
        .map(|url| proxy(url))
        .transpose()?;
    if let Some(exec) = user.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
        let cluster_info = (&cluster).try_into();
        exec.cluster = Some(cluster_info.map_err(|e| ClusterError::Kubeconfig(Box::new(e)))?);
    }
    config.headers = impersonation(&user)?;
    config.auth_info = user;
    Ok((config, by_relative_path))
}

/// Returns the server's URL. As in kubectl, a server without scheme is https if the entry has
/// settings for its certificate.
fn server(cluster: &Cluster) -> Result<Uri, ClusterError> {
    let server = nonempty(cluster.server.as_ref()).ok_or(ClusterError::NoServer)?;
    let has_authority =
        cluster.certificate_authority.is_some() || cluster.certificate_authority_data.is_some();
    let url = match server.contains("://") {
        true => server.clone(),
        false if has_authority || cluster.insecure_skip_tls_verify == Some(true) => {
            format!("https://{server}")
        }
        false => format!("http://{server}"),
    };
    url.parse::<Uri>()
        .ok()
        .filter(|uri| uri.host().is_some())
        .ok_or_else(|| ClusterError::Malformed {
            expected: "address of the API server",
            text: redacted(server).into_owned(),
        })
}

/// Returns the trusted CA certificates, in DER, or `None` for those of the operating system. Inline data takes
/// precedence over a file.
fn authorities(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, ClusterError> {
    let data = nonempty(cluster.certificate_authority_data.as_ref());
    let (pem, origin) = match (data, nonempty(cluster.certificate_authority.as_ref())) {
        (Some(data), _) => (
            STANDARD.decode(data.trim()).ok(),
            "certificate-authority-data",
        ),
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            let file = File::open(&path);
            let bytes = file.and_then(|file| bounded::read(file, 0, Kind::Certificate));
            let bytes = bytes.map_err(|source| ClusterError::Unreadable {
                content: "certificate-authority",
                path,
                source,
            })?;
            (Some(bytes.to_vec()), "certificate-authority")
        }
        (None, None) => return Ok(None),
    };
    let parsed = pem.and_then(|pem| {
        let certificates = CertificateDer::pem_slice_iter(&pem);
        let ders = certificates.map(|der| der.map(|der| der.to_vec()));
        ders.collect::<Result<Vec<_>, _>>().ok()
    });
    match parsed {
        Some(ders) if !ders.is_empty() => Ok(Some(ders)),
        _ => Err(ClusterError::NoAuthority(origin)),
    }
}

fn proxy(url: &str) -> Result<Uri, ClusterError> {
    let parsed = url.parse::<Uri>().ok();
    let is_supported = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https" | "socks5"));
    // The error does not include the URL, which may contain a password.
    parsed.filter(is_supported).ok_or(ClusterError::Proxy)
}

/// Returns the impersonation headers: `Impersonate-User`, `-Uid`, `-Group` and `-Extra-…`.
fn impersonation(auth: &AuthInfo) -> Result<Vec<(HeaderName, HeaderValue)>, ClusterError> {
    let mut texts: Vec<(String, &str)> = Vec::new();
    if let Some(user) = nonempty(auth.impersonate.as_ref()) {
        texts.push(("impersonate-user".into(), user));
    }
    if let Some(uid) = nonempty(auth.impersonate_uid.as_ref()) {
        texts.push(("impersonate-uid".into(), uid));
    }
    for group in auth.impersonate_groups.iter().flatten() {
        texts.push(("impersonate-group".into(), group));
    }
    for (key, values) in auth.impersonate_user_extra.iter().flatten() {
        let name = format!("impersonate-extra-{}", key.to_lowercase());
        texts.extend(values.iter().map(|value| (name.clone(), value.as_str())));
    }
    if !texts.is_empty() && nonempty(auth.impersonate.as_ref()).is_none() {
        return Err(ClusterError::NoImpersonatedUser);
    }
    let header = |(name, value): (String, &str)| {
        let name = HeaderName::try_from(name).ok();
        let header = name.zip(HeaderValue::from_str(value).ok());
        header.ok_or_else(|| ClusterError::Malformed {
            expected: "name to impersonate",
            text: value.to_owned(),
        })
    };
    texts.into_iter().map(header).collect()
}

fn nonempty(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(json: serde_json::Value) -> AuthInfo {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn impersonation_becomes_headers_and_needs_a_user() {
        let every_field = serde_json::json!({
            "as": "jane", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": { "Scopes": ["view"] },
        });
        let headers = impersonation(&auth(every_field)).unwrap();
        let texts: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        assert_eq!(
            texts,
            [
                "impersonate-user: jane",
                "impersonate-uid: 7",
                "impersonate-group: a",
                "impersonate-group: b",
                "impersonate-extra-scopes: view",
            ]
        );
        let groups = auth(serde_json::json!({ "as-groups": ["a"] }));
        assert!(impersonation(&groups).is_err());
        assert!(impersonation(&AuthInfo::default()).unwrap().is_empty());
        let broken = auth(serde_json::json!({ "as": "two\nlines" }));
        assert!(impersonation(&broken).is_err());
    }

    fn config_of(kubeconfig: &str) -> Result<Config, ClusterError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, kubeconfig).unwrap();
        let access = Access {
            kubeconfig: Some(path),
            ..Access::default()
        };
        config(&access, &Environment::of_this_process())
    }

    /// Attack: an attacker on the network, or another user of this machine who listens at the address, reads the token
    /// of a user whose kubeconfig or flag names an address without TLS.
    #[test]
    fn sends_no_credentials_without_tls() {
        let user = |server: &str| {
            let kubeconfig = format!(
                "{{current-context: a, clusters: [{{name: a, cluster: {{server: '{server}'}}}}], contexts: [{{name: a, \
                 context: {{cluster: a, user: a}}}}], users: [{{name: a, user: {{token: t, username: u, password: p, \
                 tokenFile: /t, exec: {{apiVersion: v1, command: /bin/true}}, as: jane}}}}]}}"
            );
            config_of(&kubeconfig).unwrap().auth_info
        };
        for (server, is_sent) in [
            ("https://k.example", true),
            ("http://k.example", false),
            ("k.example:8080", false),
        ] {
            let user = user(server);
            let credentials = [
                user.token.is_some(),
                user.username.is_some(),
                user.password.is_some(),
                user.token_file.is_some(),
                user.exec.is_some(),
            ];
            assert_eq!(credentials, [is_sent; 5], "{server}");
            assert_eq!(user.impersonate.as_deref(), Some("jane"), "{server}");
        }
    }

    /// Fault: `insecure-skip-tls-verify` stays in a kubeconfig after a test, so the server's certificate is never
    /// verified against the CA certificate.
    #[test]
    fn refuses_an_authority_that_is_not_verified() {
        let pem = include_str!("../../../tests/seal/fixtures/other.pem");
        let authority = STANDARD.encode(pem);
        for (is_insecure, is_refused) in [(true, true), (false, false)] {
            let kubeconfig = format!(
                "{{current-context: a, contexts: [{{name: a, context: {{cluster: a}}}}], clusters: [{{name: a, cluster: \
                 {{server: 'https://k.example', insecure-skip-tls-verify: {is_insecure}, \
                 certificate-authority-data: {authority}}}}}]}}"
            );
            let config = config_of(&kubeconfig);
            let refusal = matches!(config, Err(ClusterError::InsecureWithAuthority));
            assert_eq!(refusal, is_refused, "{:?}", config.err());
        }
    }

    #[test]
    fn adds_a_scheme_to_an_address_without_one() {
        let cluster = |server: &str, insecure: bool| Cluster {
            server: Some(server.into()),
            insecure_skip_tls_verify: Some(insecure),
            ..Cluster::default()
        };
        for (cluster, want) in [
            (
                cluster("k.example:6443", true),
                Some("https://k.example:6443/"),
            ),
            (
                cluster("k.example:8080", false),
                Some("http://k.example:8080/"),
            ),
            (
                cluster("https://k.example", false),
                Some("https://k.example/"),
            ),
            (cluster("https://", false), None),
            (cluster("", false), None),
        ] {
            let uri = server(&cluster).ok().map(|uri| uri.to_string());
            assert_eq!(uri.as_deref(), want);
        }
    }
}
