//! The identity under which a replica holds the Lease.
//!
//! A container that restarts in its Pod should continue with its own Lease immediately, instead of waiting until the
//! Lease expires. This is safe only if no other process uses the same identity. The uid of a Pod is never used by
//! another Pod. Within the Pod, the process holds an abstract Unix socket with the uid in its name until it exits: all
//! containers of a Pod share a network namespace, so the kernel gives the socket to only one process at a time. A
//! process that cannot get the socket, or does not know the uid, uses an identity with a random part, as client-go
//! does.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use tracing::warn;

use super::Pod;

/// The identity of this process. It is unique, unless `POD_UID` is the uid of another Pod.
#[derive(Debug)]
pub(super) struct Identity {
    text: String,
    /// While this socket is open, no other process of this Pod can have the identity.
    _claim: Option<UnixListener>,
}

impl Identity {
    /// Returns the identity of the Pod, if its uid is known and no other process has claimed this identity; otherwise a
    /// random identity.
    pub(super) fn for_pod(pod: &Pod) -> Self {
        let Some(uid) = &pod.uid else {
            return Self::random(pod);
        };
        match claim_socket(uid) {
            Ok(claim) => Self {
                text: format!("{}_{uid}", name(pod)),
                _claim: Some(claim),
            },
            Err(error) => {
                warn!(
                    %error,
                    "Cannot claim the identity of this Pod, which another process may use; this process uses a random identity, \
                     and may have to wait for the Lease"
                );
                Self::random(pod)
            }
        }
    }

    /// Returns a random identity, without a claim.
    pub(super) fn random(pod: &Pod) -> Self {
        Self {
            text: format!("{}_{:016x}", name(pod), shared::random::number::<u64>()),
            _claim: None,
        }
    }

    /// Returns the identity of another process without its claim, as on another machine.
    #[cfg(test)]
    pub(super) fn without_claim(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            _claim: None,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Returns the name of the Pod, or the host name if the name of the Pod is unknown. The name need not be unique.
fn name(pod: &Pod) -> String {
    let host_name = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    pod.name
        .clone()
        .unwrap_or_else(|| host_name().trim().to_owned())
}

fn claim_socket(uid: &str) -> std::io::Result<UnixListener> {
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

    /// Attack: a client starts a second process with the uid of the same Pod, so that two processes lead.
    #[test]
    fn only_one_process_at_a_time_has_the_identity_of_a_pod() {
        let uid = unused_uid();
        let first = Identity::for_pod(&pod(Some(&uid)));
        assert_eq!(first.as_str(), format!("controller-1_{uid}"));
        let second = Identity::for_pod(&pod(Some(&uid)));
        assert_ne!(second.as_str(), first.as_str());
        assert!(second.as_str().starts_with("controller-1_"));
        drop(first);
        let third = Identity::for_pod(&pod(Some(&uid)));
        assert_eq!(third.as_str(), format!("controller-1_{uid}"));
    }

    #[test]
    fn generates_an_identity_if_the_pod_has_no_valid_uid() {
        for uid in [None, Some("x".repeat(200))] {
            let identity = || Identity::for_pod(&pod(uid.as_deref())).text;
            assert_ne!(identity(), identity());
        }
    }
}
