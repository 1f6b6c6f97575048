//! Measures `seal rotate` on a tree of files whose values are sealed for two old keys, and compares it with a loop
//! over Bitnami's `kubeseal --re-encrypt -f`, which calls a controller, and with the time of the private-key
//! operations alone.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use shared::key::{KeySize, NewKey};
use shared::key_secret;
use shared::manifest;
use shared::plain::Plain;
use shared::scope::Scope;
use shared::seal::seal;
use shared::secret::Secret;
use shared::{envelope, resource::SealedSecret};
use tests::control_plane::ControlPlane;
use tests::directory_controller::DirectoryController;
use tests::scratch::Scratch;
use tests::{binaries, upstream};

use crate::operation::new_key;
use crate::report::{print_head, print_row, ratio, time};
use crate::sizes::Sizes;

#[expect(clippy::too_many_lines, reason = "a sequence of measurements")]
pub async fn run(sizes: Sizes) {
    let files = sizes.size("files", 50, 1000);
    let items = sizes.size("items", 5, 5);
    let sample = sizes.size("upstream_files", 10, 100).min(files);
    let controller = DirectoryController::start();
    let directory = Scratch::new();
    // The controller's own key is the newest.
    let old_keys = [KeySize::Rsa4096; 2].map(new_key);
    write_keys(&controller, &old_keys);
    let tree = directory.path().join("tree");
    let fill_tree = || {
        let _ = fs::remove_dir_all(&tree);
        fs::create_dir(&tree).unwrap();
        for file in 0..files {
            let sealed = sealed_object(&old_keys[file % 2], file, items);
            let text = format!("# {file}\n{}", manifest::to_yaml(&sealed.to_document()));
            fs::write(tree.join(format!("{file}.yaml")), text).unwrap();
        }
    };
    fill_tree();
    let url = format!("http://127.0.0.1:{}/v1/cert.pem", controller.port());
    let certificate = Command::new(binaries::kubeseal())
        .args(["--fetch-cert", "--cert", &url])
        .output();
    fs::write(
        directory.path().join("cert.pem"),
        certificate.unwrap().stdout,
    )
    .unwrap();
    let keys = controller.directory().join("keys");
    let keys: Vec<String> = fs::read_dir(keys)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some("yaml".as_ref()))
        .map(|path| path.display().to_string())
        .collect();
    let mut args = vec!["rotate", "--cert", "cert.pem", "tree"];
    args.extend(keys.iter().flat_map(|key| ["--key", key.as_str()]));
    let first_run = time_command(
        Command::new(binaries::seal())
            .args(&args)
            .current_dir(directory.path()),
    );
    let second_run = time_command(
        Command::new(binaries::seal())
            .args(&args)
            .current_dir(directory.path()),
    );

    fill_tree();
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("bench-rotate").await;
    namespace.route("sealed-secrets", controller.port()).await;
    let controller_args = [
        "--controller-name",
        "sealed-secrets",
        "--controller-namespace",
        namespace.name(),
    ];
    let kubeseal = upstream::upstream_kubeseal();
    let start = Instant::now();
    for file in 0..sample {
        let path = tree.join(format!("{file}.yaml"));
        let mut command = Command::new(&kubeseal);
        command
            .env("KUBECONFIG", plane.kubeconfig())
            .args(controller_args)
            .args(["--re-encrypt", "-f"]);
        time_command(command.arg(path));
    }
    let scale = u32::try_from(files / sample).unwrap();
    let upstreams = start.elapsed() * scale;
    fill_tree();
    let mut command = Command::new(binaries::seal());
    command
        .env("KUBECONFIG", plane.kubeconfig())
        .arg("rotate")
        .args(controller_args)
        .arg(&tree);
    let online = time_command(&mut command);

    let floor = estimate_floor(&old_keys[0], files * items);
    print_head(&[
        "",
        "time",
        "upstream's loop / this project",
        "this project / floor",
    ]);
    let row = |name: &str, duration: Duration| {
        print_row(&[
            name.to_owned(),
            time(duration),
            ratio(upstreams, duration),
            ratio(duration, floor),
        ]);
    };
    row("floor: items ÷ operations per second of all cores", floor);
    row("seal rotate --key, offline", first_run);
    row("the same again, with nothing to do", second_run);
    row("seal rotate, through the controller", online);
    row(
        &format!("kubeseal --re-encrypt -f, from {sample} files"),
        upstreams,
    );
}

/// Writes the keys to the directory from which the controller reads its keys.
fn write_keys(controller: &DirectoryController, keys: &[NewKey]) {
    for (i, key) in keys.iter().enumerate() {
        let no_metadata = std::collections::BTreeMap::new;
        let secret = key_secret::build(
            &format!("old{i}"),
            "kube-system",
            key,
            no_metadata(),
            no_metadata(),
        );
        let document = secret.to_document();
        let path = controller.directory().join(format!("keys/old{i}.yaml"));
        fs::write(path, manifest::to_yaml(&document)).unwrap();
    }
}

fn sealed_object(key: &NewKey, file: usize, items: usize) -> SealedSecret {
    let mut secret = Secret::default();
    secret.metadata.name = Some(format!("s{file}"));
    secret.metadata.namespace = Some("ns".into());
    secret.data = (0..items)
        .map(|item| {
            (
                format!("item{item}"),
                Plain::from(format!("value {item} of {file}")),
            )
        })
        .collect();
    seal(
        &secret,
        key.pair.certificate().public_key(),
        &mut shared::random::system(),
    )
    .unwrap()
}

fn time_command(command: &mut Command) -> Duration {
    let start = Instant::now();
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    start.elapsed()
}

/// Estimates the time of this many private-key operations on all cores, from a sample.
fn estimate_floor(key: &NewKey, operations: usize) -> Duration {
    let label = Scope::Strict.label("ns", "n");
    let public = key.pair.certificate().public_key();
    let sealed = envelope::seal(public, &label, b"value", &mut shared::random::system()).unwrap();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let per_thread = 200;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..per_thread {
                    envelope::open(key.pair.private(), &label, &sealed).unwrap();
                }
            });
        }
    });
    start
        .elapsed()
        .mul_f64(operations as f64 / (threads * per_thread) as f64)
}
