//! Tests that `deploy/crd.yaml` and the chart's copy match the code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::{env, fs};

use kube::CustomResourceExt as _;
use shared::manifest::to_yaml;
use shared::resource::SealedSecret;

const HEADER: &str = "\
# The CustomResourceDefinition of SealedSecrets, generated from shared/src/resource by
# `SEALED_SECRETS_UPDATE=1 cargo test -p tests --test local definition`.
";

#[test]
fn the_published_crd_matches_the_code() {
    let definition = serde_json::to_value(SealedSecret::crd()).unwrap();
    let want = format!("{HEADER}{}", to_yaml(&definition));
    for name in ["crd.yaml", "helm/sealed-secrets/files/crd.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../deploy")
            .join(name);
        if env::var_os("SEALED_SECRETS_UPDATE").is_some() {
            fs::write(&path, &want).unwrap();
        }
        let actual = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            actual, want,
            "{name}: its first lines say how to regenerate it"
        );
    }
}
