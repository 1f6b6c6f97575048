//! `seal exec` with the keys of the cluster, for a user who may read them.

use serde_json::json;
use tests::roles;
use tests::sealing::KEYS;

use crate::site::{Site, said};

#[tokio::test]
async fn runs_with_unsealed_values_only_for_users_who_may_read_the_keys() {
    let site = Site::new("exec", &KEYS[..1], &["--key-renew-period=0"]).await;
    site.write("db.json", &site.sealed(&KEYS[0], "db"));
    let args = [
        "exec",
        "--only=a",
        "db.json",
        "--",
        "sh",
        "-c",
        "printf %s \"$a\"; exit 7",
    ];
    let ran = site.seal(&args);
    assert_eq!(ran.status.code(), Some(7), "{}", said(&ran));
    assert_eq!(ran.stdout, b"db");
    assert!(ran.stderr.is_empty(), "{}", said(&ran));

    roles::create_caller_with(&site.namespace, "stranger", &json!([])).await;
    let kubeconfig = site.plane.kubeconfig_of(site.namespace.name(), "stranger");
    let kubeconfig = kubeconfig.await;
    let with = ["exec", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let refused = site.ends(2, &[&with, &args[1..]].concat());
    for part in ["--backup", "cannot read the key Secrets", "403"] {
        assert!(refused.contains(part), "it lacks {part}: {refused}");
    }
}
