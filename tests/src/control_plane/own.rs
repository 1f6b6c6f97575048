//! The processes of a control plane that this process started.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kube::{Client, CustomResourceExt};
use rustix::process::Signal;
use shared::resource::SealedSecret;

use super::pod_network::PodNetwork;
use super::process::Process;
use super::programs::{self, Programs};
use super::settings::Settings;
use super::{command_lines, definition, kubeconfig};
use crate::patience;
use crate::progress::print_progress;
use crate::scratch::Scratch;

/// Running processes, with the programs and settings to restart them.
pub(super) struct OwnProcesses {
    programs: Programs,
    settings: Settings,
    controllers: Option<Process>,
    api_server: Option<Process>,
    etcd: Option<Process>,
    /// The processes that only control planes with nodes need.
    workload_processes: OnceLock<[Process; 2]>,
    pod_network: PodNetwork,
    scratch: Arc<Scratch>,
}

impl OwnProcesses {
    /// Starts the processes and waits until the API server is ready.
    pub(super) async fn start(programs: Programs, scratch: Arc<Scratch>) -> Self {
        let start = Instant::now();
        let settings = Settings::write(scratch.path());
        let pod_network = PodNetwork::serve(&settings.pod_network_socket());
        let mut own = Self {
            programs,
            settings,
            controllers: None,
            api_server: None,
            etcd: None,
            workload_processes: OnceLock::new(),
            pod_network,
            scratch,
        };
        own.spawn_etcd();
        own.start_api_server().await;
        // Install the CRD before the controllers start, because the garbage collector discovers new kinds of owners
        // only twice a minute.
        definition::install(own.client().await, &SealedSecret::crd()).await;
        own.spawn_controller_manager();
        print_progress(&format!(
            "the control plane was ready after {:.1} s",
            start.elapsed().as_secs_f32()
        ));
        own
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.settings.admin_kubeconfig()
    }

    pub(super) fn pod_network(&self) -> &PodNetwork {
        &self.pod_network
    }

    /// Starts the scheduler and the controllers that create and route Pods, on the first call. These processes, like
    /// the kubelet, always run the program of `tests/control-plane`: `KUBEBUILDER_ASSETS` has no scheduler.
    pub(super) fn start_workload_processes(&self) {
        self.workload_processes.get_or_init(|| {
            let programs = Programs::Built(programs::build());
            let start = |name, command| Process::start(name, command, &self.scratch);
            let controllers = command_lines::workload_controllers(&programs, &self.settings);
            let scheduler = command_lines::scheduler(&programs, &self.settings);
            [
                start("workload-controllers", controllers),
                start("kube-scheduler", scheduler),
            ]
        });
    }

    pub(super) fn account_key(&self) -> PathBuf {
        self.settings.file("service-account.key")
    }

    pub(super) fn etcd_data(&self) -> PathBuf {
        self.settings.file("etcd")
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.settings.file(command_lines::AUDIT_LOG)
    }

    pub(super) async fn start_api_server(&mut self) {
        let command = command_lines::api_server(&self.programs, &self.settings);
        self.api_server = Some(Process::start("kube-apiserver", command, &self.scratch));
        self.wait_until_ready().await;
    }

    pub(super) fn limit_events(&mut self, per_second: u32) {
        self.settings.limit_events(per_second);
    }

    pub(super) fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    pub(super) async fn start_etcd(&mut self) {
        self.spawn_etcd();
        self.wait_until_ready().await;
    }

    pub(super) fn stop_etcd(&mut self) {
        self.etcd = None;
    }

    pub(super) fn signal_api_server(&mut self, signal: Signal) {
        self.api_server
            .as_mut()
            .expect("the API server is running")
            .signal(signal);
    }

    fn spawn_etcd(&mut self) {
        let command = command_lines::etcd(&self.programs, &self.settings);
        self.etcd = Some(Process::start("etcd", command, &self.scratch));
    }

    fn spawn_controller_manager(&mut self) {
        if self.programs.has_controllers() {
            let command = command_lines::controllers(&self.programs, &self.settings);
            self.controllers = Some(Process::start(
                "kube-controller-manager",
                command,
                &self.scratch,
            ));
        } else {
            print_progress(
                "KUBEBUILDER_ASSETS has no kube-controller-manager: tests that need controllers will fail",
            );
        }
    }

    async fn wait_until_ready(&mut self) {
        let client = self.client().await;
        patience::until("the API server is ready", async || {
            for process in [&mut self.etcd, &mut self.api_server].into_iter().flatten() {
                process.assert_running();
            }
            is_ready(&client).await.then_some(())
        })
        .await;
    }

    async fn client(&self) -> Client {
        super::client(kubeconfig::config(kubeconfig::read(&self.kubeconfig())).await)
    }
}

async fn is_ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz")
        .body(Vec::new())
        .expect("a valid request");
    client.request_text(request).await.is_ok()
}
