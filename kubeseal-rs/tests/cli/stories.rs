//! Runs the stories of `kubeseal`: command lines with their complete output. To update them, run
//! `TRYCMD=overwrite cargo test -p kubeseal-rs --test cli stories` and review the changes.

#[test]
fn every_story_has_the_expected_output() {
    trycmd::TestCases::new()
        .env("KUBECONFIG", "nowhere")
        .case("tests/stories/*.trycmd")
        .run();
}
