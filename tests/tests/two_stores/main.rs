//! One reconciler, two stores: the same tests for a SealedSecret in a cluster and in a directory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod cluster;
mod directory;
mod lives;
mod place;

use cluster::Cluster;
use directory::Directory;

/// Creates each test for both stores.
macro_rules! in_both_places {
    ($($life:ident),+ $(,)?) => {
        mod in_a_cluster {
            $(#[tokio::test]
            async fn $life() {
                super::lives::$life::<super::Cluster>().await;
            })+
        }

        mod in_a_directory {
            $(#[tokio::test]
            async fn $life() {
                super::lives::$life::<super::Directory>().await;
            })+
        }
    };
}

in_both_places![
    a_new_one_becomes_values_and_the_status_names_the_key,
    a_changed_one_replaces_the_values_and_drops_old_items,
    the_values_go_with_it_and_come_again,
    a_bad_version_leaves_the_old_values_and_names_the_bad_item,
    a_scope_that_is_added_later_is_noticed,
    a_key_that_arrives_later_opens_what_failed,
    a_malformed_one_says_so_and_disturbs_nobody,
    a_template_that_fails_leaves_the_old_values_and_says_where,
    what_chance_made_stays_through_a_restart,
    a_restart_writes_nothing,
    an_edit_by_hand_during_a_restart_is_put_right,
    what_is_not_ours_stays,
];
