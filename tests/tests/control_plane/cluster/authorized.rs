//! Tests the TLS port, which serves callers with a token.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::http;
use tests::https;
use tests::patience::until;
use tests::roles::{self, ACCOUNT, Reach};
use tests::scrape::Scrape;
use tests::sealing::{KEYS, put_key, sealed_for};

const AUDIENCE: &str = "sealed-secrets.bitnami.com";
const ARGS: &[&str] = &[
    "--listen-authorized-addr=127.0.0.1:0",
    "--plain-certificate-only",
    "--rate-limit=1000",
    "--rate-limit-burst=1000",
];

struct Case {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    controller: ClusterController,
    port: u16,
    authority: String,
}

impl Case {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace("authorized").await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_reviews(&namespace).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let controller = ClusterController::start(plane, &namespace, ARGS).await;
        let port = until("the TLS port is open", async || {
            controller.authorized_port()
        });
        let port = port.await;
        let response = controller.get("/v1/ca.pem").await;
        let (_, authority) = response.split_once("\r\n\r\n").unwrap();
        Self {
            authority: authority.to_owned(),
            plane,
            namespace,
            controller,
            port,
        }
    }

    fn sealed_secret(&self) -> SealedSecret {
        let items = [("a", "hunter2")];
        sealed_for(&KEYS[0], self.namespace.name(), "db", &items, Scope::Strict)
    }

    async fn token(&self, account: &str, audiences: &[&str]) -> String {
        let namespace = self.namespace.name();
        self.plane.token_for(namespace, account, audiences).await
    }

    async fn post(&self, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
        https::post(self.port, &self.authority, AUDIENCE, path, token, body)
            .await
            .unwrap()
    }

    /// Repeats a request until the response has this status code, because RBAC changes take a moment to apply. Returns
    /// the body.
    async fn wait_for_code(&self, code: u16, path: &str, token: &str) -> String {
        let body = self.sealed_secret().to_document().to_string();
        until(&format!("{path} responds with {code}"), async || {
            let (response_code, body) = self.post(path, Some(token), &body).await;
            (response_code == code).then_some(body)
        })
        .await
    }
}

/// Attack: a client calls the TLS port without a token, with an invalid token, with a token for another audience, or
/// without the RBAC verb of the endpoint.
#[tokio::test]
async fn returns_401_403_or_the_result_by_permission() {
    let case = Case::new().await;
    roles::create_caller(&case.namespace, "unprivileged", &["get", "list"]).await;
    roles::create_caller(&case.namespace, "verifier", &["verify"]).await;
    roles::create_caller(&case.namespace, "all", &["verify", "rotate", "unseal"]).await;
    let body = case.sealed_secret().to_document().to_string();
    let for_the_api_server = case.token("all", &[]).await;
    for path in ["/v1/verify", "/v1/rotate", "/v1/unseal"] {
        for token in [
            None,
            Some("nonsense"),
            Some(" nonsense"),
            Some(for_the_api_server.as_str()),
        ] {
            let (code, response) = case.post(path, token, &body).await;
            assert_eq!(code, 401, "{path} {response}");
        }
        let unprivileged = case.token("unprivileged", &[AUDIENCE]).await;
        assert_eq!(
            case.post(path, Some(&unprivileged), &body).await.0,
            403,
            "{path}"
        );
    }
    let verifier = case.token("verifier", &[AUDIENCE]).await;
    case.wait_for_code(200, "/v1/verify", &verifier).await;
    for path in ["/v1/rotate", "/v1/unseal"] {
        assert_eq!(
            case.post(path, Some(&verifier), &body).await.0,
            403,
            "{path}"
        );
    }
    let all_verbs = case.token("all", &[AUDIENCE]).await;
    case.wait_for_code(200, "/v1/verify", &all_verbs).await;
    case.wait_for_code(200, "/v1/rotate", &all_verbs).await;
    let secret: Value =
        serde_json::from_str(&case.wait_for_code(200, "/v1/unseal", &all_verbs).await).unwrap();
    assert_eq!(secret["data"]["a"], "aHVudGVyMg==");

    let mut moved = case.sealed_secret();
    moved.metadata.namespace = Some("kube-system".into());
    let moved = moved.to_document().to_string();
    assert_eq!(
        case.post("/v1/unseal", Some(&all_verbs), &moved).await.0,
        403
    );

    let home = case.namespace.name();
    for (account, object, outcome) in [
        ("all", format!("{home}/db"), "unsealed"),
        ("all", "kube-system/db".to_owned(), "not allowed"),
        ("verifier", format!("{home}/db"), "not allowed"),
    ] {
        let user = format!("user=system:serviceaccount:{home}:{account} object={object}");
        let is_logged = |line: &str| line.contains(&user) && line.contains(outcome);
        // The controller logs before it responds, but the test may receive the log line after the response.
        until(&format!("{user} {outcome} is logged"), async || {
            let log = case.controller.log();
            log.lines().any(is_logged).then_some(())
        })
        .await;
    }
    let log = case.controller.log();
    assert!(!log.contains("hunter2"));
    for token in [&for_the_api_server, &verifier, &all_verbs] {
        assert!(!log.contains(token.as_str()), "a token is logged");
    }
    let unauthenticated = case.controller.get("/v1/verify").await;
    assert!(
        unauthenticated.starts_with("HTTP/1.1 404 "),
        "{unauthenticated}"
    );
    let response = https::post(case.port, &case.authority, "example.com", "/", None, "").await;
    assert!(
        response.is_err(),
        "the certificate is not valid for example.com"
    );
}

