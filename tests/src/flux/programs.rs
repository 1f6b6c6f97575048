//! The programs of Flux and their custom resource definitions, from the Go modules that `tests/flux/go.mod` names.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::{go_build, operators};

const CONTROLLERS: [&str; 2] = ["source-controller", "kustomize-controller"];

/// Returns the path of one of Flux's controllers.
pub(super) fn build(name: &str) -> PathBuf {
    go_build::build(&source(), &module(name), name)
}

/// Returns the path of the Git server.
pub(super) fn git_server() -> PathBuf {
    go_build::build(&source(), "./git-server", "git-server")
}

/// Returns the custom resource definitions of both controllers.
pub(super) fn definitions() -> Vec<CustomResourceDefinition> {
    let modules = CONTROLLERS.map(|name| go_build::module_directory(&source(), &module(name)));
    let directories = modules.map(|module| module.join("config/crd/bases"));
    directories
        .iter()
        .flat_map(|directory| read(directory))
        .collect()
}

fn read(directory: &Path) -> Vec<CustomResourceDefinition> {
    let files = fs::read_dir(directory).expect("the module contains definitions");
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).expect("text"));
    let objects = texts.flat_map(|text| operators::objects(&text));
    objects
        .map(|object| serde_json::from_value(object).expect("a definition"))
        .collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("flux")
}

fn module(name: &str) -> String {
    format!("github.com/fluxcd/{name}")
}
