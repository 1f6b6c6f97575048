//! `--server`, `--token` and their like, put over what the kubeconfig says, as kubectl does.

use kube::config::{
    AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};

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

/// The name of what the flags alone describe.
const OURS: &str = "from-flags";

impl Overrides {
    /// Puts the flags over the context in use, in a kubeconfig that may be empty.
    pub(super) fn put_over(&self, kubeconfig: &mut Kubeconfig) {
        let mut context = self.chosen_context(kubeconfig);
        let cluster = self
            .cluster
            .clone()
            .unwrap_or_else(|| context.cluster.clone());
        let user = self.user.clone().or_else(|| context.user.clone());
        let user = user.filter(|user| !user.is_empty());
        let mut settings = cluster_of(kubeconfig, &cluster);
        self.change_cluster(&mut settings);
        let mut auth = user.map_or_else(AuthInfo::default, |user| auth_of(kubeconfig, &user));
        self.change_auth(&mut auth);
        context.cluster = OURS.into();
        context.user = Some(OURS.into());
        kubeconfig.clusters.push(NamedCluster {
            name: OURS.into(),
            cluster: Some(settings),
            ..NamedCluster::default()
        });
        kubeconfig.auth_infos.push(NamedAuthInfo {
            name: OURS.into(),
            auth_info: Some(auth),
            ..NamedAuthInfo::default()
        });
        kubeconfig.contexts.push(NamedContext {
            name: OURS.into(),
            context: Some(context),
            ..NamedContext::default()
        });
        kubeconfig.current_context = Some(OURS.into());
    }

    fn chosen_context(&self, kubeconfig: &Kubeconfig) -> Context {
        let name = self
            .context
            .as_ref()
            .or(kubeconfig.current_context.as_ref());
        let named = kubeconfig
            .contexts
            .iter()
            .find(|named| Some(&named.name) == name);
        named
            .and_then(|named| named.context.clone())
            .unwrap_or_default()
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

    fn change_auth(&self, auth: &mut AuthInfo) {
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
        put(&mut auth.impersonate, self.impersonate.as_ref());
        put(&mut auth.impersonate_uid, self.impersonate_uid.as_ref());
        if !self.impersonate_groups.is_empty() {
            auth.impersonate_groups = Some(self.impersonate_groups.clone());
        }
    }

    /// Do the flags name a context that is not there?
    pub(super) fn missing_context(&self, kubeconfig: &Kubeconfig) -> Option<String> {
        let wanted = self.context.as_ref()?;
        let is_there = kubeconfig
            .contexts
            .iter()
            .any(|named| &named.name == wanted);
        (!is_there).then(|| wanted.clone())
    }
}

fn put(field: &mut Option<String>, value: Option<&String>) {
    if let Some(value) = value {
        *field = Some(value.clone());
    }
}

fn cluster_of(kubeconfig: &Kubeconfig, name: &str) -> Cluster {
    let named = kubeconfig.clusters.iter().find(|named| named.name == name);
    named
        .and_then(|named| named.cluster.clone())
        .unwrap_or_default()
}

fn auth_of(kubeconfig: &Kubeconfig, name: &str) -> AuthInfo {
    let named = kubeconfig
        .auth_infos
        .iter()
        .find(|named| named.name == name);
    named
        .and_then(|named| named.auth_info.clone())
        .unwrap_or_default()
}
