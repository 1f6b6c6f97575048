//! `--server`, `--token` and their like, put over what the kubeconfig says, as kubectl does.

use kube::config::{AuthInfo, Cluster, Context, Kubeconfig};

use super::ClusterError;

/// What the flags say. Absent fields leave the kubeconfig as it is.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--context`.
    pub context: Option<String>,
    /// `--cluster`.
    pub cluster: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--server`.
    pub server: Option<String>,
    /// `--certificate-authority`.
    pub certificate_authority: Option<String>,
    /// `--insecure-skip-tls-verify`.
    pub insecure: bool,
    /// `--tls-server-name`.
    pub tls_server_name: Option<String>,
    /// `--proxy-url`.
    pub proxy_url: Option<String>,
    /// `--disable-compression`.
    pub disable_compression: bool,
    /// `--token`. A secret, kept from `Debug` by [`Hidden`].
    pub token: Option<Hidden>,
    /// `--username`.
    pub username: Option<String>,
    /// `--password`, likewise.
    pub password: Option<Hidden>,
    /// `--client-certificate`.
    pub client_certificate: Option<String>,
    /// `--client-key`.
    pub client_key: Option<String>,
    /// `--as`.
    pub impersonate: Option<String>,
    /// `--as-uid`.
    pub impersonate_uid: Option<String>,
    /// `--as-group`.
    pub impersonate_groups: Vec<String>,
}

/// A text that is not shown.
#[derive(Clone)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl Overrides {
    /// Cluster and user of the context in use, with the flags over them, and the name of the user's entry.
    /// The kubeconfig may be empty.
    /// A user that a context names and the file does not have is nobody, as for kubectl.
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

    /// The flags about whom to act as.
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
