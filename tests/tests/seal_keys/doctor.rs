//! `seal doctor` with faults on the way to the key, created one by one; faults in a file are covered by
//! stories.

use std::collections::BTreeMap;
use std::fs;

use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use serde_json::json;
use tests::patience::until;
use tests::roles;
use tests::sealing::KEYS;

use crate::site::{Site, said, seal_in};

/// Returns the line of the first failed step, and its remedy.
fn broken(site: &Site<'_>, args: &[&str]) -> String {
    let args: Vec<&str> = ["doctor"].iter().chain(args).copied().collect();
    let said = site.ends(1, &args);
    let lines = said.lines().skip_while(|line| !line.starts_with("BROKEN"));
    let found: Vec<&str> = lines.take(2).collect();
    assert!(found.len() == 2 && found[1].contains('→'), "{said}");
    found.join("\n")
}

#[tokio::test]
#[allow(
    clippy::too_many_lines,
    reason = "one fault after the other on one way"
)]
async fn names_the_first_broken_step_on_the_way() {
    let site = Site::new("doctor", &KEYS[..1], &["--key-renew-period=0"]).await;
    let whole = site.done(&["doctor"]);
    assert!(
        !whole.contains("BROKEN") && whole.contains("certificate: SHA256:"),
        "{whole}"
    );

    let kubeconfig = fs::read_to_string(site.plane.kubeconfig()).unwrap();
    let (host, port) = site.plane.address();
    let unreachable = kubeconfig.replace(&format!("{host}:{port}"), "127.0.0.1:1");
    fs::write(site.path("unreachable"), unreachable).unwrap();
    let stranger = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{ "name": "x", "cluster": { "server": format!("https://{host}:{port}"), "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "x", "user": { "token": "nonsense" } }],
        "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
    });
    fs::write(site.path("stranger"), stranger.to_string()).unwrap();
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
            "cannot be reached",
        ),
        (
            "not known",
            vec!["--kubeconfig", "stranger"],
            "API server",
            "does not know who you are",
        ),
        (
            "no Service",
            vec!["--controller-name", "absent"],
            "Service",
            "is not there",
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
    assert!(found.contains("ask for the right"), "{found}");

    // The controller is gone.
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
        said(&run).contains("BROKEN   controller: nothing answers behind the Service"),
        "{}",
        said(&run)
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
async fn a_file_is_verified_unchanged_and_tried_only_with_local_keys() {
    let site = Site::new("doctor-file", &KEYS[..1], &["--key-renew-period=0"]).await;
    let sealed = site.sealed(&KEYS[0], "db");
    site.write("db.json", &sealed);
    let whole = site.done(&["doctor", "db.json"]);
    assert!(
        whole.contains("opens in the controller") && whole.contains("it is not there"),
        "{whole}"
    );
    site.create(&sealed).await;
    until("it is in step", async || {
        site.done(&["doctor", "db.json"])
            .contains("its Secret is as it should be")
            .then_some(())
    })
    .await;

    let mut renamed = sealed.clone();
    renamed.metadata.name = Some("renamed".into());
    renamed.spec.template.metadata.name = Some("db".into());
    site.write("renamed.json", &renamed);
    let found = broken(&site, &["renamed.json"]);
    assert!(found.contains("it was sealed for the name db"), "{found}");

    // A user who may ask the controller but not read its keys learns only that it cannot open the value.
    let rules = json!([
        { "apiGroups": [""], "resources": ["services"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get", "create"] },
    ]);
    let name = "developer";
    roles::create_caller_with(&site.namespace, name, &rules).await;
    let kubeconfig = site.plane.kubeconfig_of(site.namespace.name(), name).await;
    let kubeconfig = kubeconfig.to_str().unwrap();
    let reported = until("the role has spread", async || {
        let output = site.seal(&["doctor", "renamed.json", "--kubeconfig", kubeconfig]);
        let reported = said(&output);
        reported.contains("it does not decrypt").then_some(reported)
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
        found.contains("not in the controller") && found.contains("seal keys restore"),
        "{found}"
    );
}
