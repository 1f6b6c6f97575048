//! Tests that `seal lint` and the hook find values of malformed Secrets: values with a wrong indentation or in a
//! misspelled field, and Secrets with a misspelled kind or `apiVersion`. The API server refuses or drops the values,
//! but the commit contains them. Also tests a `SopsSecret` that is not encrypted.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Output;

use crate::support::{assert_code, assert_contains, combined_output, command, git, write_files};

const HEAD: &str = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n";

fn lint(directory: &Path, args: &[&str]) -> Output {
    let mut seal = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
    seal.arg("lint").args(args).current_dir(directory);
    seal.output().expect("the command starts")
}

fn repository(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    git(directory.path(), &["init", "-q"]);
    write_files(directory.path(), &[("db.yaml", text)]);
    git(directory.path(), &["add", "-A"]);
    directory
}

/// Checks that lint and the hook report the keys of these values, and do not show the values.
fn assert_reported(text: &str, keys: &str) {
    let directory = repository(text);
    for args in [&[][..], &["--staged"], &["db.yaml"]] {
        let output = lint(directory.path(), args);
        assert_code(&output, 1, text);
        assert_contains(&output, &format!(": {keys};"), text);
        let shown = combined_output(&output);
        assert!(!shown.contains("hunter2"), "{text}: {shown}");
    }
}

fn assert_nothing_found(text: &str) {
    let directory = repository(text);
    for args in [&["db.yaml"][..], &["--staged"]] {
        let output = lint(directory.path(), args);
        assert_code(&output, 0, text);
        assert_contains(&output, "nothing found", text);
    }
}

/// Fault: the values of a Secret have a wrong indentation.
#[test]
fn finds_values_with_a_wrong_indentation() {
    for (fields, keys) in [
        ("stringData:\npw: hunter2\n", "pw"),
        ("data:\npw: aHVudGVyMg==\n", "pw"),
        (
            "data:\ntls.crt: aHVudGVyMg==\ntls.key: aHVudGVyMg==\ntype: kubernetes.io/tls\n",
            "tls.crt, tls.key",
        ),
        ("  stringData:\n    pw: hunter2\n", "metadata.stringData.pw"),
        ("  data:\n    pw: aHVudGVyMg==\n", "metadata.data.pw"),
        ("  stringData:\n  pw: hunter2\n", "metadata.pw"),
        (
            "  annotations:\n    a: b\n    stringData:\n      pw: hunter2\n",
            "metadata.annotations.stringData.pw",
        ),
        (
            "spec:\n  stringData:\n    pw: hunter2\n",
            "spec.stringData.pw",
        ),
        ("spec:\n  data:\n    pw: aHVudGVyMg==\n", "spec.data.pw"),
        ("password: hunter2\n", "password"),
        ("pin: 1234\n", "pin"),
        ("passwords: [hunter2, hunter2]\n", "passwords"),
        ("stringData: {a: '${A}'}\npw: hunter2\n", "pw"),
        ("stringData:\nuser: {{ .Values.user }}\npw: hunter2\n", "pw"),
    ] {
        assert_reported(&format!("{HEAD}{fields}"), keys);
    }
}

/// Fault: the name of a field of a Secret is misspelled.
#[test]
fn finds_values_in_a_misspelled_field() {
    for field in [
        "stringDate",
        "string_data",
        "strData",
        "stringsData",
        "string-data",
        "secretData",
        "binaryData",
        "dat",
    ] {
        let text = format!("{HEAD}{field}: {{pw: hunter2, user: '${{USER}}'}}\n");
        assert_reported(&text, &format!("{field}.pw"));
    }
    let text = format!("{HEAD}values: {{a: hunter2, b: [hunter2], c: {{d: hunter2}}}}\n");
    assert_reported(&text, "values.a, values.b, values.c.d");
}

/// Attack: a committer writes values in a field whose name cannot be the key of an item, or looks like a field of a
/// tool.
#[test]
fn finds_values_in_a_field_with_an_invalid_name() {
    for name in [
        "string Data",
        "string\\u200bData",
        "\\u200b",
        "str\u{131}ngData",
        "$patches",
        "$setElementOrder/a",
        "=data",
    ] {
        let text = format!("{HEAD}\"{name}\": {{pw: hunter2}}\n");
        assert_reported(&text, "(invalid name).pw");
        let text = format!("{HEAD}  \"{name}\": {{pw: hunter2}}\n");
        assert_reported(&text, "metadata.(invalid name).pw");
    }
    assert_reported(&format!("{HEAD}\u{17f}tringData: {{pw: hunter2}}\n"), "pw");
    let name = "(invalid name)";
    assert_reported(&format!("{HEAD}hunter2 hunter2: hunter2\n"), name);
    assert_reported(&format!("{HEAD}$patch: hunter2\n"), name);
}

