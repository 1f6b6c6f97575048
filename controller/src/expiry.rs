//! Logs a warning while a served key is expired: clients that check its validity refuse to seal with it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared::key::Validity;
use shared::key_ring::{AnyKey, KeyRing};
use tokio::sync::watch;
use tracing::warn;

/// Pause between two warnings about the same key.
const WARNING_INTERVAL: Duration = Duration::from_hours(1);

/// Checks the key ring on every change and once an hour, and logs a warning if a served key has expired.
/// Returns when the sender of the ring is dropped.
pub(crate) async fn watch(ring: watch::Receiver<Arc<KeyRing>>) {
    watch_with(ring, Timestamp::now, &mut |Expired { fingerprint, end }| {
        warn!(
            %fingerprint,
            %end,
            "The served certificate or v2 key has expired, and no newer key may seal: generate a key with `seal keys rotate`, or enable \
             automatic renewal with --key-renew-period"
        );
    })
    .await;
}

/// Implements [`watch()`] with a clock and a function that reports an expired key.
async fn watch_with(
    mut ring: watch::Receiver<Arc<KeyRing>>,
    now: impl Fn() -> Timestamp,
    warn: &mut impl FnMut(Expired),
) {
    loop {
        let expired = find_expired(&ring.borrow_and_update(), now());
        expired.into_iter().for_each(&mut *warn);
        tokio::select! {
            changed = ring.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(WARNING_INTERVAL) => {}
        }
    }
}

/// A served key that has expired.
#[derive(Debug, PartialEq, Eq)]
struct Expired {
    fingerprint: String,
    end: Timestamp,
}

/// Returns the expired sealing keys, among all suites for which the controller generates keys.
fn find_expired(ring: &KeyRing, now: Timestamp) -> Vec<Expired> {
    let keys = ring
        .renewed_suites()
        .filter_map(|suite| ring.sealing_key_of(suite, now).ok());
    keys.filter_map(|key| check_expiry(&key, now)).collect()
}

fn check_expiry(key: &AnyKey, now: Timestamp) -> Option<Expired> {
    let sealing_half = key.sealing_half()?;
    (sealing_half.validity(now) == Validity::Expired).then(|| Expired {
        fingerprint: key.id_text(),
        end: sealing_half.not_after,
    })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use shared::key::{KeySize, KeySpec};
    use shared::key_marks::Marks;
    use shared::key_ring::{RingKey, RingV2Key};
    use shared::v2::key_secret::StoredKey;
    use shared::v2::{SecretKey, Suite};

    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);
    const START: Timestamp = Timestamp::UNIX_EPOCH;

    /// Returns a key whose certificate is valid for an hour.
    fn key(created: Timestamp, is_compromised: bool) -> Arc<RingKey> {
        let spec = KeySpec {
            size: KeySize::Rsa2048,
            ttl: HOUR,
            common_name: String::new(),
        };
        let new = spec
            .generate(created, &mut shared::random::system())
            .unwrap();
        let key = RingKey::new(created.to_string(), created, new.pair);
        Arc::new(key.with_marks(Marks {
            is_compromised,
            ..Marks::default()
        }))
    }

    #[test]
    fn reports_the_served_certificate_only_if_it_has_expired() {
        let (oldest, old, new) = (START, START + HOUR * 10, START + HOUR * 20);
        let now = new + HOUR / 2;
        let [oldest, old, new] = [oldest, old, new].map(|created| key(created, false));
        let compromised = key(now - HOUR / 2, true);
        let end = old.order_time() + HOUR;
        let second = SignedDuration::from_secs(1);
        for (case_name, keys, now, want) in [
            ("expired", vec![&old], now, Some(&old)),
            ("valid", vec![&new], now, None),
            ("the newer key is valid", vec![&old, &new], now, None),
            ("both expired", vec![&oldest, &old], now, Some(&old)),
            (
                "the newer key is compromised",
                vec![&old, &compromised],
                now,
                Some(&old),
            ),
            ("compromised alone", vec![&compromised], now + HOUR, None),
            ("just before its end", vec![&old], end - second, None),
            ("just after its end", vec![&old], end + second, Some(&old)),
            ("no key", vec![], now, None),
        ] {
            let ring = KeyRing::new(keys.into_iter().cloned());
            let want = want.map(|key| key.fingerprint().to_string());
            let got = find_expired(&ring, now).pop();
            assert_eq!(got.map(|expired| expired.fingerprint), want, "{case_name}");
        }
    }

    #[test]
    fn reports_the_v2_key_of_the_preferred_suite_too() {
        let stored = StoredKey {
            key: SecretKey::from_bytes(Suite::XWing, &[1; 32]).unwrap(),
            not_before: START,
            not_after: START + HOUR,
        };
        let v2 = Arc::new(RingV2Key::new("v2".into(), START, stored));
        let ring = KeyRing::new([key(START, false)]).with_v2_keys([Arc::clone(&v2)]);
        let count = |ring: &KeyRing, now| find_expired(ring, now).len();
        assert_eq!(
            count(&ring, START + HOUR * 2),
            1,
            "only the certificate is served"
        );
        let ring = ring.with_preferred_suite(Suite::XWing);
        assert_eq!(count(&ring, START + HOUR), 0);
        let expired = find_expired(&ring, START + HOUR * 2).pop().unwrap();
        assert_eq!(expired.fingerprint, v2.key_id().to_string());
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_the_warning_every_hour_and_warns_at_once_about_another_key() {
        let [old, newer] = [START, START + HOUR].map(|created| key(created, false));
        let fingerprints = [&old, &newer].map(|key| key.fingerprint().to_string());
        let ring = |key| Arc::new(KeyRing::new([key]));
        let (sender, receiver) = watch::channel(ring(old));
        let mut warnings = Vec::new();
        let start = tokio::time::Instant::now();
        let mut warn =
            |expired: Expired| warnings.push((expired.fingerprint, start.elapsed().as_secs()));
        let hour = WARNING_INTERVAL.as_secs();
        let replace_key = async {
            tokio::time::sleep(WARNING_INTERVAL * 3 + WARNING_INTERVAL / 2).await;
            sender.send_replace(ring(newer));
            tokio::time::sleep(WARNING_INTERVAL / 2).await;
            drop(sender);
        };
        let now = || START + HOUR * 100;
        tokio::join!(watch_with(receiver, now, &mut warn), replace_key);
        let [old, newer] = fingerprints;
        let replaced_at = hour * 7 / 2;
        let mut want: Vec<_> = (0..4).map(|n| (old.clone(), n * hour)).collect();
        want.push((newer, replaced_at));
        assert_eq!(warnings, want);
    }
}
