//! Unseals objects with `shared`, as the controller does.

use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::resource::SealedSecret;
use shared::secret::Secret;
use shared::unseal::{Randomness, Rules, UnsealError, unseal};

pub(crate) fn unseal_object(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
) -> Result<Secret, UnsealError> {
    let rules = Rules {
        accept_legacy,
        refuse_random: true,
    };
    let mut randomness = Randomness {
        now: Timestamp::UNIX_EPOCH,
        rng: &mut shared::random::system(),
    };
    unseal(sealed, ring, rules, &mut randomness).map(|unsealed| unsealed.secret)
}
