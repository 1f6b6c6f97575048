//! Builds Go programs: once for each version of their sources, outside the source tree.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cache;
use crate::progress::print_progress;

/// A linker value: the full name of a string variable and its value (`-X name=value`).
pub type Stamp<'a> = (&'a str, &'a str);

/// Builds the program `package` in the module `source_dir` under the name `output_name`; returns its path.
///
/// Reuses the program in the cache directory if these exact sources were built with this version of Go;
/// otherwise builds it, with progress on stderr. Parallel test processes build it only once.
///
/// # Panics
/// Panics with a message for the user if Go is missing or the build fails.
pub fn build(source_dir: &Path, package: &str, output_name: &str) -> PathBuf {
    build_stamped(source_dir, package, output_name, &[])
}

/// Like [`build`], with string variables set by the linker, such as the version that a program reports.
pub fn build_stamped(
    source_dir: &Path,
    package: &str,
    output_name: &str,
    stamps: &[Stamp],
) -> PathBuf {
    build_in(
        &cache::directory(),
        source_dir,
        output_name,
        "build",
        &arguments(package, stamps),
    )
}

/// Like [`build`], but builds the tests of a package with the build tag `tag`. The package may be a dependency of the
/// module.
///
/// # Panics
/// Panics like [`build`].
pub fn build_tests(source_dir: &Path, package: &str, tag: &str, output_name: &str) -> PathBuf {
    let mut arguments = arguments(package, &[]);
    arguments.insert(0, "-c".to_owned());
    arguments.insert(1, format!("-tags={tag}"));
    build_in(
        &cache::directory(),
        source_dir,
        output_name,
        "test",
        &arguments,
    )
}

/// Returns the directory with the sources of `module`, in the version that the module `source_dir` requires.
///
/// # Panics
/// Panics if Go is missing, or neither the network nor Go's module cache has the module.
pub fn module_directory(source_dir: &Path, module: &str) -> PathBuf {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Module {
        dir: PathBuf,
    }
    let output = go(source_dir)
        .args(["mod", "download", "-json", module])
        .output()
        .unwrap_or_else(|error| panic_without_go(&error));
    let module: Result<Module, _> = serde_json::from_slice(&output.stdout);
    let failure = || String::from_utf8_lossy(&output.stdout).into_owned();
    module
        .unwrap_or_else(|_| panic!("Go cannot download a module: {}", failure()))
        .dir
}

fn build_in(
    cache: &Path,
    source_dir: &Path,
    output_name: &str,
    verb: &str,
    arguments: &[String],
) -> PathBuf {
    let hash = content_hash(source_dir, arguments);
    let program = cache
        .join(format!("{output_name}-{hash}"))
        .join(output_name);
    let lock = cache.join(format!("{output_name}.lock"));
    let _lock = cache::lock(&lock, || {
        print_progress(&format!(
            "another process is building {output_name}: waiting"
        ));
    });
    if !program.exists() {
        compile(source_dir, verb, arguments, &program);
    }
    program
}

fn arguments(package: &str, stamps: &[Stamp]) -> Vec<String> {
    let stamps: Vec<_> = stamps
        .iter()
        .map(|(name, value)| format!(" -X {name}={value}"))
        .collect();
    let linker = format!("-ldflags=-s -w{}", stamps.concat());
    vec![
        "-trimpath".to_owned(),
        "-buildvcs=false".to_owned(),
        linker,
        package.to_owned(),
    ]
}

/// Hashes the inputs of the build: sources, arguments, and Go's version, platform and flags.
fn content_hash(source_dir: &Path, arguments: &[String]) -> String {
    let go = go(source_dir)
        .args(["env", "GOVERSION", "GOOS", "GOARCH", "GOFLAGS"])
        .output();
    let mut key = cache::Key::default();
    key.add(&go.unwrap_or_else(|error| panic_without_go(&error)).stdout);
    for argument in arguments {
        key.add(argument.as_bytes());
    }
    for file in files(source_dir) {
        let name = file.strip_prefix(source_dir).unwrap();
        key.add(name.as_os_str().as_encoded_bytes());
        key.add(&fs::read(&file).unwrap());
    }
    key.text()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Returns a command for Go in `source_dir`, without cgo, so that the build needs no C compiler and the program no C
/// library.
fn go(source_dir: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .current_dir(source_dir)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null());
    command
}

fn panic_without_go(error: &io::Error) -> ! {
    panic!(
        "cannot start the program `go`, with which the tests build programs ({error}); install Go 1.26 or newer \
         (https://go.dev/dl) and check that `go version` works"
    )
}

