//! Measures how long a test process waits for its control plane. The only test in this file, so that no other
//! test of ours runs at the same time.

use std::time::{Duration, Instant};

use tests::control_plane::{self, ControlPlane};

#[tokio::test]
async fn answers_the_first_call_within_ten_seconds_once_it_was_built() {
    control_plane::build();

    let start = Instant::now();
    let plane = ControlPlane::start().await;
    plane.admin().apiserver_version().await.unwrap();
    let taken = start.elapsed();

    assert!(taken < Duration::from_secs(10), "it took {taken:?}");
}
