//! Tests that a value can be unsealed only under the label that it was sealed for. The tests put values into objects
//! with every combination of a forged scope, template, namespace and name. They cover the controller, offline recovery,
//! and merging into a file. The tests of the endpoints verify and rotate have the same matrix.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use jiff::Timestamp;
use serde_json::{Value, json};
use shared::key_ring::{KeyRing, RingKey};
use shared::manifest;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::unseal::{Randomness, Rules, unseal};
use shared::{base64, envelope};
use tests::binaries;
use tests::scratch::Scratch;
use tests::sealing::{KEYS, copy_of, sealed_for};

const VALUE: &str = "the value";

const RULES: Rules = Rules {
    accept_legacy: true,
    refuse_random: false,
};

/// A value sealed for `shop/db` with one scope, in an object that may claim another name, namespace or scope.
struct ForgedObject {
    sealed_as: Scope,
    claims: Scope,
    object: SealedSecret,
}

impl ForgedObject {
    fn every_combination() -> Vec<Self> {
        let names = [("shop", "db"), ("shop", "x"), ("x", "db"), ("x", "x")];
        let mut objects = Vec::new();
        for sealed_as in Scope::ALL {
            let original = sealed_for(&KEYS[0], "shop", "db", &[("a", VALUE)], sealed_as);
            for claims in Scope::ALL {
                for template in Scope::ALL {
                    for object_name in names {
                        let object = forge(&original, claims, template, object_name);
                        objects.push(Self {
                            sealed_as,
                            claims,
                            object,
                        });
                    }
                }
            }
        }
        objects
    }

    /// Returns whether the value may be unsealed: only if the claimed scope, namespace and name lead to the label for
    /// which it was sealed.
    fn may_unseal(&self) -> bool {
        let object_name = (self.namespace(), self.name());
        self.sealed_as == self.claims
            && match self.sealed_as {
                Scope::Strict => object_name == ("shop", "db"),
                Scope::NamespaceWide => object_name.0 == "shop",
                Scope::ClusterWide => true,
            }
    }

    fn namespace(&self) -> &str {
        self.object.namespace_or_empty()
    }

    fn name(&self) -> &str {
        self.object.name_or_empty()
    }

    fn description(&self) -> String {
        let template = &self.object.spec.template.metadata.annotations;
        format!(
            "sealed {}, claims {}, template {:?}, as {}/{}",
            self.sealed_as,
            self.claims,
            Scope::from_annotations(template.as_ref()),
            self.namespace(),
            self.name()
        )
    }

    fn to_yaml(&self) -> String {
        manifest::to_yaml(&self.object.to_document())
    }
}

/// Returns a forged object. Its template keeps the original name and namespace.
fn forge(
    original: &SealedSecret,
    claims: Scope,
    template: Scope,
    (namespace, name): (&str, &str),
) -> SealedSecret {
    let mut forged = original.clone();
    forged.metadata.annotations = None;
    claims.annotate(forged.metadata.annotations.get_or_insert_default());
    let template_metadata = &mut forged.spec.template.metadata;
    template_metadata.annotations = None;
    template.annotate(template_metadata.annotations.get_or_insert_default());
    forged.metadata.namespace = Some(namespace.into());
    forged.metadata.name = Some(name.into());
    forged
}

fn key_ring() -> KeyRing {
    let key = RingKey::new("k".into(), Timestamp::UNIX_EPOCH, copy_of(&KEYS[0]));
    KeyRing::new([key.into()])
}

/// Attack: an author unseals a value under every other name, namespace and scope, with forged annotations and template
/// metadata.
#[test]
fn unsealing_refuses_forged_objects() {
    let ring = key_ring();
    for forged in ForgedObject::every_combination() {
        let mut system = shared::random::system();
        let mut randomness = Randomness {
            now: Timestamp::UNIX_EPOCH,
            rng: &mut system,
        };
        let unsealed = unseal(&forged.object, &ring, RULES, &mut randomness);
        assert_eq!(
            unsealed.is_ok(),
            forged.may_unseal(),
            "{}",
            forged.description()
        );
        if let Ok(unsealed) = unsealed {
            let metadata = unsealed.secret.metadata;
            assert_eq!(metadata.namespace.as_deref(), Some(forged.namespace()));
            assert_eq!(metadata.name.as_deref(), Some(forged.name()));
        }
    }
}

