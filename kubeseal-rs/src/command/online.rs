//! The commands `--validate` and `--re-encrypt`, which send SealedSecrets to the controller.

use std::path::Path;

use kubeseal_library::cluster::{Access, Controller, rotated};
use kubeseal_library::environment::Environment;
use kubeseal_library::kubeconfig::{self, Choice};
use serde_json::Value as Json;
use shared::resource::SealedSecret;
use shared::scope::Scope;

use super::explain::explain_failure;
use super::{CommandError, Format, Input, Request, is_yaml, output_format, secrets};

/// Parses every SealedSecret in the input. Input without any is an error.
pub(super) fn read(input: &[u8]) -> Result<Vec<SealedSecret>, CommandError> {
    let objects = secrets::read_objects(input, SealedSecret::all_from_document)?;
    if objects.is_empty() {
        return Err(CommandError::NoSealedSecrets);
    }
    Ok(objects)
}

/// Adds a namespace to each object without one, except to cluster-wide objects. Uses `namespace`, or else the namespace
/// of the kubeconfig, in which `kubectl apply` would create the object.
pub(super) fn fill_namespaces(
    objects: &mut [SealedSecret],
    namespace: Option<&String>,
    access: &Access,
    environment: &Environment,
) -> Result<(), CommandError> {
    let lacks_namespace = |sealed: &SealedSecret| {
        let annotations = sealed.metadata.annotations.as_ref();
        let scope = Scope::from_annotations(annotations);
        sealed.namespace_or_empty().is_empty() && scope != Scope::ClusterWide
    };
    if !objects.iter().any(lacks_namespace) {
        return Ok(());
    }
    let choice = Choice {
        file: access.kubeconfig.clone(),
        context: access.overrides.context.clone(),
    };
    let namespace = match namespace {
        Some(namespace) => Some(namespace.clone()),
        None => kubeconfig::namespace(&choice, environment)?,
    };
    for sealed in objects.iter_mut().filter(|sealed| lacks_namespace(sealed)) {
        sealed.metadata.namespace.clone_from(&namespace);
    }
    Ok(())
}

/// Removes the namespace of each object and template that had no field `metadata.namespace` before [`fill_namespaces`].
pub(super) fn remove_added_namespaces(documents: &mut [Json], before: &[SealedSecret]) {
    for (document, sealed) in documents.iter_mut().zip(before) {
        let template = &sealed.spec.template.metadata;
        for (parent, original) in [("", &sealed.metadata), ("/spec/template", template)] {
            let metadata = document.pointer_mut(&format!("{parent}/metadata"));
            let metadata = metadata.and_then(Json::as_object_mut);
            if let Some(metadata) = metadata.filter(|_| original.namespace.is_none()) {
                metadata.remove("namespace");
            }
        }
    }
}

/// Validates the objects in order, up to the first one that the controller cannot decrypt.
pub(super) fn validate(
    objects: &[SealedSecret],
    controller: &Controller,
) -> Result<(), CommandError> {
    for sealed in objects {
        if !controller.verify(&sealed.to_document())? {
            let name = sealed.name_or_empty().to_owned();
            let why = explain_failure(sealed, &controller.fingerprints());
            return Err(CommandError::CannotDecrypt { name, why });
        }
    }
    Ok(())
}

/// Re-encrypts the objects in order, and returns all of them or the first error. Unlike upstream, refuses a response
/// that fails [`rotated::check_leniently`].
pub(super) fn rotate(
    objects: &[SealedSecret],
    controller: &Controller,
) -> Result<Vec<Json>, CommandError> {
    let rotate_one = |sealed: &SealedSecret| {
        let rotated = controller.rotate(&sealed.to_document())?;
        let rotated = rotated.ok_or_else(|| CommandError::CannotRotate {
            name: sealed.name_or_empty().to_owned(),
            why: explain_failure(sealed, &controller.fingerprints()),
        })?;
        let rotated = parse_rotated(rotated)?;
        rotated::check_leniently(sealed, &rotated).map_err(|problem| {
            let name = sealed.name_or_empty().to_owned();
            CommandError::NotRotated { name, problem }
        })?;
        Ok(rotated.to_document())
    };
    objects.iter().map(rotate_one).collect()
}

/// Parses a re-encrypted object, and removes its status, generation, and times of creation and deletion.
fn parse_rotated(rotated: Json) -> Result<SealedSecret, CommandError> {
    let failure = "cannot re-encrypt secret";
    let malformed = |_| kubeseal_library::cluster::ClusterError::MalformedResponse { failure };
    let mut sealed: SealedSecret = serde_json::from_value(rotated).map_err(malformed)?;
    sealed.metadata.creation_timestamp = None;
    sealed.metadata.deletion_timestamp = None;
    sealed.metadata.generation = None;
    sealed.status = None;
    Ok(sealed)
}

/// Returns the output file and format. Without `--sealed-secret-file`, an input file is replaced, as YAML if its name
/// ends in `.yaml` or `.yml`, otherwise as JSON.
pub(super) fn output_file_and_format(
    request: &Request,
) -> Result<(Option<&Path>, Format), CommandError> {
    match (&request.output, &request.input) {
        (None, Input::File(path)) => {
            let format = if is_yaml(path) {
                Format::Yaml
            } else {
                Format::Json
            };
            Ok((Some(path), format))
        }
        (output, _) => Ok((output.as_deref(), output_format(request)?)),
    }
}
