//! `seal grant`: prints the permissions that let the Pods of a service account receive the values of SealedSecrets.

use anyhow::{Result, bail};
use clap::Args;
use kubeseal_library::environment::Environment;
use kubeseal_library::kubeconfig;
use serde_json::{Value as Json, json};
use shared::manifest;

use super::{Outcome, names, print};
use crate::failure::Failure;
use crate::seal_args::Cluster;

/// Arguments of `seal grant`.
#[derive(Debug, Args)]
#[command(
    override_usage = "seal grant <NAME>... --to <SERVICEACCOUNT> [OPTIONS]",
    after_help = "Prints a Role and a RoleBinding for each SealedSecret, with the verb `unseal` on it alone. Pods of the service \
account in this namespace can then receive its values with `seal-deliver agent`, `seal-deliver exec --from` or the CSI \
driver. To grant further SealedSecrets, run the command again.\n\n\
Examples:\n  seal grant db --to web -n shop\n  seal grant db,web-tls --to web -n shop > grants.yaml"
)]
pub struct Grant {
    /// SealedSecrets whose values the Pods may receive
    #[arg(required = true, value_name = "NAME", value_delimiter = ',')]
    pub objects: Vec<String>,
    /// Service account of the Pods
    #[arg(long, value_name = "SERVICEACCOUNT")]
    pub to: String,
    /// Namespace of the SealedSecrets and the service account; that of the context if not given
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The kubeconfig and the context whose namespace is the default.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Prints the Roles and RoleBindings.
///
/// # Errors
///
/// Fails if a name is not valid, or the namespace is unknown.
pub fn run(args: &Grant, environment: &Environment) -> Result<Outcome> {
    let namespace = namespace(args, environment)?;
    names::check_namespace(&namespace)?;
    check_account(&args.to, &args.objects)?;
    let mut text = String::new();
    for object in &args.objects {
        names::check_object(object)?;
        for manifest in [
            role(&namespace, object),
            binding(&namespace, object, &args.to),
        ] {
            text.push_str("---\n");
            text.push_str(&manifest::to_yaml(&manifest));
        }
    }
    print(text.as_bytes())
}

/// Checks that `account` is a valid name for a service account, without a prefix such as
/// `system:serviceaccount:NAMESPACE:` or `serviceaccount/`.
fn check_account(account: &str, objects: &[String]) -> Result<()> {
    if names::check_object(account).is_ok() {
        return Ok(());
    }
    let name = account.rsplit([':', '/']).next().unwrap_or_default();
    let failure = Failure::new(format!(
        "{account:?} is not a valid name for a service account"
    ));
    if name == account || names::check_object(name).is_err() {
        bail!(failure.hint("use lowercase letters, digits, `-` and `.`"));
    }
    let hint = format!(
        "pass the name alone, and its namespace with -n: seal grant {} --to {name}",
        objects.join(",")
    );
    bail!(failure.hint(hint));
}

fn namespace(args: &Grant, environment: &Environment) -> Result<String> {
    if let Some(namespace) = &args.namespace {
        return Ok(namespace.clone());
    }
    let choice = kubeconfig::Choice {
        file: args.cluster.kubeconfig.clone(),
        context: args.cluster.context.clone(),
    };
    match kubeconfig::namespace(&choice, environment)? {
        Some(namespace) => Ok(namespace),
        None => bail!(Failure::new("the namespace is unknown").hint("pass --namespace")),
    }
}

/// Returns the Role for one object. Names of SealedSecrets contain no colon, so the names of Roles and RoleBindings are
/// unambiguous.
fn role(namespace: &str, object: &str) -> Json {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": format!("unseal:{object}"), "namespace": namespace },
        "rules": [{
            "apiGroups": ["bitnami.com"],
            "resources": ["sealedsecrets"],
            "resourceNames": [object],
            "verbs": ["unseal"],
        }],
    })
}

fn binding(namespace: &str, object: &str, account: &str) -> Json {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": format!("unseal:{object}:{account}"), "namespace": namespace },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": format!("unseal:{object}"),
        },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }],
    })
}
