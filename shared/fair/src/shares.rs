//! Start-time fair queuing over tenants.
//!
//! The usage of each tenant is counted. The tenant with the lowest usage goes first, and a virtual clock follows the
//! tenant served last. A tenant that returns after a pause starts at the clock: a pause earns no credit, and a new
//! tenant has no debt. A backlog therefore delays only its own tenant, and the delay of every other tenant depends on
//! the number of tenants, not on the length of their backlogs.
//!
//! A tenant is something that clients cannot choose freely: a namespace, or the address or the authenticated name of a
//! caller. A client that owns several tenants gets one share for each, so its effect on other clients grows only
//! linearly with their number.

use std::collections::HashMap;

/// The usage of each tenant, in units that the caller chooses.
#[derive(Debug, Default)]
pub struct Shares {
    clock: u64,
    used: HashMap<String, u64>,
}

/// The number of remembered tenants above which those that the clock has reached are forgotten.
const MAX_REMEMBERED: usize = 1024;

impl Shares {
    /// Returns the sort key of a tenant: the tenant with the lowest key goes first.
    pub fn sort_key(&self, tenant: &str) -> u64 {
        let used = self.used.get(tenant).copied().unwrap_or_default();
        used.max(self.clock)
    }

    /// Moves the clock to the tenant that is served now.
    pub fn serve(&mut self, tenant: &str) {
        self.clock = self.sort_key(tenant);
    }

    /// Adds to the usage of a tenant.
    pub fn charge(&mut self, tenant: &str, units: u64) {
        let used = self.sort_key(tenant).saturating_add(units);
        self.used.insert(tenant.to_owned(), used);
        if self.used.len() > MAX_REMEMBERED {
            self.forget();
        }
    }

    /// Forgets the tenants that the clock has reached: they are treated like new tenants in any case.
    fn forget(&mut self) {
        let clock = self.clock;
        self.used.retain(|_, used| *used > clock);
    }
}

/// Returns how many of `slots` each tenant may hold while `active` tenants hold slots or wait for one: an equal share
/// of the slots that are not `reserved`, and at least one. The remaining slots are for new tenants.
pub fn max_each(slots: usize, reserved: usize, active: usize) -> usize {
    (slots.saturating_sub(reserved) / active.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Serves the tenant with the lowest usage and charges its cost, for `turns` turns. Returns the order.
    fn order(costs: &[(&str, u64)], turns: usize) -> Vec<String> {
        let mut shares = Shares::default();
        let serve = |_| {
            let (tenant, cost) = costs
                .iter()
                .min_by_key(|(t, _)| shares.sort_key(t))
                .unwrap();
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
    fn a_pause_earns_no_credit_and_a_new_tenant_has_no_debt() {
        let mut shares = Shares::default();
        shares.charge("busy", 100);
        shares.serve("busy");
        shares.charge("busy", 100);
        assert_eq!(
            shares.sort_key("idle"),
            100,
            "equal to the first charge of busy"
        );
        shares.charge("idle", 100);
        assert_eq!(shares.sort_key("idle"), shares.sort_key("busy"));
    }

    #[test]
    fn forgets_tenants_without_remaining_charges() {
        let mut shares = Shares::default();
        for i in 0..10 * MAX_REMEMBERED {
            let tenant = i.to_string();
            shares.serve(&tenant);
            shares.charge(&tenant, 1);
            shares.charge("clock", 2);
            shares.serve("clock");
        }
        assert!(
            shares.used.len() <= MAX_REMEMBERED + 1,
            "{}",
            shares.used.len()
        );
    }

    #[test]
    fn no_tenant_gets_all_slots() {
        for active in 1..=40 {
            let max = max_each(32, 8, active);
            assert!(max * active < 32 || active >= 32, "{active} tenants");
            assert!(max >= 1);
        }
    }

    proptest! {
        /// Attack: a client queues expensive work as many tenants, to delay another tenant. Between two turns of the
        /// tenant with the cheapest work, each other tenant gets at most two turns.
        #[test]
        fn a_waiting_tenant_waits_for_at_most_two_turns_of_each_other_tenant(costs in proptest::collection::vec(1_u64..1000, 2..20)) {
            let names: Vec<String> = (0..costs.len()).map(|i| i.to_string()).collect();
            let tenants: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(costs.iter().copied()).collect();
            let cheapest = tenants.iter().min_by_key(|(_, cost)| *cost).unwrap().0;
            let order = order(&tenants, 500);
            let mut turns_since = HashMap::<&str, usize>::new();
            for tenant in &order {
                if tenant == cheapest {
                    turns_since.clear();
                } else {
                    *turns_since.entry(tenant).or_default() += 1;
                }
                prop_assert!(turns_since.values().all(|turns| *turns <= 2), "{order:?}");
            }
        }
    }
}
