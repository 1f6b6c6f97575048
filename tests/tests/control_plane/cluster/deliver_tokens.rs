//! Tests which callers get values from `/v1/deliver`.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tests::control_plane::create_pod;
use tests::patience::until;
use tests::roles;

use super::deliver_case::{AUDIENCE, DeliverCase, all_of, values, waiting_request};

const CANARY: &str = "canary-Q7wZ9xK2v";

async fn case(purpose: &str) -> (DeliverCase, String) {
    let case = DeliverCase::new(purpose).await;
    case.case.seal("db", &[("password", CANARY)]).await;
    let token = case.create_pod("web").await;
    case.tls.wait_for(200, &token, &all_of("db")).await;
    (case, token)
}

/// Asserts that a request with this token is refused with this status code, an error and a hint of one line each, and
/// without a value.
async fn assert_refused(
    case: &DeliverCase,
    why: &str,
    token: Option<&str>,
    body: &Value,
    want: u16,
) {
    let (code, text) = case.tls.post(token, &body.to_string()).await;
    assert_eq!(code, want, "{why}: {text}");
    let failure: Value = serde_json::from_str(&text).unwrap();
    for field in ["error", "hint"] {
        let text = failure[field].as_str().unwrap();
        assert!(
            !text.is_empty() && !text.contains('\n'),
            "{why}: {field}: {text}"
        );
    }
    for value in [CANARY, &shared::base64::encode(CANARY.as_bytes())] {
        assert!(!text.contains(value), "{why}: {text}");
    }
}

/// Attack: a program requests the values of a Pod with a token that is not the Pod's, is for a different or an
/// additional audience, or is no longer valid.
#[tokio::test]
async fn only_a_valid_token_of_a_pod_for_the_controller_alone_gets_values() {
    let (case, valid) = case("deliver-tokens").await;
    let (plane, namespace) = (case.case.plane, &case.case.namespace);
    let pod = create_pod(namespace, "other", "web").await;
    let with_audiences = async |audiences: &[&str]| plane.token_of_pod(&pod, audiences).await;
    let not_bound = plane.token_for(namespace.name(), "web", &[AUDIENCE]).await;
    let for_api_server = with_audiences(&[]).await;
    let for_another = with_audiences(&["vault"]).await;
    let for_two = with_audiences(&[AUDIENCE, "https://kubernetes.default.svc"]).await;
    let other_token = with_audiences(&[AUDIENCE]).await;
    let expired = plane.with_claims(&other_token, |claims| {
        for claim in ["iat", "nbf", "exp"] {
            claims[claim] = json!(claims[claim].as_i64().unwrap() - 100_000);
        }
    });
    let of_another_pod_uid = plane.with_claims(&other_token, |claims| {
        claims["kubernetes.io"]["pod"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    });
    let mut forged = other_token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'Q' } else { 'A' });
    for (why, token) in [
        ("no token", None),
        ("no JSON Web Token", Some("nonsense")),
        ("not bound to a Pod", Some(&*not_bound)),
        ("for the API server", Some(&*for_api_server)),
        ("for another program", Some(&*for_another)),
        ("for another program too", Some(&*for_two)),
        ("expired", Some(&*expired)),
        ("of a Pod with another uid", Some(&*of_another_pod_uid)),
        ("with another signature", Some(&*forged)),
    ] {
        assert_refused(&case, why, token, &all_of("db"), 401).await;
    }
    case.tls.wait_for(200, &valid, &all_of("db")).await;
    let log = case.case.controller.log();
    assert!(!log.contains(CANARY));
    for token in [&valid, &not_bound, &for_two, &expired, &other_token] {
        assert!(!log.contains(token.as_str()), "a token is logged");
    }
}

