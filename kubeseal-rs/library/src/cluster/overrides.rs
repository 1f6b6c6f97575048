//! Applies `--server`, `--token` and similar flags on top of the kubeconfig, as kubectl does.

use std::fs::File;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig};

use super::ClusterError;
use crate::bounded::{self, Kind};

/// Values of the flags. Unset fields leave the kubeconfig as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The value of `--context`.
    pub context: Option<String>,
    /// The value of `--cluster`.
    pub cluster: Option<String>,
    /// The value of `--user`.
    pub user: Option<String>,
    /// The value of `--server`.
    pub server: Option<String>,
    /// The value of `--certificate-authority`.
    pub certificate_authority: Option<PathBuf>,
    /// Whether `--insecure-skip-tls-verify` is set.
    pub insecure: bool,
    /// The value of `--tls-server-name`.
    pub tls_server_name: Option<String>,
    /// The value of `--proxy-url`.
    pub proxy_url: Option<String>,
    /// Whether `--disable-compression` is set.
    pub disable_compression: bool,
    /// The value of `--token`. A secret, which [`HiddenString`] keeps out of `Debug` output.
    pub token: Option<HiddenString>,
    /// The value of `--username`.
    pub username: Option<String>,
    /// The value of `--password`, a secret like the token.
    pub password: Option<HiddenString>,
    /// The value of `--client-certificate`.
    pub client_certificate: Option<PathBuf>,
    /// The value of `--client-key`.
    pub client_key: Option<PathBuf>,
    /// The value of `--as`.
    pub impersonate: Option<String>,
    /// The value of `--as-uid`.
    pub impersonate_uid: Option<String>,
    /// The values of `--as-group`.
    pub impersonate_groups: Vec<String>,
}

/// A string that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct HiddenString(pub String);

impl std::fmt::Debug for HiddenString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl Overrides {
    /// Returns the cluster and user of the chosen context after the flags are applied, and the name of
    /// the user's entry. The kubeconfig may be empty. As in kubectl, a user that the context names and
    /// the file does not contain is anonymous.
    pub(super) fn choose(
        &self,
        kubeconfig: &Kubeconfig,
    ) -> Result<(Cluster, Option<String>, AuthInfo), ClusterError> {
        let context = self.selected_context(kubeconfig)?;
        let mut cluster = match &self.cluster {
            Some(name) => find_cluster(kubeconfig, name)
                .ok_or_else(|| ClusterError::NoSuchEntry("cluster", name.clone()))?,
            None => find_cluster(kubeconfig, &context.cluster).unwrap_or_default(),
        };
        let name = self.user.clone().or(context.user);
        let entry = name.as_deref().and_then(|name| find_user(kubeconfig, name));
        let mut user = match (&self.user, entry) {
            (Some(name), None) => return Err(ClusterError::NoSuchEntry("user", name.clone())),
            (_, entry) => entry.unwrap_or_default(),
        };
        self.change_cluster(&mut cluster)?;
        self.change_user(&mut user)?;
        Ok((cluster, name, user))
    }

    /// Returns the name of the chosen cluster's entry; empty if there is none.
    pub(super) fn cluster_name(&self, kubeconfig: &Kubeconfig) -> Result<String, ClusterError> {
        let context = self.selected_context(kubeconfig)?;
        Ok(self.cluster.clone().unwrap_or(context.cluster))
    }

    /// Returns the cluster and user without the files that flags name.
    pub(super) fn without_flags(&self, cluster: &Cluster, user: &AuthInfo) -> (Cluster, AuthInfo) {
        let (mut cluster, mut user) = (cluster.clone(), user.clone());
        for (flag, file) in [
            (
                &self.certificate_authority,
                &mut cluster.certificate_authority,
            ),
            (&self.client_certificate, &mut user.client_certificate),
            (&self.client_key, &mut user.client_key),
        ] {
            if flag.is_some() {
                *file = None;
            }
        }
        (cluster, user)
    }

