//! Tests that hostile names, links and files cannot cause the controller to write or delete anything outside its
//! directory.

use std::os::unix::fs::symlink;

use jiff::SignedDuration;

use crate::support::{Case, KEYS, key_manifest, manifest_of, sealed};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// Attack: an author names objects and namespaces like paths that lead out of the directory, so that the controller
/// writes files there.
#[tokio::test]
async fn hostile_names_create_no_files() {
    let mut case = Case::new().await;
    // At the first manifest, the controller records the identity of the directory `sealed`.
    case.write("sealed/none.yaml", "");
    case.tick().await;
    let before = Case::tree(case.outer.path());
    for (i, id) in [
        "../evil/n",
        "ns/..",
        "ns/.",
        "./n",
        "ns/",
        "ns/a\\b",
        "ns/a b",
        "NS/n",
        "ns/ä",
        "ns/a\nb",
        "ns/..data",
        "ns/-a",
    ]
    .iter()
    .enumerate()
    {
        let mut object = sealed(&KEYS[0], "ns/n", &[("a", "1")]);
        let (namespace, name) = id.rsplit_once('/').unwrap();
        object.metadata.namespace = Some(namespace.into());
        object.metadata.name = Some(name.into());
        case.write(&format!("sealed/{i}.yaml"), &manifest_of(&object));
    }
    let mut expected = Case::tree(case.outer.path());
    expected.retain(|path, _| !path.starts_with(case.dir.join("sealed")));
    case.advance(SECOND * 5).await;
    let mut after = Case::tree(case.outer.path());
    after.retain(|path, _| !path.starts_with(case.dir.join("sealed")));
    assert_eq!(after, expected);
    assert!(before.len() > 3, "the comparison is not empty");
}

#[tokio::test]
async fn refuses_an_object_with_an_item_that_cannot_be_a_file_name() {
    let mut case = Case::new().await;
    for (i, item) in [
        "..",
        ".",
        "..data",
        "../x",
        "a/b",
        "/etc/x",
        "a b",
        "",
        "..v0000000000000001",
    ]
    .iter()
    .enumerate()
    {
        let id = format!("ns/n{i}");
        case.seal(
            &format!("sealed/{i}.yaml"),
            &id,
            &[("good", "1"), (item, "2")],
        );
        case.tick().await;
        assert!(
            case.failure(&id).contains("is not a valid item key"),
            "{item:?}: {}",
            case.failure(&id)
        );
        assert_eq!(case.value(&format!("{id}/good")), None, "{item:?}");
    }
    assert!(!case.dir.join("secrets/ns").exists());
}

#[tokio::test]
async fn a_directory_that_is_not_owned_is_refused_with_upstreams_text_until_it_is_empty() {
    let mut case = Case::new().await;
    case.write("secrets/ns/n/a", "unrelated");
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.advance(SECOND * 5).await;
    let want = "failed update: Resource \"n\" already exists and is not managed by SealedSecret";
    assert_eq!(case.failure("ns/n"), want);
    assert_eq!(case.value("ns/n/a").as_deref(), Some("unrelated"));
    case.remove("sealed/x.yaml");
    case.advance(SECOND * 5).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("unrelated"));
    assert_eq!(case.status_text("ns/n"), None);
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    case.remove("secrets/ns/n/a");
    case.advance(SECOND * 600).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
}

/// Attack: a program replaces subdirectories with links to other directories, so that the controller writes and deletes
/// files there.
#[tokio::test]
async fn links_in_secrets_and_status_are_not_followed() {
    for link in [
        "secrets/ns",
        "secrets/ns/n",
        "secrets",
        "status/ns",
        "status",
    ] {
        let mut case = Case::idle();
        case.write("keys/one.yaml", &key_manifest("one", &KEYS[0]));
        let outside = case.outer.path().join("outside");
        std::fs::create_dir_all(outside.join("ns/n")).unwrap();
        let path = case.dir.join(link);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&outside, &path).unwrap();
        let before = Case::tree(&outside);
        case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
        if case.start(&[]).await.is_ok() {
            case.advance(SECOND * 3).await;
            case.remove("sealed/x.yaml");
            case.advance(SECOND * 5).await;
        }
        assert_eq!(Case::tree(&outside), before, "{link}");
        assert!(path.is_symlink(), "{link}");
    }
}

