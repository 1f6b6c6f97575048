//! Tests `seal doctor` with each fault in the connection to the controller, and with files that the controller checks.
//! Stories cover other faults in a file.

use std::collections::BTreeMap;
use std::fs;

use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use serde_json::json;
use tests::patience::until;
use tests::roles;
use tests::sealing::KEYS;

use super::site::{Site, output_text, seal_in};

/// Runs `seal doctor`. Returns the line of the first failed step, and its remedy.
fn first_failure(site: &Site<'_>, args: &[&str]) -> String {
    let args: Vec<&str> = ["doctor"].iter().chain(args).copied().collect();
    let output = site.run_with_exit_code(1, &args);
    let lines = output
        .lines()
        .skip_while(|line| !line.starts_with("BROKEN"));
    let failure: Vec<&str> = lines.take(2).collect();
    assert!(failure.len() == 2 && failure[1].contains('→'), "{output}");
    failure.join("\n")
}

#[tokio::test]
#[allow(
    clippy::too_many_lines,
    reason = "the scenario causes one fault after another"
)]
async fn names_the_first_failed_step() {
    let site = Site::new("doctor", &KEYS[..1], &["--key-renew-period=0"]).await;
    let output = site.run_successfully(&["doctor"]);
    assert!(
        !output.contains("BROKEN") && output.contains("certificate: SHA256:"),
        "{output}"
    );

    let kubeconfig = fs::read_to_string(site.plane.kubeconfig()).unwrap();
    let (host, port) = site.plane.address();
    let unreachable = kubeconfig.replace(&format!("{host}:{port}"), "127.0.0.1:1");
    fs::write(site.path("unreachable"), unreachable).unwrap();
    let unauthenticated = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{ "name": "x", "cluster": { "server": format!("https://{host}:{port}"), "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "x", "user": { "token": "nonsense" } }],
        "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
    });
    fs::write(site.path("outsider"), unauthenticated.to_string()).unwrap();
    let bare = json!({ "metadata": { "name": "bare" }, "spec": { "clusterIP": "None" } });
    let _: Service = site.namespace.create_object(bare).await;
    let metrics_port = site.controller.log();
    let metrics_port: u16 = metrics_port
        .split("metrics server serving\" addr=")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .trim_matches('"')
        .parse()
        .unwrap();
    site.namespace.route("another-port", metrics_port).await;
    for (fault, args, step, want) in [
        (
            "no kubeconfig",
            vec!["--kubeconfig", "absent"],
            "kubeconfig",
            "cannot read the kubeconfig",
        ),
        (
            "no such context",
            vec!["--context", "absent"],
            "kubeconfig",
            "does not exist",
        ),
        (
            "API server down",
            vec!["--kubeconfig", "unreachable"],
            "API server",
            "cannot reach the API server",
        ),
        (
            "not authenticated",
            vec!["--kubeconfig", "outsider"],
            "API server",
            "authentication failed",
        ),
        (
            "no Service",
            vec!["--controller-name", "absent"],
            "Service",
            "not found",
        ),
        (
            "a Service without ports",
            vec!["--controller-name", "bare"],
            "Service",
            "has no ports",
        ),
        (
            "another port",
            vec!["--controller-name", "another-port"],
            "certificate",
            "is not the controller's main port",
        ),
    ] {
        let failure = first_failure(&site, &args);
        assert!(
            failure.starts_with(&format!("BROKEN   {step}: ")) && failure.contains(want),
            "{fault}: {failure}"
        );
    }

    // The account has no permission on the service proxy.
    let account = json!({ "metadata": { "name": "nobody" } });
    let _: ServiceAccount = site.namespace.create_object(account).await;
    let kubeconfig = site
        .plane
        .kubeconfig_of(site.namespace.name(), "nobody")
        .await;
    let failure = first_failure(&site, &["--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert!(
        failure.contains("ask an administrator for permission"),
        "{failure}"
    );

    // The controller is stopped.
    let Site {
        plane,
        namespace,
        controller,
        scratch,
    } = site;
    assert_eq!(controller.stop(), Some(0));
    let output = seal_in(plane, &namespace, &scratch, &["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output_text(&output).contains("BROKEN   controller: no Pod behind the Service responds"),
        "{}",
        output_text(&output)
    );
}

#[tokio::test]
async fn reports_why_no_certificate_is_served() {
    let site = Site::new(
        "doctor-escrow",
        &KEYS[..1],
        &["--key-renew-period=0", "--require-backup"],
    )
    .await;
    let failure = first_failure(&site, &[]);
    assert!(
        failure.starts_with("BROKEN   certificate: ") && failure.contains("seal keys backup"),
        "{failure}"
    );
}

#[tokio::test]
async fn doctor_verifies_a_file_and_tries_other_names_only_with_local_keys() {
    let site = Site::new("doctor-file", &KEYS[..1], &["--key-renew-period=0"]).await;
    let sealed = site.sealed_secret(&KEYS[0], "db");
    site.write("db.json", &sealed);
    let output = site.run_successfully(&["doctor", "db.json"]);
    assert!(
        output.contains("the controller can unseal it")
            && output.contains("not found in the cluster"),
        "{output}"
    );
    site.create(&sealed).await;
    until("the Secret is up to date", async || {
        site.run_successfully(&["doctor", "db.json"])
            .contains("its status reports that it is synced")
            .then_some(())
    })
    .await;

    let mut renamed = sealed.clone();
    renamed.metadata.name = Some("renamed".into());
    renamed.spec.template.metadata.name = Some("db".into());
    site.write("renamed.json", &renamed);
    let failure = first_failure(&site, &["renamed.json"]);
    assert!(
        failure.contains("it was sealed for the name db"),
        "{failure}"
    );

    // A user who may send requests to the controller but not read its keys learns only that the controller
    // cannot unseal the value.
    let rules = json!([
        { "apiGroups": [""], "resources": ["services"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get", "create"] },
    ]);
    let name = "developer";
    roles::create_caller_with(&site.namespace, name, &rules).await;
    let kubeconfig = site.plane.kubeconfig_of(site.namespace.name(), name).await;
    let kubeconfig = kubeconfig.to_str().unwrap();
    let message = until("the role takes effect", async || {
        let output = site.seal(&["doctor", "renamed.json", "--kubeconfig", kubeconfig]);
        let message = output_text(&output);
        message
            .contains("the controller cannot unseal it")
            .then_some(message)
    })
    .await;
    assert!(
        !message.contains("sealed for") && message.contains("--backup"),
        "{message}"
    );

    // The controller lost the key.
    let lost = site.sealed_secret(&KEYS[1], "lost");
    site.write("lost.json", &lost);
    let secret = shared::key_secret::build(
        "key-1",
        "x",
        &KEYS[1],
        BTreeMap::default(),
        BTreeMap::default(),
    );
    fs::write(
        site.path("backup.yaml"),
        shared::manifest::to_yaml(&secret.to_document()),
    )
    .unwrap();
    let failure = first_failure(&site, &["lost.json", "--backup", "backup.yaml"]);
    assert!(
        failure.contains("but the controller cannot") && failure.contains("seal keys restore"),
        "{failure}"
    );
}