/// Builds in a separate directory and renames the result, so that an interrupted build leaves no partial program. An
/// interrupted build leaves temporary files only in that directory, which the next build of the same sources clears.
fn compile(source_dir: &Path, verb: &str, arguments: &[String], program: &Path) {
    let name = program.file_name().unwrap().display();
    let scratch = program.with_file_name("unfinished");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).unwrap();
    print_progress(&format!(
        "building {name}; the first time takes minutes, later runs reuse {}",
        program.display()
    ));
    let start = Instant::now();
    let mut child = go(source_dir)
        .args([verb, "-v", "-o"])
        .arg(scratch.join("program"))
        .args(arguments)
        .env("GOTMPDIR", &scratch)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic_without_go(&error));
    let last_lines = follow(
        BufReader::new(child.stderr.take().unwrap()),
        &name.to_string(),
        start,
    );
    let status = child.wait().unwrap();
    assert!(
        status.success(),
        "cannot build {name} ({status}):\n{}",
        last_lines.join("\n")
    );
    fs::rename(scratch.join("program"), program).unwrap();
    let _ = fs::remove_dir_all(&scratch);
    print_progress(&format!("built {name} in {} s", start.elapsed().as_secs()));
}

/// Prints the progress at most every 15 seconds; returns the last lines, for a failure message.
fn follow(output: impl BufRead, name: &str, start: Instant) -> Vec<String> {
    const INTERVAL: Duration = Duration::from_secs(15);
    const MAX_LINES: usize = 40;
    let mut next = start + INTERVAL;
    let mut last_lines = Vec::new();
    for (count, line) in output.lines().map_while(Result::ok).enumerate() {
        if Instant::now() >= next {
            print_progress(&format!(
                "building {name}: {count} packages after {} s, now {line}",
                start.elapsed().as_secs()
            ));
            next = Instant::now() + INTERVAL;
        }
        last_lines.push(line);
        if last_lines.len() > MAX_LINES {
            last_lines.remove(0);
        }
    }
    last_lines
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::scratch::Scratch;

    const SOURCE: &str = "package main\n\nvar word = \"unset\"\n\nfunc main() { print(word) }\n";

    /// Creates a cache and a Go program that prints a word.
    fn test_program(source: &str) -> (Scratch, PathBuf, PathBuf) {
        let scratch = Scratch::new();
        let (cache, sources) = (scratch.path().join("cache"), scratch.path().join("sources"));
        fs::create_dir(&cache).unwrap();
        fs::create_dir(&sources).unwrap();
        fs::write(sources.join("go.mod"), "module word\n\ngo 1.26\n").unwrap();
        fs::write(sources.join("main.go"), source).unwrap();
        (scratch, cache, sources)
    }

    /// Returns the output of a program. Go's `print` writes to stderr.
    fn output_of(program: &Path) -> String {
        String::from_utf8(Command::new(program).output().unwrap().stderr).unwrap()
    }

    #[test]
    fn rebuilds_if_arguments_or_sources_changed_and_only_then() {
        let (_scratch, cache, sources) = test_program(SOURCE);
        let build = |word| {
            build_in(
                &cache,
                &sources,
                "word",
                "build",
                &arguments(".", &[("main.word", word)]),
            )
        };
        let time_of = |program: &Path| fs::metadata(program).unwrap().modified().unwrap();

        let first = build("first");
        let time = time_of(&first);
        assert_eq!(output_of(&first), "first");
        assert_eq!(
            (build("first"), time_of(&first)),
            (first.clone(), time),
            "nothing changed"
        );
        assert_eq!(output_of(&build("second")), "second", "an argument changed");
        fs::write(
            sources.join("other.go"),
            "package main\n\nfunc init() { print(\"other \") }\n",
        )
        .unwrap();
        assert_eq!(
            output_of(&build("first")),
            "other first",
            "a source was added"
        );
        assert_eq!(output_of(&first), "first", "earlier builds stay");
    }

    #[test]
    fn builds_once_for_concurrent_callers() {
        let (_scratch, cache, sources) = test_program(SOURCE);
        let barrier = Barrier::new(3);
        let build = || {
            barrier.wait();
            let program = build_in(&cache, &sources, "word", "build", &arguments(".", &[]));
            fs::metadata(program).unwrap().modified().unwrap()
        };
        let times = thread::scope(|scope| {
            let builders: Vec<_> = (0..3).map(|_| scope.spawn(build)).collect();
            builders
                .into_iter()
                .map(|builder| builder.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(
            times.iter().all(|time| *time == times[0]),
            "all callers get the same file: {times:?}"
        );
    }

    #[test]
    #[should_panic(expected = "undefined: nothing")]
    fn fails_with_the_message_of_the_compiler() {
        let (_scratch, cache, sources) =
            test_program("package main\n\nfunc main() { nothing() }\n");
        build_in(&cache, &sources, "word", "build", &arguments(".", &[]));
    }
}