    fn selected_context(&self, kubeconfig: &Kubeconfig) -> Result<Context, ClusterError> {
        let current = kubeconfig.current_context.as_ref();
        let current = current.filter(|name| !name.is_empty());
        let Some(name) = self.context.as_ref().or(current) else {
            return Ok(Context::default());
        };
        let entry = kubeconfig.contexts.iter().find(|entry| &entry.name == name);
        entry
            .map(|entry| entry.context.clone().unwrap_or_default())
            .ok_or_else(|| ClusterError::NoSuchEntry("context", name.clone()))
    }

    fn change_cluster(&self, cluster: &mut Cluster) -> Result<(), ClusterError> {
        override_field(&mut cluster.server, self.server.as_ref());
        set_file(
            "certificate-authority",
            self.certificate_authority.as_deref(),
            &mut cluster.certificate_authority,
            &mut cluster.certificate_authority_data,
        )?;
        override_field(&mut cluster.tls_server_name, self.tls_server_name.as_ref());
        override_field(&mut cluster.proxy_url, self.proxy_url.as_ref());
        if self.insecure {
            cluster.insecure_skip_tls_verify = Some(true);
            cluster.certificate_authority = None;
            cluster.certificate_authority_data = None;
        }
        if self.disable_compression {
            cluster.disable_compression = Some(true);
        }
        Ok(())
    }

    fn change_user(&self, auth: &mut AuthInfo) -> Result<(), ClusterError> {
        if let Some(HiddenString(token)) = &self.token {
            auth.token = Some(token.clone().into());
            auth.token_file = None;
            auth.exec = None;
            auth.auth_provider = None;
        }
        override_field(&mut auth.username, self.username.as_ref());
        if let Some(HiddenString(password)) = &self.password {
            auth.password = Some(password.clone().into());
        }
        set_file(
            "client-certificate",
            self.client_certificate.as_deref(),
            &mut auth.client_certificate,
            &mut auth.client_certificate_data,
        )?;
        set_file(
            "client-key",
            self.client_key.as_deref(),
            &mut auth.client_key,
            &mut auth.client_key_data,
        )?;
        self.impersonate(auth);
        Ok(())
    }

    /// Applies the impersonation flags.
    pub(super) fn impersonate(&self, auth: &mut AuthInfo) {
        override_field(&mut auth.impersonate, self.impersonate.as_ref());
        override_field(&mut auth.impersonate_uid, self.impersonate_uid.as_ref());
        if !self.impersonate_groups.is_empty() {
            auth.impersonate_groups = Some(self.impersonate_groups.clone());
        }
    }
}

/// Replaces the kubeconfig's file or data with the file of a flag. A kubeconfig can contain only
/// paths in UTF-8, so for any other path, the content of the file is set.
fn set_file<D: From<String>>(
    content: &'static str,
    path: Option<&Path>,
    file: &mut Option<String>,
    data: &mut Option<D>,
) -> Result<(), ClusterError> {
    let Some(path) = path else { return Ok(()) };
    if let Some(text) = path.to_str() {
        (*file, *data) = (Some(text.to_owned()), None);
        return Ok(());
    }
    let unreadable = |error| ClusterError::Unreadable {
        content,
        path: path.to_owned(),
        source: error,
    };
    let bytes = File::open(path).and_then(|file| bounded::read(file, 0, Kind::Credential));
    let encoded = STANDARD.encode(bytes.map_err(unreadable)?);
    (*file, *data) = (None, Some(encoded.into()));
    Ok(())
}

fn override_field(field: &mut Option<String>, value: Option<&String>) {
    if let Some(value) = value {
        *field = Some(value.clone());
    }
}

fn find_cluster(kubeconfig: &Kubeconfig, name: &str) -> Option<Cluster> {
    let entry = kubeconfig.clusters.iter().find(|entry| entry.name == name);
    entry.map(|entry| entry.cluster.clone().unwrap_or_default())
}

fn find_user(kubeconfig: &Kubeconfig, name: &str) -> Option<AuthInfo> {
    let entry = kubeconfig
        .auth_infos
        .iter()
        .find(|entry| entry.name == name);
    entry.map(|entry| entry.auth_info.clone().unwrap_or_default())
}
