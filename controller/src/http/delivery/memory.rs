//! Limits the memory of all responses that are cached, wait for their time, or are being sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::http::connections::Slot;

/// Maximum total size of all responses in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Maximum total size of the responses of one namespace: a quarter of all memory, enough for two responses of the
/// maximum size.
const MAX_BYTES_OF_NAMESPACE: usize = MAX_BYTES / 4;

/// The memory that responses have reserved.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    reserved: BTreeMap<u64, Entry>,
    /// The number of the next reservation.
    next: u64,
}

/// A reservation.
#[derive(Debug)]
struct Entry {
    namespace: String,
    bytes: usize,
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

impl Memory {
    /// Reserves memory for a response; `None` if too much is in use.
    pub(super) fn reserve(&self, namespace: &str, bytes: usize) -> Option<Reservation> {
        let mut state = self.state();
        if state.used() + bytes > MAX_BYTES || !state.may_use(namespace, bytes) {
            return None;
        }
        let number = state.next;
        state.next += 1;
        let entry = Entry {
            namespace: namespace.to_owned(),
            bytes,
            connections: Vec::new(),
        };
        state.reserved.insert(number, entry);
        Some(Reservation {
            memory: self.clone(),
            number,
            bytes,
        })
    }

    /// Closes the connections that send the oldest response of the namespace that uses the most memory, so that a
    /// namespace that uses less can reserve this number of bytes soon. Returns whether connections were closed.
    pub(super) fn displace(&self, namespace: &str, bytes: usize) -> bool {
        let mut state = self.state();
        if !state.may_use(namespace, bytes) {
            return false;
        }
        let needed = state.used_by(namespace) + bytes;
        let Some(connections) = state.connections_to_displace(needed) else {
            return false;
        };
        let open: Vec<_> = connections.drain(..).filter_map(|c| c.upgrade()).collect();
        for connection in &open {
            connection.close();
        }
        !open.is_empty()
    }

    #[cfg(test)]
    pub(super) fn used_by(&self, namespace: &str) -> usize {
        self.state().used_by(namespace)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn used(&self) -> usize {
        self.reserved.values().map(|entry| entry.bytes).sum()
    }

    fn used_by(&self, namespace: &str) -> usize {
        let own = |entry: &&Entry| entry.namespace == namespace;
        let own = self.reserved.values().filter(own);
        own.map(|entry| entry.bytes).sum()
    }

    fn may_use(&self, namespace: &str, bytes: usize) -> bool {
        self.used_by(namespace) + bytes <= MAX_BYTES_OF_NAMESPACE
    }

    /// Returns the connections of the oldest response that is being sent to the namespace that uses the most memory, if
    /// that namespace uses more than this number of bytes.
    fn connections_to_displace(&mut self, bytes: usize) -> Option<&mut Vec<Weak<Slot>>> {
        let mut used = BTreeMap::<&str, usize>::new();
        for entry in self.reserved.values() {
            *used.entry(&entry.namespace).or_default() += entry.bytes;
        }
        let (most, used) = used.into_iter().max_by_key(|(_, used)| *used)?;
        let most = (used > bytes).then(|| most.to_owned())?;
        let mut entries = self.reserved.values_mut();
        let entry = entries.find(|entry| entry.namespace == most && entry.is_being_sent())?;
        Some(&mut entry.connections)
    }
}

impl Entry {
    fn is_being_sent(&self) -> bool {
        let mut connections = self.connections.iter();
        connections.any(|connection| connection.strong_count() > 0)
    }
}

impl Reservation {
    /// Returns the number of reserved bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
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

    /// Attack: Pods of a namespace request large responses and read them slowly, so that Pods of other namespaces get
    /// none.
    #[test]
    fn a_namespace_uses_a_quarter_of_the_memory_at_most() {
        let memory = Memory::default();
        let reserve = |namespace: &str| memory.reserve(namespace, 4 << 20);
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
            let reservation = memory.reserve(namespace, 4 << 20).unwrap();
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
        assert!(memory.reserve("quiet", 1).is_none());
        for namespace in names {
            assert!(!memory.displace(namespace, 1), "its share is used up");
        }
        assert!(memory.displace("quiet", 3 << 20));
        let mut closed = Vec::new();
        for (number, response) in sending.iter().enumerate() {
            if response.is_closed().await {
                closed.push(number);
            }
        }
        assert_eq!(
            closed,
            [3],
            "the oldest response of one of the largest namespaces"
        );
        sending.remove(3);
        let quiet = memory.reserve("quiet", 3 << 20);
        assert!(quiet.is_some());
        assert!(!memory.displace("quiet", 16 << 20), "more than its share");
    }
}
