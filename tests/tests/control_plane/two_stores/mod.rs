//! Runs the same scenarios with a SealedSecret in a cluster and in a directory, because one reconciler works on both
//! stores.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod cluster;
mod directory;
mod scenarios;
mod store;

use cluster::Cluster;
use directory::Directory;

/// Defines a test for each scenario in both stores.
macro_rules! in_both_stores {
    ($($scenario:ident),+ $(,)?) => {
        mod in_a_cluster {
            $(#[tokio::test]
            async fn $scenario() {
                super::scenarios::$scenario::<super::Cluster>().await;
            })+
        }

        mod in_a_directory {
            $(#[tokio::test]
            async fn $scenario() {
                super::scenarios::$scenario::<super::Directory>().await;
            })+
        }
    };
}

in_both_stores![
    a_new_object_is_unsealed_and_the_status_names_the_key,
    a_changed_object_replaces_the_values_and_drops_old_items,
    the_values_are_deleted_and_recreated_with_the_object,
    a_bad_version_keeps_the_old_values_and_names_the_bad_item,
    a_scope_added_later_takes_effect,
    a_key_added_later_unseals_failed_objects,
    a_malformed_object_is_reported_and_affects_no_other,
    a_failing_template_keeps_the_old_values_and_reports_its_position,
    random_results_survive_a_restart,
    a_restart_writes_nothing,
    reverts_an_edit_made_during_a_restart,
    keeps_secrets_that_are_not_owned,
];
