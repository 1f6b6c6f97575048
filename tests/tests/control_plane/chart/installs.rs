//! Tests installations, upgrades, the migration from Bitnami's releases, and rollbacks to them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace as ApiNamespace, Pod, Secret as ApiSecret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use shared::resource::SealedSecret;
use tests::control_plane::ControlPlane;
use tests::deployed::{
    DeployedController,
    Program::{Ours, Upstream},
};
use tests::lifecycle::User;
use tests::patience::until;
use tests::{roles, upstream};

use super::helm::{Helm, chart};

const DEFINITION: &str = "sealedsecrets.bitnami.com";
const KEYS: &str = "sealedsecrets.bitnami.com/sealed-secrets-key=active";

#[tokio::test]
async fn the_defaults_work_and_uninstalling_removes_only_the_controller() {
    let plane = empty_plane().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let chart = chart();
    let install = [
        "upgrade",
        "--install",
        "sealed-secrets",
        &chart,
        "--namespace",
        "kube-system",
    ];
    helm.run(&install);
    let controller = DeployedController::start(&plane, "kube-system", "sealed-secrets", Ours).await;
    let user = User::new(&plane, "kube-system", "sealed-secrets").await;
    user.run_lifecycle(&controller).await;
    user.wait_until_synced("kept").await;
    controller.stop();

    // An upgrade also updates the CRD.
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin());
    let columns = async || {
        let definition = definitions.get(DEFINITION).await.unwrap();
        let columns = definition.spec.versions[0]
            .additional_printer_columns
            .clone();
        columns.unwrap_or_default()
    };
    let installed = columns().await;
    assert!(!installed.is_empty());
    let removal = json!([{ "op": "remove", "path": "/spec/versions/0/additionalPrinterColumns" }]);
    let patch = Patch::Json::<()>(serde_json::from_value(removal).unwrap());
    definitions
        .patch(DEFINITION, &PatchParams::default(), &patch)
        .await
        .unwrap();
    helm.run(&install);
    assert_eq!(columns().await, installed);

    let keys = key_ids(&plane, "kube-system").await;
    let secret = user.wait_for_value("kept", "1", "").await;
    helm.run(&["uninstall", "sealed-secrets", "--namespace", "kube-system"]);
    assert!(definitions.get_opt(DEFINITION).await.unwrap().is_some());
    let sealed: Api<SealedSecret> = user.namespace.api();
    assert!(sealed.get_opt("kept").await.unwrap().is_some());
    assert_eq!(key_ids(&plane, "kube-system").await, keys);
    assert_eq!(
        user.wait_for_value("kept", "1", "")
            .await
            .resource_version(),
        secret.resource_version()
    );

    // After a reinstallation, the controller uses the same keys.
    helm.run(&install);
    let controller = DeployedController::start(&plane, "kube-system", "sealed-secrets", Ours).await;
    user.apply("again", "3").await;
    user.wait_for_value("again", "3", &controller.log()).await;
    assert_eq!(key_ids(&plane, "kube-system").await, keys);
}

