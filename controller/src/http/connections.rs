//! Which connections of a port are kept: a fair share for each address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Connections at once on one port. Each takes some ten kilobytes.
const MOST: usize = 2000;
/// Of these, one address gets at most a quarter.
const MOST_OF_ONE: usize = MOST / 4;

/// The connections of one port.
///
/// An address may have as many as are still free, at most a quarter. So one address leaves three quarters
/// to others, ten leave a tenth, and an address without a connection gets one as long as there are fewer
/// addresses than places. Beyond its share an address gets a new connection for its oldest silent one,
/// one that has sent no request yet: a health check from the address of an attacker is answered too.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    open: usize,
    arrivals: u64,
    of: HashMap<IpAddr, OfOne>,
}

/// The connections of one address.
#[derive(Debug, Default)]
struct OfOne {
    open: usize,
    /// Those without a request, by arrival.
    silent: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Connections,
    address: IpAddr,
    arrival: u64,
}

/// Tells when a connection has to end that has sent no request.
pub(super) type Displaced = oneshot::Receiver<()>;

impl Connections {
    /// A place for a new connection, unless the address has its share and asks on all of it.
    pub(super) fn admit(&self, address: IpAddr) -> Option<(Place, Displaced)> {
        let address = holder(address);
        let mut state = self.state();
        let share = state.share();
        let of_one = state.of.entry(address).or_default();
        if of_one.open >= share {
            // Its place comes back once its task has ended, so for a moment there is one too many.
            let (_, oldest) = of_one.silent.pop_first()?;
            let _ = oldest.send(());
        }
        Some(self.place(&mut state, address))
    }

    fn place(&self, state: &mut State, address: IpAddr) -> (Place, Displaced) {
        let (sender, displaced) = oneshot::channel();
        state.open += 1;
        state.arrivals += 1;
        let arrival = state.arrivals;
        let of_one = state.of.entry(address).or_default();
        of_one.open += 1;
        of_one.silent.insert(arrival, sender);
        let place = Place {
            of: self.clone(),
            address,
            arrival,
        };
        (place, displaced)
    }

    /// Nothing in here panics half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn share(&self) -> usize {
        MOST.saturating_sub(self.open).min(MOST_OF_ONE)
    }
}

impl Place {
    /// The connection has sent a request: it is not displaced any more.
    pub(super) fn has_asked(&self) {
        let mut state = self.of.state();
        if let Some(of_one) = state.of.get_mut(&self.address) {
            of_one.silent.remove(&self.arrival);
        }
    }

    /// Is more than half taken of the port, or of what this address may have?
    pub(super) fn is_crowded(&self) -> bool {
        let state = self.of.state();
        let of_one = state.of.get(&self.address).map_or(0, |of_one| of_one.open);
        state.open > MOST / 2 || of_one > MOST_OF_ONE / 2
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.open = state.open.saturating_sub(1);
        let Some(of_one) = state.of.get_mut(&self.address) else {
            return;
        };
        of_one.open = of_one.open.saturating_sub(1);
        of_one.silent.remove(&self.arrival);
        if of_one.open == 0 {
            state.of.remove(&self.address);
        }
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
                    place.iter().for_each(Place::has_asked);
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
        held[0].0.has_asked();
        let newcomer = connections.admit(address(1));
        assert!(newcomer.is_some());
        let (asked, silent) = held.split_at_mut(1);
        assert_eq!(silent[0].1.try_recv(), Ok(()));
        assert!(silent[1].1.try_recv().is_err(), "one gave way");
        assert!(asked[0].1.try_recv().is_err(), "it has asked");
        for (place, _) in held.iter().chain(&newcomer) {
            place.has_asked();
        }
        assert!(connections.admit(address(1)).is_none());
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
