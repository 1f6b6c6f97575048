//! Tests that the `scope` and the `allowedScopes` of a rule are enforced.

use super::{Tree, stderr};

const RULES: &str =
    "rules: [{path: '**', certificate: cert.pem, namespace: shop, scope: namespace-wide}]\n";

#[test]
fn commands_refuse_and_lint_reports_a_scope_that_violates_the_rule() {
    let tree = Tree::new();
    tree.write(".seal.yaml", RULES);
    let create = |scope: &[&str], file: &str| {
        let common_args = ["create", "db", "--from-file", "a=cert.pem", "-w", file];
        tree.seal(&[&common_args, scope].concat())
    };
    assert!(create(&[], "tree/right.yaml").status.success());
    assert!(tree.seal(&["lint", "tree"]).status.success());
    for scope in ["strict", "cluster-wide"] {
        let output = create(&["--scope", scope], "tree/wrong.yaml");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            stderr(&output).contains("allows only the scope namespace-wide, but"),
            "{output:?}"
        );
    }
    let wide = tree
        .read("tree/right.yaml")
        .replace("namespace-wide: \"true\"", "cluster-wide: \"true\"");
    let strict = tree
        .read("tree/right.yaml")
        .replace("namespace-wide: \"true\"", "namespace-wide: \"false\"");
    for (name, text) in [("wide.yaml", wide), ("strict.yaml", strict)] {
        tree.write(&format!("tree/{name}"), &text);
        let file = format!("tree/{name}");
        let output = tree.seal(&["lint", &file, "--ignore", "template-name"]);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("[broken-rule]"),
            "{name}: {output:?}"
        );
        let output = tree.seal(&["set", &file, "b", "--from-file", "cert.pem"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert_eq!(tree.read(&file), text, "{name}");
    }
}

#[test]
fn refuses_to_seal_a_secret_whose_scope_violates_the_rule() {
    let tree = Tree::new();
    tree.write(".seal.yaml", RULES);
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  annotations: \
                 {sealedsecrets.bitnami.com/cluster-wide: 'true'}\nstringData: {a: b}\n";
    tree.write("tree/plain.yaml", secret);
    let output = tree.seal(&["-i", "tree/plain.yaml"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(tree.read("tree/plain.yaml"), secret);
}

#[test]
fn new_objects_accept_every_allowed_scope_and_no_other() {
    let tree = Tree::new();
    tree.write(
        ".seal.yaml",
        &RULES.replace("scope:", "allowedScopes: [strict, namespace-wide], scope:"),
    );
    for (scope, code) in [("strict", 0), ("namespace-wide", 0), ("cluster-wide", 2)] {
        let file = format!("tree/{scope}.yaml");
        let args = [
            "create",
            "db",
            "--from-file",
            "a=cert.pem",
            "-w",
            &file,
            "--scope",
            scope,
        ];
        assert_eq!(tree.seal(&args).status.code(), Some(code), "{scope}");
    }
}
