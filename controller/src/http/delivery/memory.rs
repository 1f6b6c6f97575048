//! Limits the memory of all responses that are created, cached, wait for their time, or are being sent.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use crate::http::connections::Slot;

/// Maximum total size of all responses in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Maximum total size of the responses of one namespace: a quarter of all memory, enough for two responses of the
/// maximum size.
const MAX_BYTES_OF_NAMESPACE: usize = MAX_BYTES / 4;

/// The memory that responses have reserved.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

/// The Pod that caused a reservation: the first one that requested the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// The namespace of the Pod.
    pub(super) namespace: String,
    /// The `uid` of the Pod.
    pub(super) pod: String,
}

#[derive(Debug, Default)]
struct State {
    reserved: BTreeMap<u64, Entry>,
    /// Requests that displace responses, in the order in which they get the memory.
    claims: BTreeMap<u64, (Owner, usize)>,
    /// The number of the next reservation or claim.
    next: u64,
}

/// A reservation.
#[derive(Debug)]
struct Entry {
    owner: Owner,
    bytes: usize,
    /// Ends the request that creates the response, or that waits for the time of the response. Closed if there is no
    /// such request.
    pending: Option<oneshot::Sender<()>>,
    /// The connections that send the response.
    connections: Vec<Weak<Slot>>,
}

/// Reserved memory, released on drop.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Memory,
    number: u64,
    bytes: usize,
}

/// Receives a message when another request needs the memory. While this value exists, the response can be displaced
/// before it is sent.
pub(super) type Displaced = oneshot::Receiver<()>;

/// A request for memory that is in use. The memory that becomes free goes to the oldest claim, and claims end on drop.
#[derive(Debug)]
pub(super) struct Claim {
    memory: Memory,
    number: u64,
    owner: Owner,
    bytes: usize,
}

impl Memory {
    /// Reserves memory for a response; `None` if too much is in use.
    pub(super) fn reserve(&self, owner: &Owner, bytes: usize) -> Option<(Reservation, Displaced)> {
        self.reserve_before(owner, bytes, u64::MAX)
    }

    /// Returns whether all namespaces together use too much to reserve this number of bytes.
    pub(super) fn is_exhausted(&self, bytes: usize) -> bool {
        self.state().used() + bytes > MAX_BYTES
    }

    /// Claims memory that is in use.
    pub(super) fn claim(&self, owner: &Owner, bytes: usize) -> Claim {
        let mut state = self.state();
        let number = state.next_number();
        state.claims.insert(number, (owner.clone(), bytes));
        Claim {
            memory: self.clone(),
            number,
            owner: owner.clone(),
            bytes,
        }
    }

    /// Reserves memory that no claim with a lower number needs.
    fn reserve_before(
        &self,
        owner: &Owner,
        bytes: usize,
        claim: u64,
    ) -> Option<(Reservation, Displaced)> {
        let mut state = self.state();
        let claimed = state.claimed_before(claim, owner);
        if state.used() + claimed.total + bytes > MAX_BYTES
            || !state.may_use(owner, claimed.by_namespace + bytes)
        {
            return None;
        }
        let number = state.next_number();
        let (pending, displaced) = oneshot::channel();
        let entry = Entry {
            owner: owner.clone(),
            bytes,
            pending: Some(pending),
            connections: Vec::new(),
        };
        state.reserved.insert(number, entry);
        let reservation = Reservation {
            memory: self.clone(),
            number,
            bytes,
        };
        Some((reservation, displaced))
    }

