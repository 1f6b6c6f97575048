//! Which connections of a port are kept: a fair share for each address, and room for newcomers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Connections at once on one port. Each takes some ten kilobytes.
const MOST: usize = 2000;
/// Of these, one address gets at most a quarter.
const MOST_OF_ONE: usize = MOST / 4;

/// The connections of one port.
///
/// A connection is *unfinished* until it has sent one whole request. Unfinished connections give way to new ones, and
/// others never do. So connections that wait for nothing but their client keep no newcomer out, however many addresses
/// they come from.
///
/// An address may have as many connections as are not kept by finished ones, at most a quarter of all. So one address
/// leaves three quarters to others, ten leave a tenth. Beyond its share an address gets a new connection for its own
/// oldest unfinished one: a health check from the address of an attacker is answered too.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// Of these, those that have sent a whole request.
    finished: usize,
    arrivals: u64,
    of: HashMap<IpAddr, OfOne>,
}

/// The connections of one address. A displaced connection does not count any more, although it ends a moment later.
#[derive(Debug, Default)]
struct OfOne {
    finished: HashSet<u64>,
    /// By arrival.
    unfinished: BTreeMap<u64, Unfinished>,
}

/// The senders of a connection's [`Signals`].
#[derive(Debug)]
struct Unfinished {
    displaced: oneshot::Sender<()>,
    /// Dropped when the head was received.
    head: Option<oneshot::Sender<()>>,
}

/// An admitted connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Connections,
    address: IpAddr,
    arrival: u64,
}

/// Signals for the task of a connection.
#[derive(Debug)]
pub(super) struct Signals {
    /// Receives a message when the connection has to end. Closed when the connection is finished.
    pub(super) displaced: oneshot::Receiver<()>,
    /// Closed when the head of a request was received.
    pub(super) head: oneshot::Receiver<()>,
}

impl Connections {
    /// Admits a new connection. Refuses it if its address has its share, or the port is full, and there is no unfinished
    /// connection to displace.
    pub(super) fn admit(&self, address: IpAddr) -> Option<(Place, Signals)> {
        let address = holder(address);
        let mut state = self.state();
        let open = state.of.get(&address).map_or(0, OfOne::open);
        if open >= state.share() {
            state.displace_of(address)?;
        } else if state.open >= MOST {
            let address = state.most_unfinished()?;
            state.displace_of(address)?;
        }
        Some(self.place(&mut state, address))
    }

    fn place(&self, state: &mut State, address: IpAddr) -> (Place, Signals) {
        let (displace, displaced) = oneshot::channel();
        let (has_head, head) = oneshot::channel();
        state.open += 1;
        state.arrivals += 1;
        let arrival = state.arrivals;
        let senders = Unfinished {
            displaced: displace,
            head: Some(has_head),
        };
        let of_one = state.of.entry(address).or_default();
        of_one.unfinished.insert(arrival, senders);
        let place = Place {
            of: self.clone(),
            address,
            arrival,
        };
        (place, Signals { displaced, head })
    }

    /// Nothing in here panics half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Unfinished connections count as free, since they give way.
    fn share(&self) -> usize {
        MOST.saturating_sub(self.finished).min(MOST_OF_ONE)
    }

    /// Returns the address to displace a connection of: the one with most unfinished ones, and of several the one whose
    /// connection is oldest. So a new connection is the last to be displaced.
    fn most_unfinished(&self) -> Option<IpAddr> {
        let candidates = self.of.iter().filter_map(|(address, of_one)| {
            let (arrival, _) = of_one.unfinished.first_key_value()?;
            Some(((Reverse(of_one.unfinished.len()), *arrival), *address))
        });
        candidates.min().map(|(_, address)| address)
    }

    fn displace_of(&mut self, address: IpAddr) -> Option<()> {
        let of_one = self.of.get_mut(&address)?;
        let (_, first) = of_one.unfinished.pop_first()?;
        let _ = first.displaced.send(());
        self.open -= 1;
        self.forget_if_empty(address);
        Some(())
    }

    fn forget_if_empty(&mut self, address: IpAddr) {
        if self
            .of
            .get(&address)
            .is_some_and(|of_one| of_one.open() == 0)
        {
            self.of.remove(&address);
        }
    }
}

impl OfOne {
    fn open(&self) -> usize {
        self.finished.len() + self.unfinished.len()
    }
}

impl Place {
    /// Notes that the head of a request was received.
    pub(super) fn has_sent_head(&self) {
        let mut state = self.of.state();
        if let Some(of_one) = state.of.get_mut(&self.address)
            && let Some(senders) = of_one.unfinished.get_mut(&self.arrival)
        {
            senders.head = None;
        }
    }

    /// Notes that a whole request was received: the connection is not displaced any more.
    pub(super) fn has_sent_request(&self) {
        let mut state = self.of.state();
        if let Some(of_one) = state.of.get_mut(&self.address)
            && of_one.unfinished.remove(&self.arrival).is_some()
        {
            of_one.finished.insert(self.arrival);
            state.finished += 1;
        }
    }

    /// Returns whether more than half is taken of the port, or of what this address may have.
    pub(super) fn is_crowded(&self) -> bool {
        let state = self.of.state();
        let of_one = state.of.get(&self.address).map_or(0, OfOne::open);
        state.open > MOST / 2 || of_one > MOST_OF_ONE / 2
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.of.state();
        let Some(of_one) = state.of.get_mut(&self.address) else {
            return;
        };
        if of_one.finished.remove(&self.arrival) {
            state.finished -= 1;
            state.open -= 1;
        } else if of_one.unfinished.remove(&self.arrival).is_some() {
            state.open -= 1;
        }
        state.forget_if_empty(self.address);
    }
}

