//! Decides which connections of a port are kept: each address gets a fair share, and newcomers are admitted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// How many connections a port may have.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Maximum number of connections.
    total: usize,
    /// Maximum number of connections of one address.
    per_address: usize,
}

impl Default for Capacity {
    /// Each connection takes about ten kilobytes, and an address may open a quarter of all connections.
    fn default() -> Self {
        Self {
            total: 2000,
            per_address: 500,
        }
    }
}

impl Capacity {
    /// Returns the capacity of a port on which a thousand requests may wait for changes, also from one address: some
    /// networks replace the addresses of all Pods of a node.
    pub const fn for_waiting_requests() -> Self {
        Self {
            total: 4096,
            per_address: 1536,
        }
    }
}

/// The connections of one port.
///
/// A connection is *unfinished* until it has sent a complete request. New connections displace unfinished ones, and
/// never finished ones. Connections that only wait for their client therefore cannot exclude new clients, regardless of
/// the number of their addresses.
///
/// The share of an address is the number of slots without a finished connection, and at most [`Capacity::per_address`],
/// by default a quarter of all slots. A single address therefore leaves three quarters to other addresses, and ten
/// addresses together leave a share for an eleventh. A new connection from an address that has used up its share
/// displaces the oldest unfinished connection of that address, so that a health check from the address of an attacker
/// is served too.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    capacity: Capacity,
    open: usize,
    /// The number of open connections that have sent a complete request.
    finished: usize,
    arrivals: u64,
    by_address: HashMap<IpAddr, ClientConnections>,
}

/// The connections of one address. A displaced connection is not counted, although it ends slightly later.
#[derive(Debug, Default)]
struct ClientConnections {
    finished: HashSet<u64>,
    /// Unfinished connections by order of arrival.
    unfinished: BTreeMap<u64, SignalSenders>,
}

/// The senders of a connection's [`Signals`].
#[derive(Debug)]
struct SignalSenders {
    displaced: oneshot::Sender<()>,
    /// Dropped once the head of a request is received.
    head: Option<oneshot::Sender<()>>,
}

/// The slot of an admitted connection. Dropping this value frees the slot.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Connections,
    address: IpAddr,
    arrival: u64,
    closed: Arc<Notify>,
}

/// The signals to the task of a connection.
#[derive(Debug)]
pub(super) struct Signals {
    /// Receives a message when the connection must end. Closed when the connection is finished.
    pub(super) displaced: oneshot::Receiver<()>,
    /// Closed once the head of a request is received.
    pub(super) head: oneshot::Receiver<()>,
    /// Notified when the connection must end although a response is being sent.
    pub(super) closed: Arc<Notify>,
}

