//! Logs a warning while the served certificate is expired: clients that check it refuse to seal.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared::key::Validity;
use shared::key_ring::KeyRing;
use tokio::sync::watch;
use tracing::warn;

/// Pause between two warnings about the same certificate.
const PERIOD: Duration = Duration::from_hours(1);

/// Checks the key ring on every change and once an hour. Returns when the sender of the ring is dropped.
pub(crate) async fn watch(mut ring: watch::Receiver<Arc<KeyRing>>) {
    loop {
        let expired = expired(&ring.borrow_and_update(), Timestamp::now());
        if let Some(Expired { fingerprint, end }) = expired {
            warn!(
                %fingerprint,
                %end,
                "The certificate that is served has expired, and no newer key may seal: make one with `seal keys \
                 rotate`, or let --key-renew-period make them"
            );
        }
        tokio::select! {
            changed = ring.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// A served certificate that has expired.
#[derive(Debug, PartialEq, Eq)]
struct Expired {
    fingerprint: String,
    end: Timestamp,
}

fn expired(ring: &KeyRing, now: Timestamp) -> Option<Expired> {
    let certificate = ring.sealing(now).ok()?.certificate()?;
    (certificate.validity(now) == Validity::Expired).then(|| Expired {
        fingerprint: certificate.fingerprint().to_string(),
        end: certificate.not_after(),
    })
}
