//! Whole command lines with everything that they print. `TRYCMD=overwrite cargo test -p kubeseal-rs`
//! writes the stories anew; read what changed.

#[test]
fn every_story_goes_as_it_is_told() {
    trycmd::TestCases::new()
        .env("KUBECONFIG", "nowhere")
        .case("tests/stories/*.trycmd")
        .run();
}
