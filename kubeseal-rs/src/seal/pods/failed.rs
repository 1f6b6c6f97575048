//! The warning of `seal pods` about SealedSecrets whose newest version could not be unsealed.

use std::collections::BTreeSet;

use restart::state::SecretId;

use crate::report::shown;

/// Maximum number of SealedSecrets in the warning.
const MAX_LINES: usize = 20;
const HINT: &str = "hint: see `kubectl describe sealedsecret NAME -n NAMESPACE` for the reason, or run `seal doctor`";

/// Returns the warning, or `None` if no SealedSecret failed.
pub(super) fn warning(failed: &BTreeSet<SecretId>) -> Option<String> {
    let line = |(namespace, name): &SecretId| {
        let id = format!("{namespace}/{name}");
        format!("the newest version of {} could not be unsealed", shown(&id))
    };
    let mut lines: Vec<String> = failed.iter().take(MAX_LINES).map(line).collect();
    let omitted = failed.len().saturating_sub(MAX_LINES);
    lines.extend((omitted > 0).then(|| format!("and {omitted} more")));
    lines.push(HINT.to_owned());
    (!failed.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_sealed_secret_that_failed() {
        let id = |name: &str| ("shop".to_owned(), name.to_owned());
        assert_eq!(warning(&BTreeSet::new()), None);
        let want = "\
the newest version of shop/db could not be unsealed
the newest version of shop/web could not be unsealed
hint: see `kubectl describe sealedsecret NAME -n NAMESPACE` for the reason, or run `seal doctor`";
        let failed = BTreeSet::from([id("web"), id("db")]);
        assert_eq!(warning(&failed).as_deref(), Some(want));
    }

    #[test]
    fn lists_at_most_twenty_and_counts_the_others() {
        let id = |number: usize| ("shop".to_owned(), format!("db-{number:02}"));
        let warning = warning(&(0..23).map(id).collect()).unwrap();
        assert_eq!(warning.lines().count(), 22);
        assert!(warning.contains("\nand 3 more\n"), "{warning}");
    }
}