/// Attack: an author unseals a `spec.data` value under another name, namespace or scope.
///
/// The metadata in the sealed Secret of the deprecated form has no effect.
#[test]
fn unsealing_refuses_forged_objects_in_the_deprecated_form() {
    let ring = key_ring();
    for mut forged in ForgedObject::every_combination() {
        let template_annotations = &forged.object.spec.template.metadata.annotations;
        let secret = json!({
            "kind": "Secret", "apiVersion": "v1", "data": { "a": "MQ==" },
            "metadata": { "namespace": "other", "name": "other", "annotations": template_annotations },
        });
        let label = forged.sealed_as.label("shop", "db");
        let key = KEYS[0].pair.certificate().public_key();
        let text = secret.to_string();
        let value =
            envelope::seal(key, &label, text.as_bytes(), &mut shared::random::system()).unwrap();
        forged.object.spec.encrypted_data.clear();
        forged.object.spec.data = Some(base64::encode(&value));
        let mut system = shared::random::system();
        let mut randomness = Randomness {
            now: Timestamp::UNIX_EPOCH,
            rng: &mut system,
        };
        let unsealed = unseal(&forged.object, &ring, RULES, &mut randomness);
        assert_eq!(
            unsealed.is_ok(),
            forged.may_unseal(),
            "{}",
            forged.description()
        );
        if let Ok(unsealed) = unsealed {
            let metadata = unsealed.secret.metadata;
            assert_eq!(metadata.namespace.as_deref(), Some(forged.namespace()));
            assert_eq!(metadata.name.as_deref(), Some(forged.name()));
        }
    }
}

/// Runs `kubeseal` in this directory, with `input` as stdin.
fn kubeseal(directory: &Path, args: &[&str], input: &str) -> Output {
    fs::write(directory.join("input.yaml"), input).unwrap();
    Command::new(binaries::kubeseal())
        .args(args)
        .args(["-o", "yaml"])
        .current_dir(directory)
        .env("KUBECONFIG", directory.join("none"))
        .stdin(fs::File::open(directory.join("input.yaml")).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

fn directory_with_key() -> Scratch {
    let scratch = Scratch::new();
    fs::write(scratch.path().join("key.pem"), KEYS[0].private_pem.expose()).unwrap();
    let certificate = KEYS[0].pair.certificate().to_pem();
    fs::write(scratch.path().join("cert.pem"), certificate).unwrap();
    scratch
}

const RECOVERY_ARGS: [&str; 3] = ["--recovery-unseal", "--recovery-private-key", "key.pem"];

/// Attack: an author copies a value to every other name, namespace and scope, for offline recovery.
#[test]
fn recovery_refuses_forged_objects() {
    let scratch = directory_with_key();
    for forged in ForgedObject::every_combination() {
        let output = kubeseal(scratch.path(), &RECOVERY_ARGS, &forged.to_yaml());
        let case = forged.description();
        assert_eq!(output.status.success(), forged.may_unseal(), "{case}");
        let text = String::from_utf8(output.stdout).unwrap();
        let secret = parse_document(&text);
        if forged.may_unseal() {
            let object_name = json!([forged.namespace(), forged.name()]);
            let actual = json!([secret["metadata"]["namespace"], secret["metadata"]["name"]]);
            assert_eq!(actual, object_name, "{case}");
        } else {
            assert_eq!(text, "", "{case}");
        }
    }
}

/// Attack: an author has a value merged into a file with a forged name and scope, so that an existing value can be
/// unsealed under another name or scope.
///
/// A merge must not make a value valid for another name: new values are sealed for the target, and existing
/// values can be unsealed exactly as before.
#[test]
fn merging_into_a_forged_file_makes_no_other_value_valid() {
    let scratch = directory_with_key();
    let target = scratch.path().join("target.yaml");
    let new = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {b: new}\n";
    let ring = key_ring();
    for forged in ForgedObject::every_combination() {
        let case = forged.description();
        fs::write(&target, forged.to_yaml()).unwrap();
        let args = ["--cert", "cert.pem", "--merge-into", "target.yaml"];
        let output = kubeseal(scratch.path(), &args, new);
        assert!(output.status.success(), "{case}: {output:?}");
        let merged = parse_sealed_secret(&fs::read(&target).unwrap());
        assert_eq!(merged.metadata.namespace, forged.object.metadata.namespace);
        assert_eq!(merged.metadata.name, forged.object.metadata.name);
        for (item, is_unsealable) in [("a", forged.may_unseal()), ("b", true)] {
            let mut single_item = merged.clone();
            single_item.spec.encrypted_data.retain(|key, _| key == item);
            let got = shared::unseal::check(&single_item, &ring, false);
            assert_eq!(got.is_ok(), is_unsealable, "{item}: {case}");
        }
        let mut moved = merged;
        moved.spec.encrypted_data.retain(|key, _| key == "b");
        moved.metadata.namespace = Some("elsewhere".into());
        let got = shared::unseal::check(&moved, &ring, false);
        assert_eq!(got.is_ok(), forged.claims == Scope::ClusterWide, "{case}");
    }
}

fn parse_document(text: &str) -> Value {
    let documents = manifest::read(text.as_bytes()).unwrap();
    let reading = &mut manifest::Reading::default();
    let first = documents.first();
    first.map_or(Value::Null, |document| {
        reading.json(&document.root, manifest::Shape::Any).unwrap()
    })
}

fn parse_sealed_secret(bytes: &[u8]) -> SealedSecret {
    let documents = manifest::read(bytes).unwrap();
    let (mut objects, _) = SealedSecret::all_from_document(&documents[0]).unwrap();
    objects.remove(0)
}
