//! Files that cannot be read and may contain SealedSecrets are reported, and the exit code is not 0.

use super::{Tree, printed, said};

const HEAD: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n";

/// Returns files that no parser accepts, each with the expected message.
fn unreadable() -> Vec<(&'static str, String, &'static str)> {
    vec![
        (
            "conflict.yaml",
            format!(
                "{HEAD}metadata:\n  name: db\nspec:\n  encryptedData:\n<<<<<<< HEAD\n    a: AgA=\n=======\n    a: AgB=\n\
                 >>>>>>> topic\n"
            ),
            "unresolved Git conflict markers",
        ),
        (
            "conflict3.yaml",
            format!(
                "{HEAD}metadata:\n<<<<<<< ours\n  name: a\n||||||| base\n=======\n  name: b\n>>>>>>> theirs\n"
            ),
            "unresolved Git conflict markers",
        ),
        (
            "second.yaml",
            format!("kind: ConfigMap\n---\n{HEAD}spec: [\n"),
            "document 2",
        ),
        (
            "chart/templates/db.yaml",
            format!("{HEAD}metadata:\n  name: {{{{ .Release.Name }}}}-db\n"),
            "template",
        ),
        (
            "chart/templates/if.yaml",
            format!("{{{{- if .Values.on }}}}\n{HEAD}spec: {{}}\n{{{{- end }}}}\n"),
            "template",
        ),
        (
            "broken.json",
            "{\"kind\": \"SealedSecret\",".to_owned(),
            "malformed",
        ),
    ]
}

#[test]
fn rotate_names_each_file_and_does_the_others() {
    for (name, text, why) in unreadable() {
        let tree = Tree::new();
        tree.seal_without_hints("db", "tree/good.yaml");
        let before = tree.read("tree/good.yaml");
        tree.write(&format!("tree/{name}"), &text);
        let args = ["rotate", "tree", "--key", "key.pem", "--cert", "other.pem"];
        let output = tree.seal(&args);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        let line = format!("tree/{name}: failed: ");
        let all = said(&output);
        let line = all.lines().find(|said| said.starts_with(&line));
        assert!(line.is_some_and(|said| said.contains(why)), "{name}: {all}");
        assert!(all.contains("tree/good.yaml"), "{name}: {all}");
        assert_ne!(tree.read("tree/good.yaml"), before, "{name}");
        assert_eq!(tree.read(&format!("tree/{name}")), text, "{name}");
    }
}

#[test]
fn rotate_of_a_tree_with_nothing_else_says_so_too() {
    for (name, text, why) in unreadable() {
        let tree = Tree::new();
        tree.write(&format!("tree/{name}"), &text);
        let args = [
            "rotate",
            "tree",
            "--key",
            "key.pem",
            "--cert",
            "other.pem",
            "-o",
            "json",
        ];
        let output = tree.seal(&args);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        let facts = printed(&output);
        assert!(
            facts.contains("\"failed\": 1") && facts.contains(why),
            "{name}: {facts}"
        );
    }
}

