//! The `scope` of a rule is enforced.

use super::{Tree, said};

const RULES: &str =
    "rules: [{path: '**', certificate: cert.pem, namespace: shop, scope: namespace-wide}]\n";

#[test]
fn what_contradicts_the_scope_of_a_rule_is_refused_and_found() {
    let tree = Tree::new();
    tree.write(".seal.yaml", RULES);
    let create = |scope: &[&str], file: &str| {
        let fixed = ["create", "db", "--from-file", "a=key.pem", "-w", file];
        tree.seal(&[&fixed, scope].concat())
    };
    assert!(create(&[], "tree/right.yaml").status.success());
    assert!(tree.seal(&["lint", "tree"]).status.success());
    for scope in ["strict", "cluster-wide"] {
        let output = create(&["--scope", scope], "tree/wrong.yaml");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            said(&output).contains("allows the scope namespace-wide, not"),
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
        let output = tree.seal(&["set", &file, "b", "--from-file", "key.pem"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert_eq!(tree.read(&file), text, "{name}");
    }
}

#[test]
fn a_secret_that_contradicts_the_scope_of_a_rule_is_not_sealed() {
    let tree = Tree::new();
    tree.write(".seal.yaml", RULES);
    let plain = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  annotations: \
                 {sealedsecrets.bitnami.com/cluster-wide: 'true'}\nstringData: {a: b}\n";
    tree.write("tree/plain.yaml", plain);
    let output = tree.seal(&["-i", "tree/plain.yaml"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(tree.read("tree/plain.yaml"), plain);
}

#[test]
fn allowed_scopes_leave_the_scope_of_what_is_new_to_the_rule() {
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
            "a=key.pem",
            "-w",
            &file,
            "--scope",
            scope,
        ];
        assert_eq!(tree.seal(&args).status.code(), Some(code), "{scope}");
    }
}
