//! Tests that a test process with a browser leaves nothing behind.

use rustix::process::Signal;
use tests::observed::ObservedProgram;

#[tokio::test]
#[ignore = "the test of a kill covers more; `.ci/extra browser` runs this one"]
async fn the_browser_leaves_nothing_after_a_passing_run() {
    let mut user = start("pass");
    user.first_line();
    assert!(user.wait().success(), "{}", user.errors());
    user.assert_nothing_left().await;
}

#[tokio::test]
#[ignore = "the test of a kill covers more; `.ci/extra browser` runs this one"]
async fn the_browser_leaves_nothing_after_a_failing_run() {
    let mut user = start("fail");
    user.first_line();
    assert_eq!(user.wait().code(), Some(101), "the exit code of a panic");
    user.assert_nothing_left().await;
}

#[tokio::test]
async fn the_browser_leaves_nothing_after_a_kill() {
    let mut user = start("wait");
    user.first_line();
    user.signal(Signal::KILL);
    user.assert_nothing_left().await;
}

fn start(end: &str) -> ObservedProgram {
    ObservedProgram::start(env!("CARGO_BIN_EXE_plane_user"), &[end, "browser"], &[])
}
