//! Applies `--server`, `--token` and similar flags on top of the kubeconfig, as kubectl does.

use kube::config::{AuthInfo, Cluster, Context, Kubeconfig};

use super::ClusterError;

/// Values of the flags. Unset fields leave the kubeconfig as it is.
#[derive(Debug, Clone, Default)]
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
    pub certificate_authority: Option<String>,
    /// Whether `--insecure-skip-tls-verify` is set.
    pub insecure: bool,
    /// The value of `--tls-server-name`.
    pub tls_server_name: Option<String>,
    /// The value of `--proxy-url`.
    pub proxy_url: Option<String>,
    /// Whether `--disable-compression` is set.
    pub disable_compression: bool,
    /// The value of `--token`. A secret, which [`Hidden`] keeps out of `Debug` output.
    pub token: Option<Hidden>,
    /// The value of `--username`.
    pub username: Option<String>,
    /// The value of `--password`, a secret like the token.
    pub password: Option<Hidden>,
    /// The value of `--client-certificate`.
    pub client_certificate: Option<String>,
    /// The value of `--client-key`.
    pub client_key: Option<String>,
    /// The value of `--as`.
    pub impersonate: Option<String>,
    /// The value of `--as-uid`.
    pub impersonate_uid: Option<String>,
    /// The values of `--as-group`.
    pub impersonate_groups: Vec<String>,
}

/// A text that `Debug` does not show.
#[derive(Clone)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl Overrides {
    /// Returns cluster and user of the chosen context after the flags are applied, and the name of
    /// the user's entry. The kubeconfig may be empty. As in kubectl, a user that the context names
    /// and the file lacks is an anonymous user.
    pub(super) fn choose(
        &self,
        kubeconfig: &Kubeconfig,
    ) -> Result<(Cluster, Option<String>, AuthInfo), ClusterError> {
        let context = self.chosen_context(kubeconfig)?;
        let mut cluster = match &self.cluster {
            Some(name) => cluster_of(kubeconfig, name)
                .ok_or_else(|| ClusterError::NoSuchEntry("cluster", name.clone()))?,
            None => cluster_of(kubeconfig, &context.cluster).unwrap_or_default(),
        };
        let name = self.user.clone().or(context.user);
        let found = name.as_deref().and_then(|name| user_of(kubeconfig, name));
        let mut user = match (&self.user, found) {
            (Some(name), None) => return Err(ClusterError::NoSuchEntry("user", name.clone())),
            (_, found) => found.unwrap_or_default(),
        };
        self.change_cluster(&mut cluster);
        self.change_user(&mut user);
        Ok((cluster, name, user))
    }

    fn chosen_context(&self, kubeconfig: &Kubeconfig) -> Result<Context, ClusterError> {
        let current = kubeconfig.current_context.as_ref();
        let current = current.filter(|name| !name.is_empty());
        let Some(name) = self.context.as_ref().or(current) else {
            return Ok(Context::default());
        };
        let named = kubeconfig.contexts.iter().find(|named| &named.name == name);
        named
            .map(|named| named.context.clone().unwrap_or_default())
            .ok_or_else(|| ClusterError::NoSuchEntry("context", name.clone()))
    }

    fn change_cluster(&self, cluster: &mut Cluster) {
        put(&mut cluster.server, self.server.as_ref());
        if self.certificate_authority.is_some() {
            cluster.certificate_authority_data = None;
        }
        put(
            &mut cluster.certificate_authority,
            self.certificate_authority.as_ref(),
        );
        put(&mut cluster.tls_server_name, self.tls_server_name.as_ref());
        put(&mut cluster.proxy_url, self.proxy_url.as_ref());
        if self.insecure {
            cluster.insecure_skip_tls_verify = Some(true);
            cluster.certificate_authority = None;
            cluster.certificate_authority_data = None;
        }
        if self.disable_compression {
            cluster.disable_compression = Some(true);
        }
    }

    fn change_user(&self, auth: &mut AuthInfo) {
        if let Some(Hidden(token)) = &self.token {
            auth.token = Some(token.clone().into());
            auth.token_file = None;
            auth.exec = None;
            auth.auth_provider = None;
        }
        put(&mut auth.username, self.username.as_ref());
        if let Some(Hidden(password)) = &self.password {
            auth.password = Some(password.clone().into());
        }
        if self.client_certificate.is_some() {
            auth.client_certificate_data = None;
        }
        put(
            &mut auth.client_certificate,
            self.client_certificate.as_ref(),
        );
        if self.client_key.is_some() {
            auth.client_key_data = None;
        }
        put(&mut auth.client_key, self.client_key.as_ref());
        self.impersonate(auth);
    }

    /// Applies the impersonation flags.
    pub(super) fn impersonate(&self, auth: &mut AuthInfo) {
        put(&mut auth.impersonate, self.impersonate.as_ref());
        put(&mut auth.impersonate_uid, self.impersonate_uid.as_ref());
        if !self.impersonate_groups.is_empty() {
            auth.impersonate_groups = Some(self.impersonate_groups.clone());
        }
    }
}

fn put(field: &mut Option<String>, value: Option<&String>) {
    if let Some(value) = value {
        *field = Some(value.clone());
    }
}

fn cluster_of(kubeconfig: &Kubeconfig, name: &str) -> Option<Cluster> {
    let named = kubeconfig.clusters.iter().find(|named| named.name == name);
    named.map(|named| named.cluster.clone().unwrap_or_default())
}

fn user_of(kubeconfig: &Kubeconfig, name: &str) -> Option<AuthInfo> {
    let named = kubeconfig
        .auth_infos
        .iter()
        .find(|named| named.name == name);
    named.map(|named| named.auth_info.clone().unwrap_or_default())
}
