//! Keys that come later.

use tests::sealing::{KEYS, put_key, sealed_for};

use crate::case::Case;
use shared::scope::Scope;

#[tokio::test]
async fn c1_a_key_that_arrives_later_opens_what_failed() {
    let case = Case::new("late-key").await;
    let sealed = sealed_for(
        &KEYS[1],
        case.namespace.name(),
        "db",
        &[("a", "1")],
        Scope::Strict,
    );
    case.create(&sealed).await;
    assert_eq!(case.failure("db").await, "no key could decrypt secret (a)");
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    case.holds("db", &[("a", "1")]).await;
    case.is_synced("db").await;
}