/// Attack: an account that may unseal only the object `db` sends the encrypted values of objects with a wider scope
/// under this name.
#[tokio::test]
async fn a_permission_for_one_object_unseals_no_values_of_a_wider_scope() {
    let case = Case::new().await;
    let rule = json!([{
        "apiGroups": ["bitnami.com"], "resources": ["sealedsecrets"], "resourceNames": ["db"], "verbs": ["unseal"]
    }]);
    roles::create_caller_with(&case.namespace, "one", &rule).await;
    roles::create_caller(&case.namespace, "all", &["unseal"]).await;
    let one = case.token("one", &[AUDIENCE]).await;
    let all = case.token("all", &[AUDIENCE]).await;
    for token in [&one, &all] {
        case.wait_for_code(200, "/v1/unseal", token).await;
    }
    for (scope, token, want) in [
        (Scope::NamespaceWide, &one, Err("in the namespace")),
        (Scope::NamespaceWide, &all, Ok("aHVudGVyMg==")),
        (Scope::ClusterWide, &one, Err("in all namespaces")),
        (Scope::ClusterWide, &all, Err("in all namespaces")),
    ] {
        let items = [("a", "hunter2")];
        let mut copy = sealed_for(&KEYS[0], case.namespace.name(), "other", &items, scope);
        copy.metadata.name = Some("db".into());
        let body = copy.to_document().to_string();
        let (code, response) = case.post("/v1/unseal", Some(token), &body).await;
        let (want_code, text) = want.map_or_else(|text| (403, text), |text| (200, text));
        assert_eq!(code, want_code, "{scope} {response}");
        assert!(response.contains(text), "{scope} {response}");
    }
}

/// Returns the key of each item in a response.
fn item_keys(response: &str) -> Value {
    serde_json::from_str::<Value>(response).unwrap()["items"].clone()
}

/// Attack: a caller without the verb `verify` asks which items can be unsealed, and by which key.
#[tokio::test]
async fn only_callers_with_verify_learn_the_key_of_each_item() {
    let case = Case::new().await;
    roles::create_caller(&case.namespace, "unprivileged", &["get", "list"]).await;
    roles::create_caller(&case.namespace, "verifier", &["verify"]).await;
    let verifier = case.token("verifier", &[AUDIENCE]).await;
    let response = case.wait_for_code(200, "/v1/verify", &verifier).await;
    let fingerprint = KEYS[0].pair.certificate().fingerprint().to_string();
    assert_eq!(item_keys(&response), json!({ "a": fingerprint }));

    let mut mixed = case.sealed_secret();
    for (item, key, name) in [("other-key", 1, "db"), ("moved", 0, "other")] {
        let items = [(item, "hunter2")];
        let addition = sealed_for(
            &KEYS[key],
            case.namespace.name(),
            name,
            &items,
            Scope::Strict,
        );
        mixed
            .spec
            .encrypted_data
            .extend(addition.spec.encrypted_data);
    }
    mixed
        .spec
        .encrypted_data
        .insert("no-value".into(), "!".into());
    let body = mixed.to_document().to_string();
    let (code, response) = case.post("/v1/verify", Some(&verifier), &body).await;
    assert_eq!(code, 409);
    let want = json!({ "a": fingerprint, "other-key": null, "moved": null, "no-value": null });
    assert_eq!(item_keys(&response), want);

    let unprivileged = case.token("unprivileged", &[AUDIENCE]).await;
    let unsealable = case.sealed_secret().to_document().to_string();
    for token in [None, Some(unprivileged.as_str())] {
        let responses = [&body, &unsealable].map(|body| case.post("/v1/verify", token, body));
        let [mixed, unsealable] = responses;
        let (mixed, unsealable) = (mixed.await, unsealable.await);
        assert_eq!(
            mixed, unsealable,
            "the response does not depend on the request"
        );
    }
}

