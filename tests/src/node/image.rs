//! Container images in the OCI layout, as archives.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::packages;
use crate::binaries;
use crate::operators::run_successfully;
use crate::scratch::Scratch;

/// The image with only busybox: a shell and the usual commands, as root.
pub const BUSYBOX: &str = "docker.io/library/busybox:tests";

/// Packs [`BUSYBOX`] from the unpacked Debian packages.
pub(super) fn pack_busybox(packages: &Path, archive: &Path) {
    let root = Scratch::new();
    add_busybox(root.path(), packages);
    let settings = json!({ "Cmd": ["sleep", "infinity"], "Env": ["PATH=/bin"] });
    pack(BUSYBOX, root.path(), &settings, archive);
}

fn add_busybox(root: &Path, packages: &Path) {
    for directory in ["bin", "tmp"] {
        fs::create_dir_all(root.join(directory)).expect("a writable directory");
    }
    let busybox = root.join("bin/busybox");
    fs::copy(packages.join("bin/busybox"), &busybox).expect("the package contains it");
    let install = ["/bin/busybox", "--install", "-s", "/bin"];
    run_successfully(Command::new("chroot").arg(root).args(install));
}

/// Packs an image with the programs as the tests build them, under [`controller_name`] and with the user and entry
/// point of the image that `deploy/scripts/image.sh` builds. Also packs the shared libraries of the programs.
pub fn pack_programs(archive: &Path) {
    let root = Scratch::new();
    for program in [
        binaries::controller(),
        binaries::kubeseal(),
        binaries::seal(),
        binaries::seal_deliver(),
    ] {
        add_program(root.path(), &program);
    }
    fs::create_dir(root.path().join("tmp")).expect("a writable directory");
    let settings =
        json!({ "User": "1001", "Entrypoint": ["controller"], "Env": ["PATH=/usr/local/bin"] });
    pack(&controller_name(), root.path(), &settings, archive);
}

/// Packs an image with one program and the libraries that it needs.
pub fn pack_program(name: &str, program: &Path, archive: &Path) {
    let root = Scratch::new();
    add_program(root.path(), program);
    let settings = json!({ "User": "1001", "Env": ["PATH=/usr/local/bin"] });
    pack(name, root.path(), &settings, archive);
}

/// Packs an image with one program, the libraries that it needs, and busybox.
pub fn pack_with_shell(name: &str, program: &Path, archive: &Path) {
    let root = Scratch::new();
    add_program(root.path(), program);
    add_busybox(root.path(), &packages::unpacked());
    let settings = json!({ "Env": ["PATH=/usr/local/bin:/bin"] });
    pack(name, root.path(), &settings, archive);
}

fn add_program(root: &Path, program: &Path) {
    let name = program.file_name().expect("a program");
    copy_into(root, program, &Path::new("/usr/local/bin").join(name));
    for library in libraries(program) {
        copy_into(root, &library, &library);
    }
}

/// Returns the name of the image of the controller in this repository's manifests.
pub fn controller_name() -> String {
    format!(
        "docker.io/library/sealed-secrets-controller:{}",
        env!("CARGO_PKG_VERSION")
    )
}

/// Returns the paths of the shared libraries of a program, and of their loader.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let printed = run_successfully(Command::new("ldd").arg(program));
    let words = printed.split_whitespace();
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

fn copy_into(root: &Path, file: &Path, path: &Path) {
    let target = root.join(path.strip_prefix("/").expect("an absolute path"));
    fs::create_dir_all(target.parent().expect("a file")).expect("a writable directory");
    fs::copy(file, target).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Packs an image with one layer: the files below `root`, with user and group 0. `settings` is the object `config` of
/// the image's configuration.
pub(super) fn pack(name: &str, root: &Path, settings: &Value, archive: &Path) {
    let layout = Layout::new();
    let layer = layout.file("layer.tar");
    tar(root, &layer);
    let layer = layout.add("layer.v1.tar", &fs::read(layer).expect("tar created it"));
    let configuration = layout.add_json(
        "config.v1+json",
        &json!({
            "architecture": architecture(),
            "os": "linux",
            "config": settings,
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        }),
    );
    let mut manifest = layout.add_json(
        "manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": configuration,
            "layers": [layer],
        }),
    );
    manifest["annotations"] = json!({ "io.containerd.image.name": name });
    layout.finish(&manifest, archive);
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn tar(directory: &Path, archive: &Path) {
    run_successfully(
        Command::new("tar")
            .args(["--owner=0", "--group=0", "--numeric-owner", "-cf"])
            .arg(archive)
            .arg("-C")
            .arg(directory)
            .arg("."),
    );
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A directory that becomes an OCI layout.
struct Layout(Scratch);

impl Layout {
    fn new() -> Self {
        let layout = Self(Scratch::new());
        fs::create_dir_all(layout.file("blobs/sha256")).expect("a writable directory");
        layout
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Adds a blob; returns its descriptor.
    fn add(&self, kind: &str, content: &[u8]) -> Value {
        let digest = hex(&Sha256::digest(content));
        fs::write(self.file("blobs/sha256").join(&digest), content).expect("a writable directory");
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{digest}"),
            "size": content.len(),
        })
    }

    fn add_json(&self, kind: &str, content: &Value) -> Value {
        self.add(kind, content.to_string().as_bytes())
    }

    fn finish(&self, manifest: &Value, archive: &Path) {
        let _ = fs::remove_file(self.file("layer.tar"));
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(self.file("index.json"), index.to_string()).expect("a writable directory");
        fs::write(self.file("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("a writable directory");
        tar(self.0.path(), archive);
    }
}
