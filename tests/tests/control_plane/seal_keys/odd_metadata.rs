//! Tests cluster objects with metadata that kube's types cannot represent.

use std::fs;

use serde_json::{Value, json};
use tests::sealing::KEYS;

use super::site::Site;

/// Returns entries of `managedFields` that the API server accepts: a time in the year 9999, a time that
/// becomes the year 10000 in UTC, and fields nested deeper than `serde_json` parses.
fn odd_entries(api_version: &str) -> [Value; 3] {
    let entry = |time: &str, fields: Value| {
        json!({
            "manager": "m", "operation": "Update", "apiVersion": api_version, "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": { "f:metadata": { "f:annotations": fields } },
        })
    };
    let deep = (0..300).fold(json!({}), |inner, _| json!({ "f:a": inner }));
    [
        entry("9999-12-31T23:59:59Z", json!({})),
        entry("9999-12-31T23:59:59-14:00", json!({})),
        entry("2026-01-01T00:00:00Z", deep),
    ]
}

/// Replaces the `managedFields` of an object with one entry. Returns the stored object as JSON.
async fn make_odd(site: &Site<'_>, path: &str, entry: &Value) -> String {
    let change = json!([{ "op": "add", "path": "/metadata/managedFields", "value": [entry] }]);
    let request = http::Request::patch(path)
        .header("content-type", "application/json-patch+json")
        .body(change.to_string().into_bytes())
        .unwrap();
    let client = site.plane.admin();
    client.request_text(request).await.unwrap()
}

/// Attack: the author of a SealedSecret, and a client that may write key Secrets, give their objects metadata that
/// stops the `seal keys` commands for the whole cluster.
#[tokio::test]
async fn odd_cluster_objects_do_not_break_the_key_commands() {
    let site = Site::new("odd", &KEYS[..2], &["--key-renew-period=0"]).await;
    let namespace = site.namespace.name().to_owned();
    let namespace_args = ["--only-namespace", namespace.as_str()];
    let sealed = format!("/apis/bitnami.com/v1alpha1/namespaces/{namespace}/sealedsecrets");
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    for (i, entry) in odd_entries("bitnami.com/v1alpha1").iter().enumerate() {
        let name = format!("odd-{i}");
        site.create(&site.sealed_secret(&KEYS[0], &name)).await;
        site.wait_for_value(&name).await;
        let response = make_odd(&site, &format!("{sealed}/{name}"), entry).await;
        // The API server drops entries of the year 10000 from a custom resource.
        assert_eq!(response.contains("\"manager\":\"m\""), i != 1, "{response}");
    }
    let recipient = site.create_identity();
    for (i, entry) in odd_entries("v1").iter().enumerate() {
        make_odd(&site, &format!("{secrets}/key-0"), entry).await;
        make_odd(&site, &format!("{secrets}/odd-0"), entry).await;
        for name in ["key-0", "key-1"] {
            let list = site.run_successfully(&["keys", "list"]);
            assert!(list.contains(name), "{list}");
        }
        let status =
            site.run_successfully(&["keys", "status", namespace_args[0], namespace_args[1]]);
        let row = status.lines().find(|line| line.starts_with("key-0"));
        let columns: Vec<&str> = row.unwrap().split_whitespace().collect();
        assert_eq!(columns[5], "3", "{status}");
        let message = site.run_with_exit_code(
            1,
            &[
                "keys",
                "retire",
                "key-0",
                "--dry-run",
                namespace_args[0],
                namespace_args[1],
            ],
        );
        let report = site.run_successfully(&[
            "keys",
            "compromise",
            "key-0",
            "--dry-run",
            namespace_args[0],
            namespace_args[1],
        ]);
        for odd in 0..3 {
            let name = format!("SealedSecret {namespace}/odd-{odd}");
            assert!(
                message.contains(&format!("{name}, item a: needs the key")),
                "{message}"
            );
            assert!(report.contains(&name), "{report}");
        }
        // The API server itself cannot patch an object with a time of the year 10000, so the key cannot be
        // annotated as backed up.
        if i != 1 {
            let _ = fs::remove_file(site.path("keys.age"));
            site.run_successfully(&[
                "keys",
                "backup",
                "keys.age",
                "-r",
                &recipient,
                "-i",
                "identity.txt",
            ]);
        }
        site.write("odd.json", &site.sealed_secret(&KEYS[0], "odd-0"));
        let output = site.seal(&["doctor", "odd.json"]);
        let text = super::site::output_text(&output);
        assert!(!text.contains("no controller has"), "{text}");
    }
}
