//! Fair shares: start-time fair queueing over tenants.
//!
//! Each tenant has a count of what it has used. Whoever has used least goes first, and a clock follows
//! the one that was served last. A tenant that comes back after a pause begins at the clock: a pause
//! saves nothing up, and a newcomer owes nothing. So a backlog delays its own tenant alone, and the
//! delay of everybody else grows with the number of tenants and not with the length of their backlogs.
//!
//! A tenant is whatever cannot be chosen freely by those who want to be served: a namespace, or the
//! address of a caller. Whoever owns several gets a share for each, so what many of them can do to
//! others is linear in their number.

use std::collections::HashMap;

/// What each tenant has used, in units of the user's choice.
#[derive(Debug, Default)]
pub struct Shares {
    clock: u64,
    used: HashMap<String, u64>,
}

/// More tenants than this are looked through for those that may be forgotten.
const MANY: usize = 1024;

impl Shares {
    /// By this tenants are ordered: the least comes first.
    pub fn used(&self, tenant: &str) -> u64 {
        let used = self.used.get(tenant).copied().unwrap_or_default();
        used.max(self.clock)
    }

    /// Moves the clock to a tenant that is served now.
    pub fn serve(&mut self, tenant: &str) {
        self.clock = self.used(tenant);
    }

    /// Takes note of what a tenant uses.
    pub fn charge(&mut self, tenant: &str, units: u64) {
        let used = self.used(tenant).saturating_add(units);
        self.used.insert(tenant.to_owned(), used);
        if self.used.len() > MANY {
            self.forget();
        }
    }

    /// A tenant that the clock has passed is like one that was never there.
    fn forget(&mut self) {
        let clock = self.clock;
        self.used.retain(|_, used| *used > clock);
    }
}

/// So many of `places` each tenant may hold, while `active` tenants hold some or wait for some: an equal
/// part of what is not `reserved`, and at least one. The rest is free for whoever comes next.
pub fn most_each(places: usize, reserved: usize, active: usize) -> usize {
    (places.saturating_sub(reserved) / active.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Serves whoever has used least, each time for its cost, and gives the order.
    fn order(costs: &[(&str, u64)], turns: usize) -> Vec<String> {
        let mut shares = Shares::default();
        let serve = |_| {
            let (tenant, cost) = costs.iter().min_by_key(|(t, _)| shares.used(t)).unwrap();
            shares.serve(tenant);
            shares.charge(tenant, *cost);
            (*tenant).to_owned()
        };
        (0..turns).map(serve).collect()
    }

    #[test]
    fn costly_tenants_get_fewer_turns() {
        let order = order(&[("costly", 10), ("cheap", 1)], 22);
        let costly = order.iter().filter(|tenant| *tenant == "costly").count();
        assert_eq!(costly, 2, "{order:?}");
    }

    #[test]
    fn a_pause_saves_nothing_up_and_a_newcomer_owes_nothing() {
        let mut shares = Shares::default();
        shares.charge("busy", 100);
        shares.serve("busy");
        shares.charge("busy", 100);
        assert_eq!(shares.used("idle"), 100, "no more than what busy had");
        shares.charge("idle", 100);
        assert_eq!(shares.used("idle"), shares.used("busy"));
    }

    #[test]
    fn many_tenants_of_the_past_take_no_room() {
        let mut shares = Shares::default();
        for i in 0..10 * MANY {
            let tenant = i.to_string();
            shares.serve(&tenant);
            shares.charge(&tenant, 1);
            shares.charge("clock", 2);
            shares.serve("clock");
        }
        assert!(shares.used.len() <= MANY + 1, "{}", shares.used.len());
    }

    #[test]
    fn nobody_holds_all_places() {
        for active in 1..=40 {
            let most = most_each(32, 8, active);
            assert!(most * active < 32 || active >= 32, "{active} tenants");
            assert!(most >= 1);
        }
    }

    proptest! {
        /// Attack: queues costly work under many names.
        ///
        /// Between two turns of a tenant that waits all the time, each other one uses no more than its
        /// share and one turn beyond.
        #[test]
        fn no_tenant_waits_for_more_than_one_turn_of_each_other_one(costs in proptest::collection::vec(1_u64..1000, 2..20)) {
            let names: Vec<String> = (0..costs.len()).map(|i| i.to_string()).collect();
            let tenants: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(costs.iter().copied()).collect();
            let cheapest = tenants.iter().min_by_key(|(_, cost)| *cost).unwrap().0;
            let order = order(&tenants, 500);
            let mut since = HashMap::<&str, usize>::new();
            for tenant in &order {
                if tenant == cheapest {
                    since.clear();
                } else {
                    *since.entry(tenant).or_default() += 1;
                }
                prop_assert!(since.values().all(|turns| *turns <= 2), "{order:?}");
            }
        }
    }
}