#[tokio::test]
async fn takes_over_a_release_of_bitnamis_chart_and_can_be_rolled_back() {
    let plane = empty_plane().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let (upstream_chart, chart) = (upstream::chart().to_string_lossy().into_owned(), chart());
    let home = ["--namespace", "kube-system"];
    let name = "sealed-secrets-controller";
    let name_args = ["--set", "fullnameOverride=sealed-secrets-controller"];
    helm.run(
        &[
            &["install", "sealed", &upstream_chart][..],
            &home,
            &name_args,
        ]
        .concat(),
    );
    let user = User::new(&plane, "kube-system", name).await;
    let controller = DeployedController::start(&plane, "kube-system", name, Upstream).await;
    user.apply("old", "1").await;
    let secret = user.wait_for_value("old", "1", &controller.log()).await;
    user.wait_until_synced("old").await;
    controller.stop();

    // Only the image changes: Deployment, arguments, account and roles are Bitnami's.
    let controller = DeployedController::start(&plane, "kube-system", name, Ours).await;
    user.run_lifecycle(&controller).await;
    controller.stop();
    let keys = key_ids(&plane, "kube-system").await;

    // Replace the chart too. The CRD does not belong to the release, and the notes describe how to adopt it.
    let notes = helm.run(&[&["upgrade", "sealed", &chart][..], &home, &name_args].concat());
    assert!(notes.contains("does not belong to this release"), "{notes}");
    let controller = DeployedController::start(&plane, "kube-system", name, Ours).await;
    user.apply("kept", "2").await;
    user.wait_for_value("kept", "2", &controller.log()).await;
    controller.stop();

    // Roll back, and upgrade again with all values of Bitnami's release, including its image.
    helm.run(&[&["rollback", "sealed", "1"][..], &home].concat());
    let controller = DeployedController::start(&plane, "kube-system", name, Upstream).await;
    user.apply("back", "1").await;
    user.wait_for_value("back", "1", &controller.log()).await;
    controller.stop();
    helm.run(&[&["upgrade", "sealed", &chart, "--reuse-values"][..], &home].concat());
    let controller = DeployedController::start(&plane, "kube-system", name, Upstream).await;
    user.apply("back", "2").await;
    user.wait_for_value("back", "2", &controller.log()).await;
    controller.stop();

    // Adopt the CRD as described in the notes.
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin());
    let ownership = json!({ "metadata": {
        "labels": { "app.kubernetes.io/managed-by": "Helm" },
        "annotations": { "meta.helm.sh/release-name": "sealed", "meta.helm.sh/release-namespace": "kube-system" },
    } });
    definitions
        .patch(
            DEFINITION,
            &PatchParams::default(),
            &Patch::Merge(ownership),
        )
        .await
        .unwrap();
    helm.run(&[&["upgrade", "sealed", &chart][..], &home, &name_args].concat());
    let controller = DeployedController::start(&plane, "kube-system", name, Ours).await;
    user.apply("kept", "3").await;
    user.wait_for_value("kept", "3", &controller.log()).await;
    until(
        "the status has a field that only this project's CRD keeps",
        async || {
            let sealed: Api<SealedSecret> = user.namespace.api();
            let status = sealed.get("kept").await.unwrap().status?;
            (status.items.len() == 1).then_some(())
        },
    )
    .await;

    assert_eq!(key_ids(&plane, "kube-system").await, keys);
    assert_eq!(
        user.wait_for_value("old", "1", "").await.uid(),
        secret.uid()
    );
    controller.stop();
    helm.run(&[&["uninstall", "sealed"][..], &home].concat());
    assert!(definitions.get_opt(DEFINITION).await.unwrap().is_some());
    assert_eq!(
        user.wait_for_value("old", "1", "").await.resource_version(),
        secret.resource_version()
    );
    assert_eq!(key_ids(&plane, "kube-system").await, keys);
}

/// The name of each group of values, and the values, which are installed together.
const GROUPS: &[(&str, &str)] = &[
    (
        "names",
        "{nameOverride: vault, commonLabels: {team: red}, commonAnnotations: {a: b}}",
    ),
    (
        "image",
        "{image: {registry: r.example.com, tag: v1, pullSecrets: [one]}, revisionHistoryLimit: 2}",
    ),
    (
        "keys",
        "{secretName: my-key, keyttl: 48h, keyrenewperiod: '0', privateKeyLabels: {a: b}, privateKeyAnnotations: {c: d}, keycutofftime: 'Mon, 02 Jan 2006 15:04:05 -0700'}",
    ),
    (
        "behavior",
        "{skipRecreate: true, correctDrift: false, maxRetries: 7, watchForSecrets: true, rateLimit: 20, rateLimitBurst: 20, kubeClientQPS: 50, kubeClientBurst: 100, refuseRandomTemplates: true, oldGCBehavior: true, forbidSecretTypes: [kubernetes.io/service-account-token], forbidSecretMetadata: [owner=helm], forbidTemplates: [team-*], allowedScopes: [prod=strict], maxSealingKeyAge: 8760h}",
    ),
    (
        "logs",
        "{logInfoStdout: false, logLevel: ERROR, logFormat: json, updateStatus: false}",
    ),
    (
        "probes",
        "{startupProbe: {enabled: true}, livenessProbe: {enabled: false}, customLivenessProbe: {exec: {command: [controller, --version]}}, resources: {limits: {memory: 64Mi}}}",
    ),
    (
        "scheduling",
        "{nodeSelector: {a: b}, tolerations: [{operator: Exists}], affinity: {podAffinity: {}}, runtimeClassName: gvisor, dnsPolicy: Default, hostUsers: false, topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}",
    ),
    (
        "volumes",
        "{additionalVolumes: [{name: more, emptyDir: {}}], additionalVolumeMounts: [{name: more, mountPath: /more}], extraEnv: [{name: A, value: b}]}",
    ),
    (
        "ports",
        "{hostNetwork: true, containerPorts: {http: 9090, metrics: 9091}, service: {type: NodePort, port: 80}, metrics: {service: {type: LoadBalancer}}}",
    ),
    (
        "ingress",
        "ingress: {enabled: true, tls: true, selfSigned: true, ingressClassName: a, extraHosts: [{name: b.example.com, path: /v1/certs.pem}]}",
    ),
    (
        "network policy",
        "{networkPolicy: {enabled: true, egress: {enabled: true}}, pdb: {create: true, maxUnavailable: 1}}",
    ),
    (
        "account",
        "{serviceAccount: {name: another, labels: {a: b}}, rbac: {labels: {a: b}}}",
    ),
    (
        "metrics",
        "{metrics: {omitSecretLabels: true, dashboards: {create: true}}, authorizedEndpoints: {enabled: true, port: 18443}}",
    ),
    (
        "more objects",
        "extraDeploy: [{apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ .Release.Name }}-more'}}]",
    ),
];

