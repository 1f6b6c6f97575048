//! Tests the renewal and retirement of keys with and without a running controller.

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use shared::needs::LEGACY_ITEM;
use shared::resource::KEY_LABEL;
use tests::patience::until;
use tests::sealing::KEYS;

use super::site::{Site, output_text, seal_in};

/// Attack: an attacker uses a leaked key after it was retired.
#[tokio::test]
async fn rotate_returns_when_the_new_key_is_served_and_the_old_one_retires_when_unused() {
    let site = Site::new("rotate", &KEYS[..1], &["--key-renew-period=0"]).await;
    let namespace_args = ["--only-namespace", site.namespace.name()];
    site.create(&site.sealed_secret(&KEYS[0], "db")).await;
    site.wait_for_value("db").await;

    let message = site.run_with_exit_code(
        2,
        &[
            "keys",
            "retire",
            "key-0",
            namespace_args[0],
            namespace_args[1],
        ],
    );
    assert!(message.contains("is the sealing key"), "{message}");
    let output = site.run_successfully(&["keys", "rotate"]);
    let (name, fingerprint) = output.trim().split_once(' ').unwrap();
    assert_eq!(site.served_key().await.unwrap().to_string(), fingerprint);
    assert!(site.key_names().await.iter().any(|key| key == name));

    // One item needs the old key, and another is invalid. The object fails, but still needs the key.
    let mut failed = site.sealed_secret(&KEYS[0], "failed");
    failed.spec.encrypted_data.insert("b".into(), "AAAA".into());
    site.create(&failed).await;
    let retire_args = [
        "keys",
        "retire",
        "key-0",
        namespace_args[0],
        namespace_args[1],
    ];
    let message = site.run_with_exit_code(1, &retire_args);
    for name in ["db", "failed"] {
        let line = format!(
            "SealedSecret {}/{name}, item a: needs the key",
            site.namespace.name()
        );
        assert!(message.contains(&line), "{message}");
    }
    assert!(!message.contains(LEGACY_ITEM), "{message}");
    let status = site.run_successfully(&["keys", "status", namespace_args[0], namespace_args[1]]);
    let row = status
        .lines()
        .find(|line| line.starts_with("key-0"))
        .unwrap();
    let columns: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(columns[5..7], ["2", "0"], "{status}");
    // This SealedSecret is only in a file.
    site.write("elsewhere.json", &site.sealed_secret(&KEYS[0], "elsewhere"));
    for name in ["db", "failed"] {
        site.sealed_secrets()
            .delete(name, &kube::api::DeleteParams::default())
            .await
            .unwrap();
    }
    let mut with_file = retire_args.to_vec();
    with_file.push("elsewhere.json");
    let message = site.run_with_exit_code(1, &with_file);
    assert!(
        message.contains("elsewhere.json (elsewhere), item a: needs the key"),
        "{message}"
    );

    site.run_successfully(&retire_args);
    let key = site.secrets().get("key-0").await.unwrap();
    assert_eq!(key.metadata.labels.unwrap()[KEY_LABEL], "retired");
    until("the controller removed the key", async || {
        site.controller
            .log()
            .contains("private key removed")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_controller_rotate_times_out_and_keeps_the_request() {
    let site = Site::new("no-rotate", &KEYS[..1], &["--key-renew-period=0"]).await;
    let Site {
        plane,
        namespace,
        controller,
        scratch,
    } = site;
    assert_eq!(controller.stop(), Some(0));
    let output = seal_in(
        plane,
        &namespace,
        &scratch,
        &["keys", "rotate", "--timeout", "1"],
    );
    let message = output_text(&output);
    assert!(
        message.contains("no new key appeared within 1 s"),
        "{message}"
    );
    let key: ApiSecret = namespace.api().get("key-0").await.unwrap();
    let request = key.metadata.annotations.unwrap()[shared::resource::RENEW_ANNOTATION].clone();
    assert_eq!(request, "true");
}