/// Fault: the kind or the `apiVersion` of a Secret is misspelled, or copied from another object.
#[test]
fn finds_values_of_a_misspelled_kind_or_version() {
    let plain = "stringData: {pw: hunter2}\n";
    let encoded = "data: {pw: aHVudGVyMg==}\n";
    for (version, kind) in [
        ("apps/v1", "Secret"),
        ("V1", "Secret"),
        ("v1beta1", "Secret"),
        ("secrets/v1", "Secrets"),
        ("v1", "secret"),
        ("v1", "SECRET"),
        ("v1", "Secrets"),
    ] {
        for fields in [plain, encoded] {
            let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: db}}\n");
            assert_reported(&format!("{text}{fields}"), "pw");
        }
    }
    let text = format!("apiVersion: v1\nkind: Sercet\nmetadata: {{name: db}}\n{plain}");
    assert_reported(&text, "pw");
    let text = format!("apiVersion: v1\nkind: secret\nmetadata:\n  name: db\n  {plain}");
    assert_reported(&text, "metadata.stringData.pw");
    let nested = format!(
        "kind: ConfigMap\ndata:\n  a: |\n    apiVersion: v1\n    kind: secret\n    metadata: {{name: db}}\n    {plain}"
    );
    assert_reported(&nested, "pw");
}

/// Fault: a `SopsSecret` is committed before sops encrypts it.
#[test]
fn finds_values_of_a_sops_secret_that_is_not_encrypted() {
    let encrypted = "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]";
    let object = |template: &str, end: &str| {
        format!(
            "apiVersion: isindir.github.com/v1alpha3\nkind: SopsSecret\nmetadata: {{name: db}}\nspec:\n  secretTemplates:\n  \
             - {{name: a, stringData: {{p: '{encrypted}'}}}}\n  - {{name: b, {template}}}\n{end}"
        )
    };
    let sops = format!("sops: {{mac: '{encrypted}'}}\n");
    assert_reported(&object("stringData: {pw: hunter2}", &sops), "pw");
    assert_reported(&object("stringData: {pw: hunter2}", ""), "p, pw");
    assert_reported(&object("data: {pw: aHVudGVyMg==}", &sops), "pw");
    assert_nothing_found(&object(
        &format!("stringData: {{pw: '{encrypted}'}}"),
        &sops,
    ));
    assert_nothing_found(&object("stringData: {pw: '${PW}'}", &sops));
}

/// References to Secrets, objects of other APIs and placeholders are not plain Secrets.
#[test]
fn accepts_references_and_other_objects() {
    for text in [
        // References.
        "kind: HelmRelease\nspec:\n  valuesFrom: [{kind: Secret, name: db, valuesKey: password}]\n",
        "kind: A\nspec: {secretRef: {apiVersion: v1, kind: Secret, name: db, key: password}}\n",
        "- {apiVersion: v1, kind: Secret, name: db, fieldPath: data.password}\n",
        "kind: Kustomization\nreplacements:\n- source: {kind: Secret, name: db, fieldPath: data.password}\n",
        "kind: Event\ninvolvedObject: {apiVersion: v1, kind: Secret, name: db, namespace: shop}\n",
        "kind: Policy\nrules:\n- generate: {apiVersion: v1, kind: Secret, name: db, clone: {name: db, namespace: shop}}\n",
        "kind: secret\nname: password\nget: {path: secret/data/db, name: password}\n",
        // Other objects.
        "kind: secret\nname: password\ndata: c29tZXRoaW5nIGVuY3J5cHRlZA==\n---\nkind: secret\ndata: {pw: aHVudGVyMg==}\n",
        "apiVersion: a.example/v1\nkind: Secret\nmetadata: {name: db}\nspec: {data: {remoteRef: password}}\n",
        "apiVersion: a.example/v1\nkind: Secret\nmetadata: {name: db}\ndata: {source: some text}\nkey: password\n",
        "apiVersion: a.example/v1\nkind: ExternalSecret\nmetadata: {name: db}\nspec: {data: [{secretKey: password}]}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: secrets}\ndata: {pw: aHVudGVyMg==}\nbinaryData: {a: aGk=}\n",
        "kind: CustomResourceDefinition\nspec:\n  schema:\n    properties:\n      kind: {type: string}\n      \
         stringData: {type: object, description: the values of a Secret}\n",
        // Placeholders, metadata with a wrong indentation, and fields of tools.
        &format!("{HEAD}  labels:\n  app: db\ntype: Opaque\nstringData: {{pw: '${{PW}}'}}\n"),
        &format!("{HEAD}namespace: shop\nlabels: {{app: db}}\nimmutable: true\nstringData: {{}}\n"),
        &format!("{HEAD}$patch: delete\n"),
        &format!("{HEAD}stringData:\npw: ${{PW}}\nb: CHANGEME\nc: ''\nd:\n"),
        &format!("{HEAD}data:\npw: JHtQV30=\n"),
        &format!("{HEAD}spec: {{}}\nstatus: {{}}\n"),
        &format!("{HEAD}=(data): {{pw: some pattern}}\n"),
        &format!(
            "{HEAD}  {{{{- include \"labels\" (dict \"a\" \"b\") | nindent 2 }}}}\nstringData: {{}}\n"
        ),
        &format!(
            "{HEAD}stringData:\n{{{{ .Values.key }}}}: {{{{ .Values.pw | quote }}}}\npw: {{{{ .Values.pw }}}}\n"
        ),
        "# seal lint: ignore plain-secret: an example\napiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringDate: {pw: a}\n",
    ] {
        assert_nothing_found(text);
    }
}