#[tokio::test]
async fn every_group_of_values_installs_and_works() {
    let plane = ControlPlane::start().await;
    let endpoints = json!({
        "metadata": { "name": "kubernetes" },
        "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }], "ports": [{ "port": 6443 }] }],
    });
    let default: Api<k8s_openapi::api::core::v1::Endpoints> =
        Api::namespaced(plane.admin(), "default");
    let endpoints = serde_json::from_value(endpoints).unwrap();
    default
        .create(&PostParams::default(), &endpoints)
        .await
        .unwrap();
    let helm = Helm::for_cluster(plane.kubeconfig());
    for (group, values) in GROUPS {
        eprintln!("values: {group}");
        let namespace = plane.namespace("home").await;
        let home = namespace.name();
        let (file, chart) = (helm.write_values(values), chart());
        helm.run(&[
            "install",
            "sealed-secrets",
            &chart,
            "--namespace",
            home,
            "-f",
            &file,
        ]);
        let name = match *group {
            "names" => "sealed-secrets-vault",
            _ => "sealed-secrets",
        };
        let controller = DeployedController::start(&plane, home, name, Ours).await;
        let user = User::new(&plane, home, name).await;
        user.run_lifecycle(&controller).await;
        controller.stop();
        helm.run(&["uninstall", "sealed-secrets", "--namespace", home]);
    }
}

#[tokio::test]
async fn with_namespaced_roles_no_request_is_forbidden() {
    let plane = ControlPlane::start().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let (home, additional) = (plane.namespace("home").await, plane.namespace("also").await);
    let values = format!(
        "{{rbac: {{clusterRole: false, namespacedRoles: true}}, additionalNamespaces: [{}]}}",
        additional.name()
    );
    let (file, chart) = (helm.write_values(&values), chart());
    helm.run(&[
        "install",
        "sealed-secrets",
        &chart,
        "--namespace",
        home.name(),
        "-f",
        &file,
    ]);
    let bindings = Api::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>::all(plane.admin());
    let bindings = bindings.list(&ListParams::default()).await.unwrap();
    let own_bindings = bindings.iter().filter(|binding| {
        let mut subjects = binding.subjects.iter().flatten();
        subjects.any(|subject| subject.namespace.as_deref() == Some(home.name()))
    });
    assert_eq!(own_bindings.count(), 0);

    let (home_name, additional_name) = (home.name().to_owned(), additional.name().to_owned());
    let controller = DeployedController::start(&plane, &home_name, "sealed-secrets", Ours).await;
    for namespace in [home_name.as_str(), additional_name.as_str()] {
        let namespace = plane.existing(namespace);
        let user = User::in_namespace(&plane, namespace, &home_name, "sealed-secrets").await;
        user.run_lifecycle(&controller).await;
    }
    let log = controller.log();
    assert!(!log.contains("forbidden"), "{log}");
    controller.stop();

    // An upgrade without additional namespaces also succeeds.
    let file = helm.write_values("rbac: {clusterRole: false, namespacedRoles: true}");
    helm.run(&[
        "upgrade",
        "sealed-secrets",
        &chart,
        "--namespace",
        &home_name,
        "-f",
        &file,
    ]);
    let controller = DeployedController::start(&plane, &home_name, "sealed-secrets", Ours).await;
    let user = User::in_namespace(
        &plane,
        plane.namespace("user").await,
        &home_name,
        "sealed-secrets",
    )
    .await;
    user.apply("not-here", "1").await;
    drop(user);
    let log = controller.log();
    assert!(!log.contains("forbidden"), "{log}");
}

