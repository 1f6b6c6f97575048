//! The identity under which a replica holds the Lease.
//!
//! A container that is killed and started again in its Pod should go on with its own Lease at once,
//! instead of waiting for it to run out. That is safe only if no other process uses the same
//! identity. The uid of a Pod belongs to that Pod alone, for ever. Within the Pod, an abstract Unix
//! socket with the uid in its name is held for the life of the process: all containers of a Pod share
//! one network namespace, so the kernel lets one process have it, frees it when that process is dead,
//! and not while it is only stopped. Whoever does not get the socket, or has no uid, uses an identity
//! with a random part, as client-go does.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use tracing::warn;

use crate::args::Pod;

/// An identity that no other process has.
#[derive(Debug)]
pub(super) struct Identity {
    text: String,
    /// Held, never read: while it lives, no other process of this Pod has the identity.
    _claim: Option<UnixListener>,
}

impl Identity {
    /// That of the Pod, if its uid is known and no other process has claimed it; otherwise a random one.
    pub(super) fn of(pod: &Pod) -> Self {
        let Some(uid) = &pod.uid else {
            return Self::random(pod);
        };
        match claim(uid) {
            Ok(claim) => Self {
                text: format!("{}_{uid}", name(pod)),
                _claim: Some(claim),
            },
            Err(error) => {
                warn!(
                    %error,
                    "Another process of this Pod may use its identity, so this one has a random identity and may wait for the Lease"
                );
                Self::random(pod)
            }
        }
    }

    /// One that nothing else has, whatever claimed what.
    pub(super) fn random(pod: &Pod) -> Self {
        Self {
            text: format!("{}_{:016x}", name(pod), shared::random::number::<u64>()),
            _claim: None,
        }
    }

    /// That of another process, as on a machine where nothing holds the claim.
    #[cfg(test)]
    pub(super) fn stolen(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            _claim: None,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// For people; it need not be unique.
fn name(pod: &Pod) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    pod.name.clone().unwrap_or_else(|| host().trim().to_owned())
}

fn claim(uid: &str) -> std::io::Result<UnixListener> {
    let name = format!("sealed-secrets-controller/{uid}");
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: Option<&str>) -> Pod {
        Pod {
            name: Some("controller-1".into()),
            uid: uid.map(str::to_owned),
            ..Pod::default()
        }
    }

    fn unused_uid() -> String {
        format!("{:032x}", shared::random::number::<u128>())
    }

    /// Attack: starts a second process with the uid of the same Pod.
    #[test]
    fn the_identity_of_a_pod_is_had_by_one_process_at_a_time() {
        let uid = unused_uid();
        let first = Identity::of(&pod(Some(&uid)));
        assert_eq!(first.as_str(), format!("controller-1_{uid}"));
        let second = Identity::of(&pod(Some(&uid)));
        assert_ne!(second.as_str(), first.as_str());
        assert!(second.as_str().starts_with("controller-1_"));
        drop(first);
        let third = Identity::of(&pod(Some(&uid)));
        assert_eq!(third.as_str(), format!("controller-1_{uid}"));
    }

    #[test]
    fn without_a_uid_or_with_one_that_is_none_each_process_has_its_own() {
        for uid in [None, Some("x".repeat(200))] {
            let identity = || Identity::of(&pod(uid.as_deref())).text;
            assert_ne!(identity(), identity());
        }
    }
}
