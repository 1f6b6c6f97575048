use std::path::PathBuf;

use clap::Args;

/// The cluster to use.
#[derive(Debug, Clone, Default, Args)]
pub struct Cluster {
    /// Kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// A controller in the cluster.
#[derive(Debug, Clone, Default, Args)]
pub struct Controller {
    /// Name of the controller's Service
    #[arg(long = "controller-name", id = "controller_name", value_name = "NAME")]
    pub name: Option<String>,
    /// Namespace of the controller
    #[arg(
        long = "controller-namespace",
        id = "controller_namespace",
        value_name = "NAME"
    )]
    pub namespace: Option<String>,
}