#[tokio::test]
async fn an_account_with_permissions_only_in_its_namespace_installs_upgrades_and_uninstalls() {
    // On the shared control plane, other tests search the whole cluster for a controller's Service.
    let plane = ControlPlane::start().await;
    let home = plane.namespace("team").await;
    let everything = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    roles::create_caller_with(&home, "installer", &everything).await;
    let client = plane.client_of(home.name(), "installer").await;
    until("the permissions take effect", async || {
        let secrets: Api<ApiSecret> = Api::namespaced(client.clone(), home.name());
        secrets.list(&ListParams::default()).await.ok()
    })
    .await;
    let helm = Helm::for_cluster(&plane.kubeconfig_of(home.name(), "installer").await);
    let chart = chart();
    let own_permissions = "rbac.clusterRole=false,rbac.namespacedRoles=true";
    let args = ["upgrade", "--install", "sealed-secrets", &chart];
    let args = [&args[..], &["--namespace", home.name(), "--set"]].concat();
    let error = helm.run_failing(&[&args[..], &[own_permissions]].concat());
    assert!(
        error.contains("customresourcedefinitions"),
        "the account has no permission to read CRDs: {error}"
    );
    let values = format!("{own_permissions},crds.install=false");
    for _ in 0..2 {
        helm.run(&[&args[..], &[&values]].concat());
    }
    assert!(home.api::<Deployment>().get("sealed-secrets").await.is_ok());
    helm.run(&["uninstall", "sealed-secrets", "--namespace", home.name()]);
}

#[tokio::test]
async fn replicas_pass_the_lifecycle_test_when_one_of_them_stops() {
    let plane = ControlPlane::start().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let chart = chart();
    let values = helm.write_values("{replicas: 2, pdb: {create: true}}");
    helm.run(&[
        "install",
        "sealed-secrets",
        &chart,
        "--namespace",
        "kube-system",
        "-f",
        &values,
    ]);
    let first = DeployedController::start(&plane, "kube-system", "sealed-secrets", Ours).await;
    let second = DeployedController::start(&plane, "kube-system", "sealed-secrets", Ours).await;
    let user = User::new(&plane, "kube-system", "sealed-secrets").await;
    user.run_lifecycle(&second).await;
    assert_eq!(
        key_ids(&plane, "kube-system").await.len(),
        1,
        "both replicas use the same key"
    );
    first.stop();
    user.apply("later", "1").await;
    user.wait_for_value("later", "1", &second.log()).await;
}

/// Attack: an attacker breaks out of the Pod with a privilege that the restricted Pod Security Standard forbids.
#[tokio::test]
async fn the_pod_is_admitted_where_pods_are_restricted() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("restricted").await;
    let enforce =
        json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    let namespaces: Api<ApiNamespace> = Api::all(plane.admin());
    namespaces
        .patch(
            namespace.name(),
            &PatchParams::default(),
            &Patch::Merge(enforce),
        )
        .await
        .unwrap();
    let render = super::render::RenderedChart::new(
        "{serviceAccount: {create: false}, authorizedEndpoints: {enabled: true}, startupProbe: {enabled: true}}",
    );
    let template = &render.object("Deployment")["spec"]["template"];
    let mut pod = json!({ "metadata": { "name": "controller" }, "spec": template["spec"] });
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pods: Api<Pod> = namespace.api();
    until(
        "the namespace has its default service account",
        async || {
            let object: Pod = serde_json::from_value(pod.clone()).unwrap();
            let response = pods.create(&dry_run, &object).await;
            match response {
                Err(error) if error.to_string().contains("serviceaccount") => None,
                response => Some(response.map(|_| ()).map_err(|error| error.to_string())),
            }
        },
    )
    .await
    .expect("the Pod meets the restricted standard");
    // The same Pod with a forbidden setting is rejected, so this admission check is active.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let object: Pod = serde_json::from_value(pod).unwrap();
    let error = pods
        .create(&dry_run, &object)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("violates PodSecurity"), "{error}");
}

/// Starts a control plane without the SealedSecret CRD.
pub async fn empty_plane() -> ControlPlane {
    let plane = ControlPlane::start().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin());
    definitions
        .delete(DEFINITION, &DeleteParams::default())
        .await
        .unwrap();
    until("the CRD is deleted", async || {
        definitions
            .get_opt(DEFINITION)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    plane
}

/// Returns the names and uids of the active keys.
pub async fn key_ids(plane: &ControlPlane, home: &str) -> Vec<(String, Option<String>)> {
    let secrets: Api<ApiSecret> = Api::namespaced(plane.admin(), home);
    let key_secrets = secrets
        .list(&ListParams::default().labels(KEYS))
        .await
        .unwrap();
    key_secrets
        .iter()
        .map(|key| (key.name_any(), key.uid()))
        .collect()
}