/// Attack: a program puts links among manifests and keys, so that the controller reads files outside the directory.
#[tokio::test]
async fn links_in_sealed_and_keys_are_followed_only_inside_the_directory() {
    let mut case = Case::new().await;
    let outside = case.outer.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let text = manifest_of(&sealed(&KEYS[0], "ns/out", &[("a", "1")]));
    std::fs::write(outside.join("x.yaml"), text).unwrap();
    std::fs::write(outside.join("k.yaml"), key_manifest("two", &KEYS[1])).unwrap();
    symlink(outside.join("x.yaml"), case.dir.join("sealed/file.yaml")).unwrap();
    symlink("../../outside", case.dir.join("sealed/directory")).unwrap();
    symlink("../../outside/k.yaml", case.dir.join("keys/k.yaml")).unwrap();
    case.write(
        "sealed/two.yaml",
        &manifest_of(&sealed(&KEYS[1], "ns/two", &[("a", "2")])),
    );
    case.seal("git/rev/in.yaml", "ns/in", &[("a", "3")]);
    symlink("../git/rev", case.dir.join("sealed/checkout")).unwrap();
    case.advance(SECOND * 3).await;
    assert_eq!(case.value("ns/out/a"), None);
    assert_eq!(case.failure("ns/two"), "no key could decrypt secret (a)");
    assert_eq!(case.value("ns/in/a").as_deref(), Some("3"));
}

/// Attack: an author creates links to statuses, values and keys, so that the controller reads them as manifests and
/// each object exists twice.
#[tokio::test]
async fn links_between_the_controllers_directories_are_not_followed() {
    let mut case = Case::new().await;
    case.seal(
        "sealed/good.yaml",
        "shop/db",
        &[("app.yaml", "kind: hunter2-horse")],
    );
    case.tick().await;
    assert!(case.value("shop/db/app.yaml").is_some());
    std::fs::create_dir(case.dir.join("sealed/attacker")).unwrap();
    for (name, target) in [
        ("x", "../../secrets"),
        ("y", "../../status"),
        ("z", "../../keys"),
        ("w", "../../status/shop/db.yaml"),
        ("v", "x/../../../status"),
    ] {
        symlink(target, case.dir.join("sealed/attacker").join(name)).unwrap();
    }
    symlink("../sealed", case.dir.join("keys/s")).unwrap();
    case.seal("sealed/good.yaml", "shop/db", &[("app.yaml", "2")]);
    case.advance(SECOND * 3).await;
    assert_eq!(case.value("shop/db/app.yaml").as_deref(), Some("2"));
    case.seal("sealed/new.yaml", "other/new", &[("a", "3")]);
    case.advance(SECOND * 3).await;
    assert_eq!(case.value("other/new/a").as_deref(), Some("3"));
}

/// Attack: an author adds an unparsable file next to valid files, so that the controller ignores the valid files.
#[tokio::test]
async fn an_unparsable_file_does_not_affect_other_files() {
    let mut case = Case::new().await;
    case.write("sealed/a.yaml", "\u{0}\u{1}");
    case.write(
        "sealed/b.yaml",
        "kind: SealedSecret\nmetadata: 5\nspec: []\n",
    );
    case.write("sealed/c.json", "{\"kind\":\"SealedSecret\"");
    let alias_bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    case.write("sealed/d.yaml", alias_bomb);
    std::fs::create_dir(case.dir.join("sealed/e.yaml")).unwrap();
    case.seal("sealed/z.yaml", "ns/n", &[("a", "1")]);
    case.tick().await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
}
