//! Runs the controller that a Deployment describes, in place of a kubelet: with the arguments and environment variables
//! of the Deployment, as its service account.

use std::path::PathBuf;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, EnvVar};

use crate::control_plane::ControlPlane;
use crate::patience::until;
use crate::pod::{self, Pod};
use crate::{binaries, http, upstream};

/// A running controller. Dropping this value stops it.
pub struct DeployedController {
    pod: Pod,
    port: u16,
}

/// The program in the Pod.
pub enum Program {
    /// This project's controller, as built for the tests.
    Ours,
    /// Bitnami's controller.
    Upstream,
    /// `/usr/local/bin/controller` in this root directory, as the user 1001, with only `/tmp` writable.
    InRoot(PathBuf),
}

impl DeployedController {
    /// Starts the controller, waits until it is ready, and routes the Service of the same name to it.
    ///
    /// All processes share the ports of this machine, so additional arguments give each controller its own ports.
    pub async fn start(plane: &ControlPlane, home: &str, name: &str, program: Program) -> Self {
        let path = match program {
            Program::Upstream => "/healthz",
            Program::Ours | Program::InRoot(_) => "/readyz",
        };
        let mut deployed = Self::start_without_waiting(plane, home, name, program).await;
        deployed.wait_until_ready(path).await;
        plane.existing(home).route(name, deployed.port).await;
        deployed
    }

    /// Starts the controller without waiting.
    pub async fn start_without_waiting(
        plane: &ControlPlane,
        home: &str,
        name: &str,
        program: Program,
    ) -> Self {
        let namespace = plane.existing(home);
        let deployment = namespace.api::<Deployment>().get(name).await;
        let deployment = deployment.expect("the Deployment is installed");
        let pod = deployment.spec.and_then(|spec| spec.template.spec);
        let pod = pod.expect("the API server requires a Pod template");
        let port = http::free_port();
        let args = args(&pod.containers[0], port);
        let variables = variables(&pod.containers[0], home, name);
        let account = pod.service_account_name.as_deref().unwrap_or("default");
        let root = match program {
            Program::Ours => pod::Root::Host(binaries::controller()),
            Program::Upstream => pod::Root::Host(upstream::upstream_controller()),
            Program::InRoot(root) => pod::Root::Image(root),
        };
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let pod = Pod::spawn(plane, &namespace, account, root, &args, &variables).await;
        Self { pod, port }
    }

    async fn wait_until_ready(&mut self, path: &str) {
        until(&format!("{path} returns 200"), async || {
            let exit_status = self.pod.try_wait();
            assert!(
                exit_status.is_none(),
                "the controller exited early:\n{}",
                self.pod.log()
            );
            let response = http::get(self.port, path).await;
            response
                .is_ok_and(|response| response.starts_with("HTTP/1.1 200"))
                .then_some(())
        })
        .await;
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        self.pod.log()
    }

    /// Stops the controller with SIGTERM, and waits.
    pub fn stop(self) {
        self.pod.stop();
    }
}

/// Returns the container's environment variables as a kubelet would set them, for a new Pod name and uid.
fn variables(container: &Container, home: &str, name: &str) -> Vec<(String, String)> {
    let pod = format!("{name}-{:08x}", shared::random::number::<u32>());
    let uid = format!("{:032x}", shared::random::number::<u128>());
    let value = |variable: &EnvVar| {
        let field = variable.value_from.as_ref()?.field_ref.as_ref()?;
        match field.field_path.as_str() {
            "metadata.name" => Some(pod.clone()),
            "metadata.namespace" => Some(home.to_owned()),
            "metadata.uid" => Some(uid.clone()),
            other => panic!("unknown field reference {other}"),
        }
    };
    let variables = container.env.iter().flatten();
    variables
        .map(|variable| {
            let literal = variable.value.clone();
            let value = literal.or_else(|| value(variable));
            (variable.name.clone(), value.unwrap_or_default())
        })
        .collect()
}

fn args(container: &Container, port: u16) -> Vec<String> {
    assert_eq!(container.command, Some(vec!["controller".to_owned()]));
    let port_args = [
        format!("--listen-addr=127.0.0.1:{port}"),
        "--listen-metrics-addr=127.0.0.1:0".to_owned(),
    ];
    container
        .args
        .iter()
        .flatten()
        .cloned()
        .chain(port_args)
        .collect()
}
