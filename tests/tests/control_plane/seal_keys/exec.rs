//! Tests `seal exec` with the keys in the cluster, for users who may read them and for others.

use serde_json::json;
use tests::roles;
use tests::sealing::KEYS;

use super::site::{Site, output_text};

#[tokio::test]
async fn runs_with_unsealed_values_only_for_users_who_may_read_the_keys() {
    let site = Site::new("exec", &KEYS[..1], &["--key-renew-period=0"]).await;
    site.write("db.json", &site.sealed_secret(&KEYS[0], "db"));
    let args = [
        "exec",
        "--only=a",
        "db.json",
        "--",
        "sh",
        "-c",
        "printf %s \"$a\"; exit 7",
    ];
    let output = site.seal(&args);
    assert_eq!(output.status.code(), Some(7), "{}", output_text(&output));
    assert_eq!(output.stdout, b"db");
    assert!(output.stderr.is_empty(), "{}", output_text(&output));

    roles::create_caller_with(&site.namespace, "outsider", &json!([])).await;
    let kubeconfig = site.plane.kubeconfig_of(site.namespace.name(), "outsider");
    let kubeconfig = kubeconfig.await;
    let exec_args = ["exec", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let message = site.run_with_exit_code(2, &[&exec_args, &args[1..]].concat());
    for part in ["--backup", "cannot read the key Secrets", "403"] {
        assert!(message.contains(part), "missing {part}: {message}");
    }
}