impl Connections {
    pub(super) fn new(capacity: Capacity) -> Self {
        let state = State {
            capacity,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Admits a new connection. Returns `None` if the client's address has used up its share or the port is full, and
    /// there is no unfinished connection to displace.
    pub(super) fn admit(&self, address: IpAddr) -> Option<(Slot, Signals)> {
        let address = client_address(address);
        let mut state = self.state();
        let open = state
            .by_address
            .get(&address)
            .map_or(0, ClientConnections::count);
        if open >= state.share() {
            state.displace_from(address)?;
        } else if state.open >= state.capacity.total {
            let address = state.next_to_displace()?;
            state.displace_from(address)?;
        }
        Some(self.occupy_slot(&mut state, address))
    }

    fn occupy_slot(&self, state: &mut State, address: IpAddr) -> (Slot, Signals) {
        let (displaced_sender, displaced) = oneshot::channel();
        let (head_sender, head) = oneshot::channel();
        state.open += 1;
        state.arrivals += 1;
        let arrival = state.arrivals;
        let senders = SignalSenders {
            displaced: displaced_sender,
            head: Some(head_sender),
        };
        let client = state.by_address.entry(address).or_default();
        client.unfinished.insert(arrival, senders);
        let closed = Arc::new(Notify::new());
        let slot = Slot {
            connections: self.clone(),
            address,
            arrival,
            closed: Arc::clone(&closed),
        };
        let signals = Signals {
            displaced,
            head,
            closed,
        };
        (slot, signals)
    }

    /// Locks the state. Ignores poisoning: no code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the connection limit of one address. Unfinished connections are not counted, because they can be
    /// displaced.
    fn share(&self) -> usize {
        let Capacity { total, per_address } = self.capacity;
        total.saturating_sub(self.finished).min(per_address)
    }

    /// Returns the address whose connection is displaced next: the address with the most unfinished connections or,
    /// among equals, with the oldest connection.
    fn next_to_displace(&self) -> Option<IpAddr> {
        let candidates = self.by_address.iter().filter_map(|(address, client)| {
            let (arrival, _) = client.unfinished.first_key_value()?;
            Some(((Reverse(client.unfinished.len()), *arrival), *address))
        });
        candidates.min().map(|(_, address)| address)
    }

    fn displace_from(&mut self, address: IpAddr) -> Option<()> {
        let client = self.by_address.get_mut(&address)?;
        let (_, first) = client.unfinished.pop_first()?;
        let _ = first.displaced.send(());
        self.open -= 1;
        self.forget_if_empty(address);
        Some(())
    }

    fn forget_if_empty(&mut self, address: IpAddr) {
        if self
            .by_address
            .get(&address)
            .is_some_and(|client| client.count() == 0)
        {
            self.by_address.remove(&address);
        }
    }
}

impl ClientConnections {
    fn count(&self) -> usize {
        self.finished.len() + self.unfinished.len()
    }
}

impl Slot {
    /// Ends the connection, even while a response is being sent.
    pub(super) fn close(&self) {
        self.closed.notify_one();
    }

    /// Records that the head of a request was received.
    pub(super) fn record_head(&self) {
        let mut state = self.connections.state();
        if let Some(client) = state.by_address.get_mut(&self.address)
            && let Some(senders) = client.unfinished.get_mut(&self.arrival)
        {
            senders.head = None;
        }
    }

    /// Records that a complete request was received: the connection is no longer displaced.
    pub(super) fn record_request(&self) {
        let mut state = self.connections.state();
        if let Some(client) = state.by_address.get_mut(&self.address)
            && client.unfinished.remove(&self.arrival).is_some()
        {
            client.finished.insert(self.arrival);
            state.finished += 1;
        }
    }

    /// Returns whether the port or this address uses more than half of its connections.
    pub(super) fn is_crowded(&self) -> bool {
        let state = self.connections.state();
        let client = state
            .by_address
            .get(&self.address)
            .map_or(0, ClientConnections::count);
        let Capacity { total, per_address } = state.capacity;
        state.open > total / 2 || client > per_address / 2
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        let Some(client) = state.by_address.get_mut(&self.address) else {
            return;
        };
        if client.finished.remove(&self.arrival) {
            state.finished -= 1;
            state.open -= 1;
        } else if client.unfinished.remove(&self.arrival).is_some() {
            state.open -= 1;
        }
        state.forget_if_empty(self.address);
    }
}

/// Returns the address that identifies a client: an IPv4 address or an IPv6 /64 network, in which its owner chooses
/// addresses freely.
pub(super) fn client_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_CONNECTIONS: usize = 2000;
    const MAX_PER_ADDRESS: usize = 500;

    /// Attack: a client opens as many connections as it can to the port on which requests wait, to lock out others.
    #[test]
    fn an_address_with_a_thousand_waiting_requests_leaves_most_of_the_tls_port() {
        let connections = Connections::new(Capacity::for_waiting_requests());
        let admit = |i: usize| {
            let slot = connections.admit(address(i)).map(|(slot, _)| slot);
            slot.inspect(Slot::record_request)
        };
        let waiting: Vec<_> = (0..5000).map_while(|_| admit(1)).collect();
        assert_eq!(waiting.len(), 1536);
        let others: Vec<_> = (0..5000).map_while(|i| admit(10 + i)).collect();
        assert_eq!(others.len(), 4096 - 1536);
    }

    fn address(i: usize) -> IpAddr {
        let [.., b, c, d] = i.to_be_bytes();
        [10, b, c, d].into()
    }

    /// Attack: a client opens as many connections as it can, from one address or from many, to lock out other clients.
    #[test]
    fn addresses_with_many_connections_do_not_exclude_another() {
        for greedy in [1, 2, 4, 10, 100, 1000] {
            let connections = Connections::default();
            let mut admitted = Vec::new();
            for round in 0..MAX_CONNECTIONS {
                let before = admitted.len();
                for i in 0..greedy {
                    let slot = connections.admit(address(i)).map(|(slot, _)| slot);
                    slot.iter().for_each(Slot::record_request);
                    admitted.extend(slot);
                }
                if admitted.len() == before {
                    break;
                }
                assert!(
                    round < MAX_PER_ADDRESS,
                    "{greedy}: an address got more than a quarter"
                );
            }
            assert!(admitted.len() < MAX_CONNECTIONS, "{greedy}");
            assert!(connections.admit(address(5000)).is_some(), "{greedy}");
            assert!(admitted[0].is_crowded(), "{greedy}");
        }
    }

    /// Attack: a client fills its share with silent connections from the address of a health check, to make the check
    /// fail.
    #[test]
    fn beyond_its_share_an_address_displaces_its_oldest_silent_connection() {
        let connections = Connections::default();
        let mut admitted: Vec<_> = (0..MAX_PER_ADDRESS)
            .filter_map(|_| connections.admit(address(1)))
            .collect();
        assert_eq!(admitted.len(), MAX_PER_ADDRESS);
        admitted[0].0.record_request();
        let newcomer = connections.admit(address(1));
        assert!(newcomer.is_some());
        assert_eq!(displaced_indexes(&mut admitted), [1], "one was displaced");
        for (slot, _) in admitted.iter().chain(&newcomer) {
            slot.record_request();
        }
        assert!(connections.admit(address(1)).is_none());
    }

    /// Returns the indexes of the displaced connections.
    fn displaced_indexes(admitted: &mut [(Slot, Signals)]) -> Vec<usize> {
        let admitted = admitted.iter_mut().enumerate();
        let displaced = admitted.filter_map(|(i, (_, signals))| {
            let is_displaced = signals.displaced.try_recv() == Ok(());
            is_displaced.then_some(i)
        });
        displaced.collect()
    }

    /// Attack: a client opens connections from more addresses than there are slots, each silent or with a body that
    /// never ends, to lock out other clients.
    #[test]
    fn a_full_port_admits_a_newcomer() {
        for addresses in [1, 10, 900, 2 * MAX_CONNECTIONS] {
            for with_heads in [false, true] {
                let connections = Connections::default();
                let mut admitted = Vec::new();
                for i in 0..2 * MAX_CONNECTIONS {
                    let (slot, signals) = connections.admit(address(i % addresses)).unwrap();
                    if with_heads {
                        slot.record_head();
                    }
                    admitted.push((slot, signals));
                }
                let case = format!("{addresses} addresses, heads: {with_heads}");
                let (newcomer, mut signals) = connections.admit(address(99_999)).expect(&case);
                newcomer.record_request();
                for i in 0..MAX_CONNECTIONS {
                    admitted.extend(connections.admit(address(i % addresses)));
                }
                assert!(signals.displaced.try_recv().is_err(), "{case}");
                assert!(connections.state().open <= MAX_CONNECTIONS, "{case}");
            }
        }
    }

    /// Attack: a client opens many connections to displace those of other clients, so that their requests are aborted.
    #[test]
    fn a_connection_with_a_complete_request_is_never_displaced() {
        let connections = Connections::default();
        let with_requests: Vec<_> = (0..MAX_CONNECTIONS / 2)
            .filter_map(|i| connections.admit(address(i)))
            .collect();
        for (slot, _) in &with_requests {
            slot.record_request();
        }
        let flood: Vec<_> = (0..2 * MAX_CONNECTIONS)
            .filter_map(|i| connections.admit(address(MAX_CONNECTIONS + i)))
            .collect();
        let mut with_requests = with_requests;
        assert_eq!(displaced_indexes(&mut with_requests), [] as [usize; 0]);
        drop(flood);
        assert_eq!(connections.state().open, with_requests.len());
    }

    #[test]
    fn the_oldest_connection_of_the_address_with_the_most_connections_is_displaced_first() {
        let connections = Connections::default();
        let admit = |i| connections.admit(address(i)).unwrap();
        let mut admitted: Vec<_> = (0..MAX_CONNECTIONS - 2).map(admit).collect();
        let mut two_connections: Vec<_> = (0..2).map(|_| admit(5_000)).collect();
        let _first_newcomer = admit(6_000);
        assert_eq!(
            displaced_indexes(&mut two_connections),
            [0],
            "the oldest connection of the address with the most connections"
        );
        admitted[0].0.record_request();
        let _second_newcomer = admit(7_000);
        assert_eq!(
            displaced_indexes(&mut admitted),
            [1],
            "the oldest connection, if every address has one"
        );
        assert_eq!(displaced_indexes(&mut two_connections), [] as [usize; 0]);
    }

    #[test]
    fn an_address_without_connections_is_forgotten() {
        let connections = Connections::default();
        let admitted: Vec<_> = (0..100).map(|i| connections.admit(address(i))).collect();
        drop(admitted);
        let state = connections.state();
        assert_eq!((state.open, state.by_address.len()), (0, 0));
    }

    /// Attack: a client connects from a different address of its own IPv6 network each time, to exceed its share.
    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_client() {
        let client_address = |text: &str| client_address(text.parse().unwrap());
        assert_eq!(
            client_address("2001:db8::1"),
            client_address("2001:db8::ffff:1")
        );
        assert_ne!(
            client_address("2001:db8::1"),
            client_address("2001:db8:0:1::1")
        );
        assert_ne!(client_address("192.0.2.1"), client_address("192.0.2.2"));
        assert_eq!(
            client_address("::ffff:192.0.2.1"),
            client_address("192.0.2.1")
        );
    }
}
