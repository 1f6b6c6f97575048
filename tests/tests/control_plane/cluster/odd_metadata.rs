//! Tests objects with metadata that the API server stores, but that kube's types cannot represent. Such an object must
//! not stop the reconciliation of any other.

use kube::api::DeleteParams;
use serde_json::{Value, json};
use shared::readable::Object;
use tests::control_plane::ControlPlane;
use tests::patience::until;
use tests::roles::{self, Reach};

use super::case::Case;

/// Times that a client may write into an object. The API server normalizes them to UTC, so an offset can lead to years
/// that RFC 3339 does not have.
const TIMES: [&str; 4] = [
    "9999-12-31T23:59:59Z",
    "9999-12-30T22:00:01Z",
    "9999-12-31T23:59:59-14:00",
    "0000-01-01T00:00:00+14:00",
];
const LEASE: &str = "sealed-secrets-controller";

/// Returns nested maps in the form of `fieldsV1`, deeper than `serde_json` parses.
fn nested_maps() -> Value {
    (0..300).fold(json!({}), |inner, _| json!({ "f:a": inner }))
}

fn manager_entry(time: &str, fields: &Value) -> Value {
    json!({
        "manager": "m", "operation": "Update", "apiVersion": "v1", "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    })
}

/// Returns entries of `managedFields` that the API server accepts, but that kube's types cannot represent.
fn odd_entries() -> Vec<Value> {
    let fields = json!({ "f:metadata": { "f:labels": { "f:tier": {} } } });
    let mut entries: Vec<Value> = TIMES
        .iter()
        .map(|time| manager_entry(time, &fields))
        .collect();
    let deep = json!({ "f:metadata": { "f:annotations": nested_maps() } });
    entries.push(manager_entry("2026-01-01T00:00:00Z", &deep));
    entries
}

/// Sends a JSON patch and returns the response as text, because kube's types might not be able to parse it.
async fn patch(case: &Case, path: &str, operations: &Value) -> String {
    let path = path.replace("NAMESPACE", case.namespace.name());
    let request = http::Request::patch(path)
        .header("content-type", "application/json-patch+json")
        .body(operations.to_string().into_bytes())
        .unwrap();
    let response = case.namespace.client().request_text(request).await;
    response.unwrap()
}

fn secret_path(name: &str) -> String {
    format!("/api/v1/namespaces/NAMESPACE/secrets/{name}")
}

/// Returns a patch that replaces all entries with one. The API server itself cannot apply a patch that keeps an entry
/// of the year 10000.
fn managed_fields_patch(entry: &Value) -> Value {
    json!([{ "op": "add", "path": "/metadata/managedFields", "value": [entry] }])
}

/// Reads an object with the parser of this project's programs; `None` if the request fails.
async fn read(case: &Case, path: &str) -> Option<Value> {
    let path = path.replace("NAMESPACE", case.namespace.name());
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let text = case.namespace.client().request_text(request).await.ok()?;
    let Object(object) = serde_json::from_str(&text).unwrap();
    Some(object)
}

async fn case_with_lease(purpose: &str, args: &[&str]) -> Case {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace(purpose).await;
    roles::grant(&namespace, Reach::Namespace).await;
    roles::grant_leases(&namespace).await;
    Case::start(plane, namespace, args).await
}

/// Attack: a tenant writes odd times and deep nesting into `managedFields` of a Secret of their own, so that the list
/// of all Secrets cannot be parsed.
#[tokio::test]
async fn an_odd_secret_of_one_tenant_does_not_prevent_corrections_for_others_after_a_restart() {
    let case = Case::new("odd-secret").await;
    for name in ["deleted", "edited"] {
        case.seal(name, &[("a", "1")]).await;
        case.wait_for_values(name, &[("a", "1")]).await;
        case.wait_until_synced(name).await;
    }
    let case = case
        .restart_after(async |namespace| {
            for i in 0..odd_entries().len() {
                let object = json!({ "metadata": { "name": format!("odd-{i}") }, "stringData": { "x": "y" } });
                namespace
                    .create_object::<k8s_openapi::api::core::v1::Secret>(object)
                    .await;
            }
        })
        .await;
    for (i, entry) in odd_entries().iter().enumerate() {
        let response = patch(
            &case,
            &secret_path(&format!("odd-{i}")),
            &managed_fields_patch(entry),
        )
        .await;
        assert!(response.contains("\"manager\":\"m\""), "{response}");
    }
    let case = case
        .restart_after(async |namespace| {
            let secrets = namespace.api::<k8s_openapi::api::core::v1::Secret>();
            let params = DeleteParams::default();
            secrets.delete("deleted", &params).await.unwrap();
            let patch = json!({ "stringData": { "a": "evil" } });
            let patch = kube::api::Patch::Merge(patch);
            let params = kube::api::PatchParams::default();
            secrets.patch("edited", &params, &patch).await.unwrap();
        })
        .await;
    for name in ["deleted", "edited"] {
        case.wait_for_values(name, &[("a", "1")]).await;
    }
    let log = case.controller.log();
    assert!(!log.contains("cannot parse"), "{log}");
}

/// Attack: a client that may patch a Secret of the controller also writes odd `managedFields` in the same request, to
/// hide the edit.
#[tokio::test]
async fn an_edit_with_odd_managed_fields_is_corrected() {
    let case = Case::new("odd-edit").await;
    for (i, entry) in odd_entries().iter().enumerate() {
        let name = format!("db-{i}");
        case.seal(&name, &[("a", "1")]).await;
        case.wait_for_values(&name, &[("a", "1")]).await;
        case.wait_until_synced(&name).await;
        let operations = json!([
            { "op": "add", "path": "/metadata/managedFields", "value": [entry] },
            { "op": "replace", "path": "/data/a", "value": "ZXZpbA==" },
        ]);
        patch(&case, &secret_path(&name), &operations).await;
        until(
            &format!("{name} is corrected\n{}", case.controller.log()),
            async || (read(&case, &secret_path(&name)).await?["data"]["a"] == "MQ==").then_some(()),
        )
        .await;
        let event = case.wait_for_event(&name, "DriftCorrected").await;
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
}

/// Attack: the author of a SealedSecret applies it with odd metadata, and with values nested deeper than `serde_json`
/// parses, to stop the controller for others.
#[tokio::test]
async fn an_odd_sealed_secret_is_unsealed_and_affects_no_other() {
    let case = Case::new("odd-sealed").await;
    let path = |name: &str| {
        format!("/apis/bitnami.com/v1alpha1/namespaces/NAMESPACE/sealedsecrets/{name}")
    };
    for (i, entry) in odd_entries().iter().enumerate() {
        let name = format!("odd-{i}");
        case.seal(&name, &[("a", "1")]).await;
        case.wait_until_synced(&name).await;
        let mut entry = entry.clone();
        entry["apiVersion"] = json!("bitnami.com/v1alpha1");
        patch(&case, &path(&name), &managed_fields_patch(&entry)).await;
    }
    case.seal("deep", &[("a", "1")]).await;
    case.wait_until_synced("deep").await;
    let deep =
        json!([{ "op": "add", "path": "/spec/template/metadata/deep", "value": nested_maps() }]);
    patch(&case, &path("deep"), &deep).await;
    let case = case.restart(&[]).await;
    case.seal("new", &[("a", "1")]).await;
    case.wait_for_values("new", &[("a", "1")]).await;
    for i in 0..odd_entries().len() {
        let name = format!("odd-{i}");
        let next = case.sealed_secret(&name, &[("a", "2")]).spec.encrypted_data;
        let operations = json!([{ "op": "replace", "path": "/spec/encryptedData", "value": next }]);
        patch(&case, &path(&name), &operations).await;
        case.wait_for_values(&name, &[("a", "2")]).await;
        until(
            &format!("the status of {name} is current\n{}", case.controller.log()),
            async || {
                let object = read(&case, &path(&name)).await?;
                let status = &object["status"];
                (status["observedGeneration"] == object["metadata"]["generation"]
                    && status["conditions"][0]["status"] == "True")
                    .then_some(())
            },
        )
        .await;
    }
    let log = case.controller.log();
    assert!(!log.contains("cannot parse"), "{log}");
}

/// Attack: a client that may write the Lease stops the controller with a time, or managed fields, that the controller
/// cannot represent.
#[tokio::test]
async fn an_odd_lease_is_taken_over_while_the_controller_runs_and_after_a_restart() {
    let case = case_with_lease("odd-lease", &[]).await;
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/NAMESPACE/leases/{LEASE}");
    let mut changes: Vec<Value> = odd_entries()
        .iter()
        .map(|entry| {
            let mut entry = entry.clone();
            entry["apiVersion"] = json!("coordination.k8s.io/v1");
            managed_fields_patch(&entry)
        })
        .collect();
    for field in ["renewTime", "acquireTime"] {
        for time in TIMES {
            let time = time
                .replace(":59Z", ":59.999999Z")
                .replace(":01Z", ":01.000000Z");
            let time = time
                .replace("59-", "59.000000-")
                .replace("00+", "00.000000+");
            changes.push(json!([
                { "op": "replace", "path": format!("/spec/{field}"), "value": time },
                { "op": "replace", "path": "/spec/holderIdentity", "value": "x" },
                { "op": "replace", "path": "/spec/leaseDurationSeconds", "value": 1 },
            ]));
        }
    }
    let wait_for_leadership = async |change: &str, case: &Case| {
        let goal = format!(
            "{change}: the controller is the leader again\n{}",
            case.controller.log()
        );
        until(&goal, async || {
            let lease = read(case, &path).await?;
            (lease["spec"]["holderIdentity"] != "x").then_some(())
        })
        .await;
    };
    for (i, change) in changes.iter().enumerate() {
        patch(&case, &path, change).await;
        let name = format!("db-{i}");
        case.seal(&name, &[("a", "1")]).await;
        case.wait_for_values(&name, &[("a", "1")]).await;
        if i >= odd_entries().len() {
            wait_for_leadership(&change.to_string(), &case).await;
        }
    }
    let last = changes.last().unwrap();
    let case = case.restart_after_patch(&path, last).await;
    case.seal("after", &[("a", "1")]).await;
    case.wait_for_values("after", &[("a", "1")]).await;
    let log = case.controller.log();
    assert!(!log.contains("cannot parse"), "{log}");
}

/// Attack: a client that may write key Secrets stops the controller with metadata that the controller cannot represent.
#[tokio::test]
async fn an_odd_key_secret_prevents_neither_the_start_nor_unsealing() {
    let mut case = Case::with_args("odd-key", &["--key-renew-period=0"]).await;
    for (i, entry) in odd_entries().iter().enumerate() {
        patch(&case, &secret_path("key-0"), &managed_fields_patch(entry)).await;
        case = case.restart(&["--key-renew-period=0"]).await;
        let name = format!("db-{i}");
        case.seal(&name, &[("a", "1")]).await;
        case.wait_for_values(&name, &[("a", "1")]).await;
    }
    let log = case.controller.log();
    assert!(!log.contains("cannot parse"), "{log}");
}

impl Case {
    async fn restart_after_patch(self, path: &str, change: &Value) -> Self {
        let Self {
            plane,
            namespace,
            controller,
        } = self;
        assert_eq!(controller.stop(), Some(0));
        let request = http::Request::patch(path.replace("NAMESPACE", namespace.name()))
            .header("content-type", "application/json-patch+json")
            .body(change.to_string().into_bytes())
            .unwrap();
        let client = namespace.client();
        client.request_text(request).await.unwrap();
        let controller =
            tests::cluster_controller::ClusterController::start(plane, &namespace, &[]);
        let controller = controller.await;
        Self {
            plane,
            namespace,
            controller,
        }
    }
}