/// Attack: a thief uses the token of a Pod after the Pod was deleted.
#[tokio::test]
async fn the_token_of_a_deleted_pod_gets_nothing() {
    let (case, _) = case("deliver-deleted").await;
    let token = case.create_another_pod("short", "web").await;
    case.tls.wait_for(200, &token, &all_of("db")).await;
    let pods = case.case.namespace.api::<Pod>();
    pods.delete("short", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    // The result of the last review is valid for thirty seconds.
    case.tls.wait_for(401, &token, &all_of("db")).await;
    assert_refused(&case, "deleted", Some(&token), &all_of("db"), 401).await;
}

/// Attack: a Pod requests the values of another namespace with a request that names the namespace.
#[tokio::test]
async fn a_pod_gets_only_values_of_its_own_namespace() {
    let (case, token) = case("deliver-namespaces").await;
    let other_namespace = case.case.plane.namespace("deliver-other").await;
    roles::create_caller(&other_namespace, "web", &["unseal"]).await;
    let pod = create_pod(&other_namespace, "web", "web").await;
    let other_token = case.case.plane.token_of_pod(&pod, &[AUDIENCE]).await;
    let name = case.case.namespace.name();
    for (why, body) in [
        (
            "as a field of the request",
            json!({ "objects": [{ "sealedSecret": "db" }], "namespace": name }),
        ),
        (
            "as a field of the entry",
            json!({ "objects": [{ "sealedSecret": "db", "namespace": name }] }),
        ),
        (
            "in the name",
            json!({ "objects": [{ "sealedSecret": format!("{name}/db") }] }),
        ),
        (
            "as an attribute of a volume",
            json!({ "objects": [{ "sealedSecret": "db" }], "csi.storage.k8s.io/pod.namespace": name }),
        ),
    ] {
        assert_refused(&case, why, Some(&other_token), &body, 400).await;
    }
    // The Pod's own namespace has no object `db`.
    case.tls.wait_for(404, &other_token, &all_of("db")).await;
    let own = case.tls.wait_for(200, &token, &all_of("db")).await;
    assert_eq!(values(&own), [("password".to_owned(), CANARY.to_owned())]);
}

/// Attack: a service account without the verb `unseal` on a SealedSecret requests its values, alone or together with
/// the values of an object that the account may unseal, or finds out in this way which objects exist.
#[tokio::test]
async fn every_object_needs_the_verb_unseal_by_name() {
    let (case, _) = case("deliver-verbs").await;
    case.case.seal("api", &[("key", CANARY)]).await;
    let rule = |verbs: &[&str], names: &[&str]| json!([{ "apiGroups": ["bitnami.com"], "resources": ["sealedsecrets"], "verbs": verbs, "resourceNames": names }]);
    let namespace = &case.case.namespace;
    roles::create_caller_with(
        namespace,
        "reader",
        &rule(&["get", "verify", "rotate"], &["db"]),
    )
    .await;
    roles::create_caller_with(namespace, "api-only", &rule(&["unseal"], &["api"])).await;
    let reader = case.create_another_pod("reader", "reader").await;
    let api_only = case.create_another_pod("api-only", "api-only").await;
    case.tls.wait_for(200, &api_only, &all_of("api")).await;
    let both = json!({ "objects": [
        { "sealedSecret": "api", "path": "api/" }, { "sealedSecret": "db", "path": "db/" },
    ] });
    let by_template = json!({ "objects": [
        { "path": "f", "template": "{{ .api.key }}{{ .db.password }}", "from": ["api", "db"] },
    ] });
    for (why, token, body) in [
        ("other verbs", &reader, all_of("db")),
        ("another object", &api_only, all_of("db")),
        ("one of two objects", &api_only, both),
        ("in a template", &api_only, by_template),
        (
            "an object that does not exist",
            &api_only,
            all_of("missing"),
        ),
    ] {
        assert_refused(&case, why, Some(token), &body, 403).await;
    }
    let (_, known) = case.tls.deliver(&api_only, &all_of("db")).await;
    let (_, unknown) = case.tls.deliver(&api_only, &all_of("missing")).await;
    let known = known.to_string().replace("db", "missing");
    assert_eq!(
        known,
        unknown.to_string(),
        "the response does not show whether the object exists"
    );
}

/// Attack: a service account keeps a request waiting, to get new values after its permission was revoked.
#[tokio::test]
async fn a_waiting_request_gets_nothing_after_its_permission_is_revoked() {
    let (case, token) = case("deliver-revoked").await;
    let response = case.tls.wait_for(200, &token, &all_of("db")).await;
    let body = waiting_request(&all_of("db"), &response["revision"], 60);
    let request = tokio::spawn({
        let (tls, token) = (case.tls.clone(), token.clone());
        async move { tls.deliver(&token, &body).await }
    });
    case.wait_for_waiting_requests(1).await;
    let bindings = case.case.namespace.api::<RoleBinding>();
    bindings
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    let other = case.create_another_pod("other", "web").await;
    case.tls.wait_for(403, &other, &all_of("db")).await;
    case.seal_again("db", &[("password", "next-canary")]).await;
    let (code, failure) = request.await.unwrap();
    assert_eq!(code, 403, "{failure}");
    assert!(!failure.to_string().contains("value"), "{failure}");
}

#[tokio::test]
async fn the_log_names_account_pod_objects_and_outcome() {
    let (case, token) = case("deliver-log").await;
    case.tls.wait_for(404, &token, &all_of("missing")).await;
    let namespace = case.case.namespace.name();
    for (object, outcome) in [("db", "delivered"), ("missing", "not found")] {
        let fields = [
            format!("account=system:serviceaccount:{namespace}:web"),
            format!("pod={namespace}/web"),
            format!("objects={object}"),
        ];
        let is_logged = |line: &str| {
            line.contains(outcome)
                && fields
                    .iter()
                    .all(|field| line.replace('"', "").contains(field))
        };
        until(&format!("{object} {outcome} is logged"), async || {
            let log = case.case.controller.log();
            log.lines().any(is_logged).then_some(())
        })
        .await;
    }
    let pod = case.case.namespace.api::<Pod>().get("web").await.unwrap();
    assert_eq!(pod.name_any(), "web");
}
