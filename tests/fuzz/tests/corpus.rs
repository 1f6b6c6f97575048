//! Replays every seed and every past finding.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

fn corpus_files(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| {
        panic!(
            "{}: {e}; each target needs a directory of seeds",
            directory.display()
        )
    });
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_target_survives_its_corpus() {
    for (name, run) in fuzz::TARGETS {
        let files = corpus_files(name);
        assert!(!files.is_empty(), "{name} has no seeds");
        for file in files {
            println!("{}", file.display());
            run(&std::fs::read(&file).unwrap());
        }
    }
}
