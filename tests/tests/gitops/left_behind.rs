//! Tests what a test process with Flux leaves behind.

use tests::test_process::TestProcess;

#[tokio::test]
#[ignore = "the test of a kill covers more; `.ci/extra gitops` runs this one"]
async fn flux_leaves_nothing_after_a_passing_run() {
    let mut user = start("pass");
    user.first_line();
    assert!(user.wait().success(), "{}", user.errors());
    user.wait_until_nothing_is_left().await;
}

#[tokio::test]
#[ignore = "the test of a kill covers more; `.ci/extra gitops` runs this one"]
async fn flux_leaves_nothing_after_a_failing_run() {
    let mut user = start("fail");
    user.first_line();
    assert_eq!(user.wait().code(), Some(101), "the exit code of a panic");
    user.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn flux_leaves_nothing_after_a_kill() {
    let mut user = start("wait");
    user.first_line();
    user.kill();
    user.wait_until_nothing_is_left().await;
}

fn start(end: &str) -> TestProcess {
    TestProcess::start(env!("CARGO_BIN_EXE_plane_user"), &[end, "flux"], &[])
}