#[test]
fn what_cannot_hold_a_sealed_secret_is_no_obstacle() {
    let tree = Tree::new();
    tree.seal_without_hints("db", "tree/good.yaml");
    for (name, text) in [
        (
            "chart/templates/deployment.yaml",
            "kind: Deployment\nname: {{ .x }}\n",
        ),
        (
            "chart/templates/secret.yaml",
            "kind: Secret\nname: {{ .x | quote }} \\\n",
        ),
        (
            "notes.yaml",
            "<<<<<<< HEAD\na: b\n=======\na: c\n>>>>>>> x\n",
        ),
    ] {
        tree.write(&format!("tree/{name}"), text);
    }
    for args in [
        &["rotate", "tree", "--key", "key.pem", "--cert", "other.pem"][..],
        &["view", "tree"],
    ] {
        let output = tree.seal(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}

#[test]
fn view_shows_the_others_and_names_each_file() {
    for (name, text, why) in unreadable() {
        let tree = Tree::new();
        tree.seal_without_hints("db", "tree/good.yaml");
        tree.write(&format!("tree/{name}"), &text);
        let output = tree.seal(&["view", "tree"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert!(printed(&output).contains("shop/db"), "{name}: {output:?}");
        let all = said(&output);
        let line = all
            .lines()
            .find(|said| said.starts_with(&format!("tree/{name}: ")));
        assert!(line.is_some_and(|said| said.contains(why)), "{name}: {all}");
    }
}

#[test]
fn diff_names_each_file() {
    for (name, text, why) in unreadable() {
        let tree = Tree::new();
        tree.git(&["init", "-q", "."]);
        tree.seal_without_hints("db", "tree/good.yaml");
        tree.git(&["add", "tree"]);
        tree.git(&["commit", "-qm", "one"]);
        tree.write(&format!("tree/{name}"), &text);
        tree.git(&["add", "tree"]);
        let output = tree.seal(&["diff"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        let all = printed(&output);
        assert!(
            all.contains(&format!("tree/{name}")) && all.contains(why),
            "{name}: {all}"
        );
    }
}

#[test]
fn keys_status_names_each_file() {
    for (name, text, why) in unreadable() {
        let tree = Tree::new();
        tree.write("state/keys/.keep", "");
        tree.seal_without_hints("db", "tree/good.yaml");
        tree.write(&format!("tree/{name}"), &text);
        let output = tree.seal(&["keys", "status", "tree", "--directory", "state"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        let all = printed(&output);
        assert!(
            all.contains(&format!("tree/{name}")) && all.contains(why),
            "{name}: {all}"
        );
    }
}

#[test]
fn a_plain_secret_behind_a_mistake_is_not_passed_over_by_seal() {
    let good =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";
    for (name, text) in [
        (
            "conflict.yaml",
            format!("{good}<<<<<<< HEAD\n=======\n>>>>>>> x\n"),
        ),
        ("second.yaml", format!("{good}---\na: [\n")),
        ("template.yaml", good.replace("db", "{{ .x }}")),
    ] {
        let tree = Tree::new();
        tree.write("tree/good.yaml", good);
        tree.write(&format!("tree/{name}"), &text);
        let output = tree.seal(&["-i", "tree", "--cert", "cert.pem"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert!(
            said(&output).contains(&format!("not sealed: tree/{name}")),
            "{name}: {output:?}"
        );
        assert!(
            tree.read("tree/good.yaml").contains("SealedSecret"),
            "{name}"
        );
    }
}

#[test]
fn an_interrupted_rotation_goes_on_where_it_ended() {
    let tree = Tree::new();
    for name in ["a", "b", "c"] {
        tree.seal_without_hints(name, &format!("tree/{name}.yaml"));
    }
    let rotate = |paths: &[&str]| {
        let fixed = ["rotate", "--key", "key.pem", "--cert", "other.pem"];
        tree.seal(&[&fixed, paths].concat())
    };
    assert!(
        rotate(&["tree/a.yaml"]).status.success(),
        "the part before it was killed"
    );
    let output = rotate(&["tree"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        said(&output).contains("2 items in 2 files re-encrypted; 1 for the newest key already"),
        "{output:?}"
    );
    let done = ["a", "b", "c"].map(|name| tree.read(&format!("tree/{name}.yaml")));
    let output = rotate(&["tree"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said(&output).lines().count(), 1, "{output:?}");
    assert_eq!(
        ["a", "b", "c"].map(|name| tree.read(&format!("tree/{name}.yaml"))),
        done
    );
}

#[test]
fn an_item_that_no_key_opens_is_a_failure_that_says_what_may_be_the_matter() {
    let tree = Tree::new();
    tree.seal_without_hints("a", "tree/a.yaml");
    let args = [
        "rotate",
        "tree",
        "--key",
        "key.pem",
        "--cert",
        "other.pem",
        "--no-hints",
    ];
    assert!(tree.seal(&args).status.success());
    let output = tree.seal(&args);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        said(&output).contains("pass its private key with --key, too"),
        "{output:?}"
    );
}

#[test]
fn sealed_values_in_the_values_of_a_chart_are_not_forgotten() {
    for (name, head) in [
        ("values.yaml", "sealed:\n  a: "),
        ("values.json", "{\"a\": \""),
        ("values-prod.yml", "list:\n- "),
    ] {
        let tree = Tree::new();
        tree.seal_without_hints("db", "one.yaml");
        let text = tree.read("one.yaml");
        let value = text.split("a: ").nth(1).unwrap().lines().next().unwrap();
        let end = if head.ends_with('"') { "\"}" } else { "\n" };
        tree.write(&format!("tree/{name}"), &format!("{head}{value}{end}"));
        tree.write("state/keys/.keep", "");
        for args in [
            &["rotate", "tree", "--key", "key.pem", "--cert", "other.pem"][..],
            &["keys", "status", "tree", "--directory", "state"],
        ] {
            let output = tree.seal(args);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
            let all = printed(&output) + &said(&output);
            let wanted = "a sealed value stands outside of a SealedSecret";
            assert!(
                all.contains(name) && all.contains(wanted),
                "{args:?}: {all}"
            );
        }
    }
}

#[test]
fn a_dry_run_says_what_the_run_does() {
    let tree = Tree::new();
    tree.seal_without_hints("a", "tree/a.yaml");
    tree.seal_without_hints("b", "tree/b.yaml");
    let rotate = |more: &[&str]| {
        let fixed = [
            "rotate",
            "tree",
            "--key",
            "key.pem",
            "--cert",
            "other.pem",
            "-o",
            "json",
        ];
        let output = tree.seal(&[&fixed, more].concat());
        assert!(output.status.success(), "{output:?}");
        let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (facts["rotated"].clone(), facts["current"].clone())
    };
    let before = tree.read("tree/a.yaml");
    let forecast = rotate(&["--dry-run"]);
    assert_eq!(tree.read("tree/a.yaml"), before);
    assert_eq!(rotate(&[]), forecast);
    assert_eq!(rotate(&["--dry-run"]), rotate(&[]));
}