/// Of IPv6 a network of 64 bits counts, whose addresses its owner chooses freely.
pub(super) fn holder(address: IpAddr) -> IpAddr {
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

    fn address(i: usize) -> IpAddr {
        let [.., b, c, d] = i.to_be_bytes();
        [10, b, c, d].into()
    }

    /// Attack: takes as many connections as it gets, from one address or from many.
    #[test]
    fn however_many_addresses_take_what_they_can_another_one_gets_in() {
        for greedy in [1, 2, 4, 10, 100, 1000] {
            let connections = Connections::default();
            let mut held = Vec::new();
            for round in 0..MOST {
                let before = held.len();
                for i in 0..greedy {
                    let place = connections.admit(address(i)).map(|(place, _)| place);
                    place.iter().for_each(Place::has_sent_request);
                    held.extend(place);
                }
                if held.len() == before {
                    break;
                }
                assert!(round < MOST_OF_ONE, "{greedy}: one got more than a quarter");
            }
            assert!(held.len() < MOST, "{greedy}");
            assert!(connections.admit(address(5000)).is_some(), "{greedy}");
            assert!(held[0].is_crowded(), "{greedy}");
        }
    }

    /// Attack: fills its share with silent connections, at the address from which health is checked.
    #[test]
    fn beyond_its_share_an_address_gives_up_its_oldest_silent_connection() {
        let connections = Connections::default();
        let mut held: Vec<_> = (0..MOST_OF_ONE)
            .filter_map(|_| connections.admit(address(1)))
            .collect();
        assert_eq!(held.len(), MOST_OF_ONE);
        held[0].0.has_sent_request();
        let newcomer = connections.admit(address(1));
        assert!(newcomer.is_some());
        assert_eq!(displaced(&mut held), [1], "one gave way");
        for (place, _) in held.iter().chain(&newcomer) {
            place.has_sent_request();
        }
        assert!(connections.admit(address(1)).is_none());
    }

    /// The indexes of connections that have to end.
    fn displaced(held: &mut [(Place, Signals)]) -> Vec<usize> {
        let held = held.iter_mut().enumerate();
        let ended = held.filter_map(|(i, (_, signals))| {
            let has_to_end = signals.displaced.try_recv() == Ok(());
            has_to_end.then_some(i)
        });
        ended.collect()
    }

    /// Attack: fills the port with connections of more addresses than there are places, each silent or with a body that
    /// never ends.
    #[test]
    fn however_many_addresses_fill_the_port_a_newcomer_gets_in_and_stays() {
        for addresses in [1, 10, 900, 2 * MOST] {
            for with_heads in [false, true] {
                let connections = Connections::default();
                let mut held = Vec::new();
                for i in 0..2 * MOST {
                    let (place, signals) = connections.admit(address(i % addresses)).unwrap();
                    if with_heads {
                        place.has_sent_head();
                    }
                    held.push((place, signals));
                }
                let case = format!("{addresses} addresses, heads: {with_heads}");
                let (newcomer, mut signals) = connections.admit(address(99_999)).expect(&case);
                newcomer.has_sent_request();
                for i in 0..MOST {
                    held.extend(connections.admit(address(i % addresses)));
                }
                assert!(signals.displaced.try_recv().is_err(), "{case}");
                assert!(connections.state().open <= MOST, "{case}");
            }
        }
    }

    /// Attack: displaces connections of others by opening many, so that their requests are cut off.
    #[test]
    fn a_request_that_was_received_is_never_displaced() {
        let connections = Connections::default();
        let asking: Vec<_> = (0..MOST / 2)
            .filter_map(|i| connections.admit(address(i)))
            .collect();
        for (place, _) in &asking {
            place.has_sent_request();
        }
        let flood: Vec<_> = (0..2 * MOST)
            .filter_map(|i| connections.admit(address(MOST + i)))
            .collect();
        let mut asking = asking;
        assert_eq!(displaced(&mut asking), [] as [usize; 0]);
        drop(flood);
        assert_eq!(connections.state().open, asking.len());
    }

    #[test]
    fn the_oldest_of_the_address_with_most_gives_way_first() {
        let connections = Connections::default();
        let admit = |i| connections.admit(address(i)).unwrap();
        let mut held: Vec<_> = (0..MOST - 2).map(admit).collect();
        let mut two: Vec<_> = (0..2).map(|_| admit(5_000)).collect();
        let _first = admit(6_000);
        assert_eq!(displaced(&mut two), [0], "of the address with most");
        held[0].0.has_sent_request();
        let _second = admit(7_000);
        assert_eq!(displaced(&mut held), [1], "of several addresses the oldest");
        assert_eq!(displaced(&mut two), [] as [usize; 0]);
    }

    #[test]
    fn nothing_is_kept_of_an_address_without_connections() {
        let connections = Connections::default();
        let held: Vec<_> = (0..100).map(|i| connections.admit(address(i))).collect();
        drop(held);
        let state = connections.state();
        assert_eq!((state.open, state.of.len()), (0, 0));
    }

    /// Attack: comes from another address of its own IPv6 network each time.
    #[test]
    fn the_addresses_of_one_network_are_one_holder() {
        let holder = |text: &str| holder(text.parse().unwrap());
        assert_eq!(holder("2001:db8::1"), holder("2001:db8::ffff:1"));
        assert_ne!(holder("2001:db8::1"), holder("2001:db8:0:1::1"));
        assert_ne!(holder("192.0.2.1"), holder("192.0.2.2"));
        assert_eq!(holder("::ffff:192.0.2.1"), holder("192.0.2.1"));
    }
}
