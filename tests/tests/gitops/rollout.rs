//! Tests rollouts of an application that Flux applies together with its values. The tests need root, to run a node.

use std::time::Duration;

use serde_json::json;
use tests::application::Application;
use tests::node::{BUSYBOX, Node};
use tests::restarter::Restarter;
use tests::verdicts;
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::app::App;

/// How long to check that no restart happens: longer than the restart window of the application.
const OBSERVATION_TIME: Duration = Duration::from_secs(7);

#[tokio::test]
async fn a_new_value_in_git_rolls_out_once_and_flux_and_argo_cd_stay_in_sync() {
    let app = App::new("value").await;
    let application = start(&app).await;
    let sync = app.sync().await;
    application.wait_for_value("first").await;
    let mut restarter = start_restarter(&app).await;
    restarter.wait_until_leader().await;

    app.write(
        &app.site
            .sealed_secret("database", &[("password", "second")]),
    );
    let outcome = app.push(&sync, "Change the password").await;
    assert!(outcome.is_ready, "{outcome:?}");
    application.wait_for_value("second").await;
    application.wait_until_complete().await;
    let digest = application
        .restarted_for()
        .await
        .expect("the workload was restarted");

    let differences =
        verdicts::differences(app.site.plane.kubeconfig(), application.manifest(), &[]);
    assert!(
        differences.is_empty(),
        "Argo CD would undo the restart: {differences:#?}"
    );
    app.write_object(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "other", "namespace": app.site.namespace.name() },
    }));
    let outcome = app.push(&sync, "Add another object").await;
    assert!(outcome.is_ready, "{outcome:?}");
    sleep(OBSERVATION_TIME).await;
    assert_eq!(application.restarted_for().await, Some(digest));
    assert_eq!(application.count_revisions().await, 2, "one restart");
    assert_eq!(application.count_events("RestartReverted").await, 0);
}

#[tokio::test]
async fn a_deployment_and_a_value_in_one_commit_roll_out_once() {
    let app = App::new("together").await;
    let mut application = start(&app).await;
    let sync = app.sync().await;
    application.wait_for_value("first").await;
    let mut restarter = start_restarter(&app).await;
    restarter.wait_until_leader().await;

    application.pod_spec()["containers"][0]["args"] = json!(["600"]);
    application.pod_spec()["containers"][0]["command"] = json!(["sleep"]);
    app.write_object(application.manifest());
    app.write(
        &app.site
            .sealed_secret("database", &[("password", "second")]),
    );
    let outcome = app.push(&sync, "Release 2").await;
    assert!(outcome.is_ready, "{outcome:?}");
    application.wait_for_value("second").await;
    sleep(OBSERVATION_TIME).await;
    assert_eq!(application.restarted_for().await, None);
    assert_eq!(application.count_revisions().await, 2, "one rollout");
}

#[tokio::test]
async fn key_renewal_and_re_encryption_of_the_tree_restart_nothing() {
    let app = App::new("renewal").await;
    let application = start(&app).await;
    let sync = app.sync().await;
    application.wait_for_value("first").await;
    let mut restarter = start_restarter(&app).await;
    restarter.wait_until_leader().await;

    app.seal(&["keys", "rotate"]);
    app.seal(&["rotate", "."]);
    let outcome = app.push(&sync, "Rotate the tree").await;
    assert!(outcome.is_ready, "{outcome:?}");
    app.site.wait_until_observed("database").await;
    sleep(OBSERVATION_TIME).await;
    assert_eq!(application.generation().await, 1);

    // A new value shows that the restarter works.
    app.write(
        &app.site
            .sealed_secret("database", &[("password", "second")]),
    );
    app.push(&sync, "Change the password").await;
    application.wait_for_value("second").await;
}

/// Starts a node on the first call, and writes the application and its value to the work tree.
async fn start(app: &App) -> Application<'_> {
    static NODE: OnceCell<Node> = OnceCell::const_new();
    NODE.get_or_init(async || Node::start(app.site.plane).await)
        .await;
    let mut application = Application::new(&app.site.namespace, "3s");
    // The times of container starts and of versions are whole seconds. An application that starts within the second of
    // a change would count as stale, so an init container delays the start by a second.
    let start = json!({ "name": "start", "image": BUSYBOX, "command": ["sleep", "1"] });
    application.pod_spec()["initContainers"] = json!([start]);
    app.write_object(application.manifest());
    app.write(&app.site.sealed_secret("database", &[("password", "first")]));
    application
}

async fn start_restarter(app: &App) -> Restarter {
    let args = ["--lease-duration", "3s"];
    Restarter::start(
        app.site.plane.kubeconfig(),
        app.site.namespace.name(),
        &args,
    )
    .await
}
