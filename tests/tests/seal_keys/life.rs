//! Rotating, retiring and compromising keys with a running controller.

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use shared::needs::LEGACY_ITEM;
use shared::resource::KEY_LABEL;
use tests::patience::until;
use tests::sealing::KEYS;

use crate::site::{Site, said, seal_in};

/// Attack: uses a leaked key after it was retired.
#[tokio::test]
async fn a_new_key_is_served_when_rotate_returns_and_the_old_one_retires_when_nothing_needs_it() {
    let site = Site::new("rotate", &KEYS[..1], &["--key-renew-period=0"]).await;
    let only = ["--only-namespace", site.namespace.name()];
    site.create(&site.sealed(&KEYS[0], "db")).await;
    site.holds("db").await;

    let refused = site.ends(2, &["keys", "retire", "key-0", only[0], only[1]]);
    assert!(refused.contains("is the key that seals"), "{refused}");
    let printed = site.done(&["keys", "rotate"]);
    let (name, fingerprint) = printed.trim().split_once(' ').unwrap();
    assert_eq!(site.served().await.unwrap().to_string(), fingerprint);
    assert!(site.keys().await.iter().any(|key| key == name));

    // One item needs the old key, another one is invalid: the object fails, and still needs the key.
    let mut failed = site.sealed(&KEYS[0], "failed");
    failed.spec.encrypted_data.insert("b".into(), "AAAA".into());
    site.create(&failed).await;
    let wanted = ["keys", "retire", "key-0", only[0], only[1]];
    let refused = site.ends(1, &wanted);
    for name in ["db", "failed"] {
        let line = format!(
            "SealedSecret {}/{name}, item a: needs it",
            site.namespace.name()
        );
        assert!(refused.contains(&line), "{refused}");
    }
    assert!(!refused.contains(LEGACY_ITEM), "{refused}");
    let status = site.done(&["keys", "status", only[0], only[1]]);
    let row = status
        .lines()
        .find(|line| line.starts_with("key-0"))
        .unwrap();
    let columns: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(columns[5..7], ["2", "0"], "{status}");
    // A file that is not in the cluster.
    site.write("elsewhere.json", &site.sealed(&KEYS[0], "elsewhere"));
    for name in ["db", "failed"] {
        site.sealed_secrets()
            .delete(name, &kube::api::DeleteParams::default())
            .await
            .unwrap();
    }
    let mut with_file = wanted.to_vec();
    with_file.push("elsewhere.json");
    let refused = site.ends(1, &with_file);
    assert!(
        refused.contains("elsewhere.json (elsewhere), item a: needs it"),
        "{refused}"
    );

    site.done(&wanted);
    let key = site.secrets().get("key-0").await.unwrap();
    assert_eq!(key.metadata.labels.unwrap()[KEY_LABEL], "retired");
    until("the controller lets go of it", async || {
        site.controller
            .log()
            .contains("private key removed")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_controller_rotate_reports_its_wait_and_keeps_the_request() {
    let site = Site::new("no-rotate", &KEYS[..1], &["--key-renew-period=0"]).await;
    let Site {
        plane,
        namespace,
        controller,
        scratch,
    } = site;
    assert_eq!(controller.stop(), Some(0));
    let refused = seal_in(
        plane,
        &namespace,
        &scratch,
        &["keys", "rotate", "--timeout", "1"],
    );
    let refused = said(&refused);
    assert!(
        refused.contains("there was no new key within 1 s"),
        "{refused}"
    );
    let key: ApiSecret = namespace.api().get("key-0").await.unwrap();
    let asks = key.metadata.annotations.unwrap()[shared::resource::RENEW_ANNOTATION].clone();
    assert_eq!(asks, "true");
}