    #[cfg(test)]
    pub(super) fn used_by(&self, namespace: &str) -> usize {
        self.state().used_by(namespace)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Reserves the claimed memory; `None` if it is still in use, or an older claim needs it.
    pub(super) fn reserve(&self) -> Option<(Reservation, Displaced)> {
        let (owner, bytes) = (&self.owner, self.bytes);
        self.memory.reserve_before(owner, bytes, self.number)
    }

    /// Ends the oldest response of the namespace that uses the most memory, if that namespace uses more than that of
    /// the owner would. If the owner's namespace has used up its share, ends a response of a Pod of this namespace that
    /// uses more than the owner would. The memory becomes free soon. Returns whether a response was ended.
    pub(super) fn displace(&self) -> bool {
        let mut state = self.memory.state();
        let oldest = state.to_displace(&self.owner, self.bytes);
        let entry = oldest.and_then(|number| state.reserved.get_mut(&number));
        entry.is_some_and(Entry::displace)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.memory.state().claims.remove(&self.number);
    }
}

/// Claimed bytes: of all namespaces, and of one.
#[derive(Debug, Default)]
struct Claimed {
    total: usize,
    by_namespace: usize,
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn used(&self) -> usize {
        self.reserved.values().map(|entry| entry.bytes).sum()
    }

    fn used_by(&self, namespace: &str) -> usize {
        let entries = self.reserved.values();
        let own = entries.filter(|entry| entry.owner.namespace == namespace);
        own.map(|entry| entry.bytes).sum()
    }

    fn used_by_pod(&self, owner: &Owner) -> usize {
        let own = self.reserved.values().filter(|entry| entry.owner == *owner);
        own.map(|entry| entry.bytes).sum()
    }

    fn may_use(&self, owner: &Owner, bytes: usize) -> bool {
        self.used_by(&owner.namespace) + bytes <= MAX_BYTES_OF_NAMESPACE
    }

    /// Returns the memory that claims with a lower number will get. A claim beyond the share of its namespace gets only
    /// memory of that namespace, so it does not count in total.
    fn claimed_before(&self, number: u64, owner: &Owner) -> Claimed {
        let mut claimed = Claimed::default();
        for (claimant, bytes) in self.claims.range(..number).map(|(_, claim)| claim) {
            if claimant.namespace == owner.namespace {
                claimed.by_namespace += bytes;
            }
            if self.may_use(claimant, *bytes) {
                claimed.total += bytes;
            }
        }
        claimed
    }

    /// Returns the number of the reservation to end, so that the owner can reserve this number of bytes.
    fn to_displace(&self, owner: &Owner, bytes: usize) -> Option<u64> {
        let own_namespace = &owner.namespace;
        if self.may_use(owner, bytes) {
            let own = self.used_by(own_namespace) + bytes;
            self.oldest_of_largest(own, |entry| Some(&entry.owner.namespace))
        } else {
            let own = self.used_by_pod(owner) + bytes;
            self.oldest_of_largest(own, |entry| {
                let entry = Some(entry).filter(|entry| entry.owner.namespace == *own_namespace);
                entry.map(|entry| &entry.owner.pod)
            })
        }
    }

    /// Groups the reservations, and returns the oldest one that can be ended, of the group that uses the most and has
    /// such a reservation. Considers only groups that use more than this number of bytes.
    fn oldest_of_largest<'a>(
        &'a self,
        bytes: usize,
        group: impl Fn(&'a Entry) -> Option<&'a String>,
    ) -> Option<u64> {
        let mut groups = BTreeMap::<&String, (usize, Option<u64>)>::new();
        for (number, entry) in &self.reserved {
            if let Some(name) = group(entry) {
                let (used, oldest) = groups.entry(name).or_default();
                *used += entry.bytes;
                *oldest = oldest.or_else(|| entry.can_be_displaced().then_some(*number));
            }
        }
        let larger = groups.into_values().filter(|(used, _)| *used > bytes);
        let candidates = larger.filter_map(|(used, oldest)| Some((Reverse(used), oldest?)));
        candidates.min().map(|(_, oldest)| oldest)
    }
}

impl Entry {
    fn can_be_displaced(&self) -> bool {
        self.is_pending() || self.is_being_sent()
    }