#[tokio::test]
async fn refuses_all_callers_without_the_permission_to_authenticate_them() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("no-reviews").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    let mut controller = ClusterController::spawn(&kubeconfig, namespace.name(), &ARGS[..1]);
    controller
        .wait_for_log("RBAC does not allow this controller to create tokenreviews")
        .await;
    controller.become_ready().await;
    assert_eq!(controller.authorized_port(), None);
    let stopped = Instant::now();
    assert_eq!(controller.stop(), Some(0));
    let time = stopped.elapsed();
    assert!(time < Duration::from_secs(10), "stopped after {time:?}");
}

/// Fault: one `kubectl apply` starts the controller before it binds the account to `system:auth-delegator`.
#[tokio::test]
async fn serves_the_tls_port_once_the_permission_is_granted() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("late-reviews").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    let mut controller = ClusterController::spawn(&kubeconfig, namespace.name(), &ARGS[..1]);
    controller
        .wait_for_log("level=ERROR msg=\"--listen-authorized-addr: not served yet, because RBAC")
        .await;
    controller.become_ready().await;
    let metrics_port = controller.metrics_port().unwrap();
    let health = async || http::get(metrics_port, "/readyz/watches").await.unwrap();
    let response = health().await;
    let is_reported =
        response.contains("\nthe TLS port (--listen-authorized-addr): forbidden since ");
    assert!(is_reported, "{response}");
    controller
        .wait_for_log("--listen-authorized-addr: still not served")
        .await;

    roles::grant_reviews(&namespace).await;
    until("the TLS port is open", async || {
        controller.authorized_port()
    })
    .await;
    let response = health().await;
    assert!(!response.contains("the TLS port"), "{response}");
    let errors = controller
        .log()
        .matches("--listen-authorized-addr: not served yet")
        .count();
    assert_eq!(errors, 1, "{}", controller.log());
}

/// Fault: an administrator removes the binding to `system:auth-delegator` while the TLS port is open, so that Pods get
/// no values, and nothing reports why.
#[tokio::test]
async fn reports_a_permission_that_is_revoked_while_the_tls_port_is_open() {
    let case = Case::new().await;
    roles::create_caller(&case.namespace, "verifier", &["verify"]).await;
    let token = case.token("verifier", &[AUDIENCE]).await;
    case.wait_for_code(200, "/v1/verify", &token).await;
    let metrics_port = case.controller.metrics_port().unwrap();
    let health = async || http::get(metrics_port, "/readyz/watches").await.unwrap();
    let is_reported = |health: &str| {
        health.starts_with("HTTP/1.1 503 ")
            && health.contains("\nthe TLS port (--listen-authorized-addr): forbidden since ")
    };
    let count = |text: &str| case.controller.log().matches(text).count();
    let forbidden = "sealed_secrets_controller_watches_failing";
    for round in 1..=2 {
        let response = health().await;
        assert!(!response.contains("the TLS port"), "{response}");
        roles::revoke_reviews(&case.namespace).await;
        case.wait_for_code(503, "/v1/verify", &token).await;
        until("the missing permission is reported", async || {
            is_reported(&health().await).then_some(())
        })
        .await;
        let scrape = Scrape::read(&case.controller.scrape().await);
        let failing = scrape.value(forbidden, &[("reason", "forbidden")]);
        assert!(failing.is_some_and(|count| count >= 1.0), "{failing:?}");

        roles::grant_reviews(&case.namespace).await;
        until("the report is cleared", async || {
            (!health().await.contains("the TLS port")).then_some(())
        })
        .await;
        case.wait_for_code(200, "/v1/verify", &token).await;
        let revoked = "level=ERROR msg=\"--listen-authorized-addr: callers may get the status 503, because RBAC";
        assert_eq!(count(revoked), round, "{}", case.controller.log());
        let granted = "--listen-authorized-addr: callers can be reviewed again";
        assert_eq!(count(granted), round, "{}", case.controller.log());
    }
}

/// Attack: a program sends the controller a token that it received for its own audience or the API server, and that is
/// also valid for the controller.
#[tokio::test]
async fn refuses_a_token_that_is_valid_for_another_audience_too() {
    let case = Case::new().await;
    roles::create_caller(&case.namespace, "all", &["verify", "rotate", "unseal"]).await;
    let body = case.sealed_secret().to_document().to_string();
    let valid = case.token("all", &[AUDIENCE]).await;
    case.wait_for_code(200, "/v1/unseal", &valid).await;
    for audiences in [
        &["https://kubernetes.default.svc", AUDIENCE][..],
        &[AUDIENCE, "https://kubernetes.default.svc"],
        &[AUDIENCE, "vault"],
        &["a", AUDIENCE, "b"],
    ] {
        let token = case.token("all", audiences).await;
        for path in ["/v1/verify", "/v1/rotate", "/v1/unseal"] {
            let (code, response) = case.post(path, Some(&token), &body).await;
            assert_eq!(code, 401, "{audiences:?} {path} {response}");
        }
    }
}
