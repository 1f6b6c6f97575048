//! `seal doctor` with each fault in the connection to the controller. Faults in a file are covered by stories.

use std::collections::BTreeMap;
use std::fs;

use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use serde_json::json;
use tests::patience::until;
use tests::roles;
use tests::sealing::KEYS;

use crate::site::{Site, seal_in, stderr};

/// Returns the line of the first failed step, and its remedy.
fn broken(site: &Site<'_>, args: &[&str]) -> String {
    let args: Vec<&str> = ["doctor"].iter().chain(args).copied().collect();
    let output = site.run_exit(1, &args);
    let lines = output
        .lines()
        .skip_while(|line| !line.starts_with("BROKEN"));
    let found: Vec<&str> = lines.take(2).collect();
    assert!(found.len() == 2 && found[1].contains('→'), "{output}");
    found.join("\n")
}

#[tokio::test]
#[allow(
    clippy::too_many_lines,
    reason = "one fault after the other in one scenario"
)]
async fn names_the_first_failed_step() {
    let site = Site::new("doctor", &KEYS[..1], &["--key-renew-period=0"]).await;
    let whole = site.run_ok(&["doctor"]);
    assert!(
        !whole.contains("BROKEN") && whole.contains("certificate: SHA256:"),
        "{whole}"
    );

    let kubeconfig = fs::read_to_string(site.plane.kubeconfig()).unwrap();
    let (host, port) = site.plane.address();
    let unreachable = kubeconfig.replace(&format!("{host}:{port}"), "127.0.0.1:1");
    fs::write(site.path("unreachable"), unreachable).unwrap();
    let outsider = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{ "name": "x", "cluster": { "server": format!("https://{host}:{port}"), "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "x", "user": { "token": "nonsense" } }],
        "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
    });
    fs::write(site.path("outsider"), outsider.to_string()).unwrap();
    let bare = json!({ "metadata": { "name": "bare" }, "spec": { "clusterIP": "None" } });
    let _: Service = site.namespace.create_object(bare).await;
    let metrics = site.controller.log();
    let metrics: u16 = metrics
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
    site.namespace.route("another-port", metrics).await;
    for (why, args, step, want) in [
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
        let found = broken(&site, &args);
        assert!(
            found.starts_with(&format!("BROKEN   {step}: ")) && found.contains(want),
            "{why}: {found}"
        );
    }

    // No permission on the service proxy.
    let account = json!({ "metadata": { "name": "nobody" } });
    let _: ServiceAccount = site.namespace.create_object(account).await;
    let nobody = site
        .plane
        .kubeconfig_of(site.namespace.name(), "nobody")
        .await;
    let found = broken(&site, &["--kubeconfig", nobody.to_str().unwrap()]);
    assert!(
        found.contains("ask an administrator for permission"),
        "{found}"
    );

    // The controller was stopped.
    let Site {
        plane,
        namespace,
        controller,
        scratch,
    } = site;
    assert_eq!(controller.stop(), Some(0));
    let run = seal_in(plane, &namespace, &scratch, &["doctor"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(
        stderr(&run).contains("BROKEN   controller: no Pod answers behind the Service"),
        "{}",
        stderr(&run)
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
    let found = broken(&site, &[]);
    assert!(
        found.starts_with("BROKEN   certificate: ") && found.contains("seal keys backup"),
        "{found}"
    );
}

#[tokio::test]
async fn verifies_a_file_unchanged_and_tries_other_names_only_with_local_keys() {
    let site = Site::new("doctor-file", &KEYS[..1], &["--key-renew-period=0"]).await;
    let sealed = site.sealed(&KEYS[0], "db");
    site.write("db.json", &sealed);
    let whole = site.run_ok(&["doctor", "db.json"]);
    assert!(
        whole.contains("the controller can unseal it")
            && whole.contains("not found in the cluster"),
        "{whole}"
    );
    site.create(&sealed).await;
    until("the Secret is up to date", async || {
        site.run_ok(&["doctor", "db.json"])
            .contains("its Secret is up to date")
            .then_some(())
    })
    .await;

    let mut renamed = sealed.clone();
    renamed.metadata.name = Some("renamed".into());
    renamed.spec.template.metadata.name = Some("db".into());
    site.write("renamed.json", &renamed);
    let found = broken(&site, &["renamed.json"]);
    assert!(found.contains("it was sealed for the name db"), "{found}");

    // A user who may send requests to the controller but not read its keys learns only that it cannot unseal
    // the value.
    let rules = json!([
        { "apiGroups": [""], "resources": ["services"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get", "create"] },
    ]);
    let name = "developer";
    roles::create_caller_with(&site.namespace, name, &rules).await;
    let kubeconfig = site.plane.kubeconfig_of(site.namespace.name(), name).await;
    let kubeconfig = kubeconfig.to_str().unwrap();
    let reported = until("the role takes effect", async || {
        let output = site.seal(&["doctor", "renamed.json", "--kubeconfig", kubeconfig]);
        let reported = stderr(&output);
        reported
            .contains("the controller cannot unseal it")
            .then_some(reported)
    })
    .await;
    assert!(
        !reported.contains("sealed for") && reported.contains("--backup"),
        "{reported}"
    );

    // A key that the controller lost.
    let other = site.sealed(&KEYS[1], "lost");
    site.write("lost.json", &other);
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
    let found = broken(&site, &["lost.json", "--backup", "backup.yaml"]);
    assert!(
        found.contains("but the controller cannot") && found.contains("seal keys restore"),
        "{found}"
    );
}