    fn is_pending(&self) -> bool {
        let pending = self.pending.as_ref();
        pending.is_some_and(|pending| !pending.is_closed())
    }

    fn is_being_sent(&self) -> bool {
        let mut connections = self.connections.iter();
        connections.any(|connection| connection.strong_count() > 0)
    }

    /// Ends the request that creates the response, and closes the connections that send it. Returns whether there was
    /// any.
    fn displace(&mut self) -> bool {
        let pending = self.pending.take();
        let is_ended = pending.is_some_and(|pending| pending.send(()).is_ok());
        let open: Vec<_> = self.connections.drain(..).collect();
        let open: Vec<_> = open.iter().filter_map(Weak::upgrade).collect();
        for connection in &open {
            connection.close();
        }
        is_ended || !open.is_empty()
    }
}

impl Reservation {
    /// Returns the number of reserved bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether a Pod of this namespace caused the reservation.
    pub(super) fn is_of(&self, namespace: &str) -> bool {
        let state = self.memory.state();
        let entry = state.reserved.get(&self.number);
        entry.is_some_and(|entry| entry.owner.namespace == namespace)
    }

    /// Records a connection that sends the response.
    pub(super) fn add_connection(&self, connection: &Arc<Slot>) {
        if let Some(entry) = self.memory.state().reserved.get_mut(&self.number) {
            entry.connections.retain(|other| other.strong_count() > 0);
            entry.connections.push(Arc::downgrade(connection));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.state().reserved.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::http::connections::{Connections, Signals};

    fn owner(namespace: &str, pod: &str) -> Owner {
        Owner {
            namespace: namespace.into(),
            pod: pod.into(),
        }
    }

    /// Attack: Pods of a namespace request large responses and read them slowly, so that Pods of other namespaces get
    /// none.
    #[test]
    fn a_namespace_uses_a_quarter_of_the_memory_at_most() {
        let memory = Memory::default();
        let reserve = |namespace: &str| memory.reserve(&owner(namespace, "p"), 4 << 20);
        let greedy: Vec<_> = std::iter::from_fn(|| reserve("greedy")).collect();
        assert_eq!(greedy.len(), 4);
        let quiet = reserve("quiet");
        assert!(quiet.is_some());
        let others: Vec<_> = (0..100).filter_map(|i| reserve(&format!("n{i}"))).collect();
        assert_eq!(others.len(), 11, "64 MiB in total");
        drop((greedy, quiet, others));
        assert!(memory.state().reserved.is_empty());
    }

    /// A response that is being sent.
    struct Sending {
        signals: Signals,
        _slot: Arc<Slot>,
        _reservation: Reservation,
    }

    impl Sending {
        fn new(memory: &Memory, connections: &Connections, namespace: &str) -> Self {
            let (reservation, _) = memory.reserve(&owner(namespace, "p"), 4 << 20).unwrap();
            let (slot, signals) = connections.admit(Ipv4Addr::LOCALHOST.into()).unwrap();
            let slot = Arc::new(slot);
            reservation.add_connection(&slot);
            Self {
                signals,
                _slot: slot,
                _reservation: reservation,
            }
        }

        async fn is_closed(&self) -> bool {
            let closed = tokio::time::timeout(Duration::ZERO, self.signals.closed.notified());
            closed.await.is_ok()
        }
    }

    /// Attack: four namespaces use all memory with responses that they do not read, so that Pods of other namespaces
    /// get no values.
    #[tokio::test(start_paused = true)]
    async fn a_namespace_with_less_memory_displaces_the_oldest_response_of_the_largest() {
        let (memory, connections) = (Memory::default(), Connections::default());
        let names = ["a", "b", "c", "d"];
        let mut sending = Vec::new();
        for namespace in names.into_iter().cycle().take(16) {
            sending.push(Sending::new(&memory, &connections, namespace));
        }
        let quiet = owner("quiet", "p");
        assert!(memory.reserve(&quiet, 1).is_none());
        for namespace in names {
            let claim = memory.claim(&owner(namespace, "p"), 1);
            assert!(!claim.displace(), "its share is used up");
        }
        let claim = memory.claim(&quiet, 3 << 20);
        assert!(claim.displace());
        let mut closed = Vec::new();
        for (number, response) in sending.iter().enumerate() {
            if response.is_closed().await {
                closed.push(number);
            }
        }
        assert_eq!(closed, [0], "the oldest response of the largest namespaces");
        assert!(claim.reserve().is_none());
        sending.remove(0);
        assert!(
            memory.reserve(&owner("a", "p"), 3 << 20).is_none(),
            "the memory is claimed"
        );
        assert!(claim.reserve().is_some());
        let too_large = memory.claim(&quiet, 17 << 20);
        assert!(!too_large.displace(), "more than its share");
    }

    /// Attack: five namespaces request responses that wait for their time, so that nothing is being sent and Pods of
    /// other namespaces get no values.
    #[test]
    fn responses_that_wait_for_their_time_are_displaced_too() {
        let memory = Memory::default();
        let mut waiting = Vec::new();
        for i in 0..20 {
            waiting.extend(memory.reserve(&owner(&format!("n{}", i % 5), "p"), 4 << 20));
        }
        assert_eq!(waiting.len(), 16);
        let claim = memory.claim(&owner("quiet", "p"), 4 << 20);
        assert!(claim.reserve().is_none());
        assert!(claim.displace());
        let is_displaced = |waiting: &mut (_, Displaced)| waiting.1.try_recv().is_ok();
        let displaced: Vec<bool> = waiting.iter_mut().map(is_displaced).collect();
        assert_eq!(displaced.iter().position(|is| *is), Some(0), "the oldest");
        assert_eq!(displaced.iter().filter(|is| **is).count(), 1);
        waiting.remove(0);
        assert!(claim.reserve().is_some());
    }

    /// Attack: the namespace that uses the most memory has only responses that cannot be displaced.
    #[test]
    fn the_next_largest_namespace_is_displaced_if_the_largest_has_nothing_to_displace() {
        let memory = Memory::default();
        let reserve =
            |namespace: &str, mib: usize| memory.reserve(&owner(namespace, "p"), mib << 20);
        let (cached, receiver) = reserve("cached", 16).unwrap();
        drop(receiver);
        let mut waiting: Vec<_> = ["a", "b", "c"]
            .map(|namespace| reserve(namespace, 15))
            .into();
        let claim = memory.claim(&owner("quiet", "p"), 4 << 20);
        assert!(claim.displace());
        let (_, displaced) = waiting[0].as_mut().unwrap();
        assert!(displaced.try_recv().is_ok());
        drop(cached);
    }

    /// Attack: one Pod uses up the share of its namespace, so that the other Pods of the namespace get no values.
    #[test]
    fn a_pod_with_less_memory_displaces_the_oldest_response_of_the_largest_pod_of_its_namespace() {
        let memory = Memory::default();
        let reserve = |pod: &str| memory.reserve(&owner("ns", pod), 4 << 20);
        let mut small = reserve("small").unwrap();
        let mut greedy: Vec<_> = std::iter::from_fn(|| reserve("greedy")).collect();
        assert_eq!(greedy.len(), 3);
        let other_namespace = memory.reserve(&owner("other", "p"), 16 << 20).unwrap();
        let own = memory.claim(&owner("ns", "greedy"), 1);
        assert!(!own.displace(), "no Pod uses more");
        drop(own);
        let claim = memory.claim(&owner("ns", "quiet"), 4 << 20);
        assert!(claim.displace());
        assert!(greedy[0].1.try_recv().is_ok());
        assert!(small.1.try_recv().is_err());
        greedy.remove(0);
        assert!(reserve("greedy").is_none(), "the memory is claimed");
        assert!(claim.reserve().is_some());
        drop(other_namespace);
    }
}
