//! Checks every message of `seal` that names a flag: the command that prints it must have the flag, and so must a
//! command that the message names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use regex::Regex;

use crate::seal_args;

/// Flags of another program or command: the file with the message, the flag, and the program or command that has it.
const FLAGS_OF_OTHER_PROGRAMS: [(&str, &str, &str); 18] = [
    // The part of `--require-v2` that the pattern for flags matches.
    ("binding", "--require-v", "the controller"),
    ("keys/rotate", "--sealing-suite", "the controller"),
    ("lint/v2", "--require-v", "the controller"),
    ("keys/v2", "--sealing-suite", "the controller"),
    (
        "keys/mod",
        "--to",
        "`seal rotate`; the text contains only its arguments",
    ),
    ("size", "--server-side", "`kubectl apply`"),
    ("keys/retire", "--to", "`seal rotate`"),
    ("keys/export", "--require-backup", "the controller"),
    ("keys/export", "--sealing-suite", "the controller"),
    ("doctor/object", "--additional-namespaces", "the controller"),
    ("doctor/object", "--label-selector", "the controller"),
    ("doctor/controller", "--cert", "the sealing commands"),
    ("keys/rotate", "--require-backup", "the controller"),
    (
        "keys/mod",
        "--key",
        "`seal rotate`; the text contains only its arguments",
    ),
    (
        "keys/mod",
        "--replace",
        "`seal cert fetch`; the text contains only its arguments",
    ),
    ("edit/editor", "--wait", "an editor"),
    ("import/mod", "--extract", "sops"),
    ("hook/mod", "--no-verify", "`git commit`"),
];

fn is_flag_of_another_program(file: &str, flag: &str) -> bool {
    flag == "--help"
        || FLAGS_OF_OTHER_PROGRAMS
            .iter()
            .any(|(path, name, _)| (*path, *name) == (file, flag))
}

fn collect_sources(directory: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_sources(&path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            sources.push(path);
        }
    }
}

/// Returns the flags of a command and of all its subcommands.
fn flags(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_long());
    let mut names: BTreeSet<String> = own.map(|name| format!("--{name}")).collect();
    names.extend(command.get_subcommands().flat_map(flags));
    names
}

/// Returns the command that arguments such as `keys rotate` name. Stops at the first argument that names none.
fn find_command<'a>(program: &'a Command, args: &str) -> &'a Command {
    let mut command = program;
    for word in args.split_whitespace() {
        match command.find_subcommand(word) {
            Some(below) => command = below,
            None => break,
        }
    }
    command
}

/// Returns the string literals of the code, without those of its tests and comments.
fn literals(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n").replace("'\"'", "' '");
    let literal = Regex::new(r#"(?s)"((?:\\.|[^"\\])*)""#).unwrap();
    let continuation = Regex::new(r"\\\n\s*").unwrap();
    let text =
        |captures: regex::Captures<'_>| continuation.replace_all(&captures[1], "").into_owned();
    literal.captures_iter(&code).map(text).collect()
}

#[test]
fn a_message_names_only_flags_that_its_command_has() {
    let roots = ["src/seal", "../shared/roles/src"];
    let roots = roots.map(|root| Path::new(env!("CARGO_MANIFEST_DIR")).join(root));
    let mut files = Vec::new();
    for root in &roots {
        collect_sources(root, &mut files);
    }
    let program = seal_args::program();
    let flag = Regex::new(r"--[a-z][a-z-]+").unwrap();
    let quoted = Regex::new(r"`([^`]*)`").unwrap();
    let (mut checked, mut wrong) = (0, Vec::new());
    for file in files {
        let mut relative = roots.iter().filter_map(|root| file.strip_prefix(root).ok());
        let relative = relative.next().unwrap().with_extension("");
        let name = relative.iter().next().unwrap().to_str().unwrap().to_owned();
        let shown = relative.to_str().unwrap();
        if ["hook/drivers", "hook/pre_commit"].contains(&shown) {
            // The literals of these files are commands of Git's configuration and scripts.
            continue;
        }
        // A file that is not a command serves several commands, and any of them may have the flag.
        let own = program
            .find_subcommand(&name)
            .map_or_else(|| flags(&program), flags);
        for text in literals(&fs::read_to_string(&file).unwrap()) {
            let is_argument = text.starts_with("--") && !text.contains(' ');
            for args in quoted.captures_iter(&text) {
                let Some(args) = args[1].strip_prefix("seal ") else {
                    continue;
                };
                let existing = flags(find_command(&program, args));
                let used_flags = flag.find_iter(args).map(|matched| matched.as_str());
                let unknown = used_flags.filter(|flag| {
                    !existing.contains(*flag) && !is_flag_of_another_program(shown, flag)
                });
                wrong.extend(unknown.map(|flag| format!("{shown}: {flag}: {text}")));
            }
            for name in flag
                .find_iter(&quoted.replace_all(&text, ""))
                .map(|matched| matched.as_str())
            {
                checked += 1;
                if !is_argument && !own.contains(name) && !is_flag_of_another_program(shown, name) {
                    wrong.push(format!("{shown}: {name}: {text}"));
                }
            }
        }
    }
    assert!(checked > 30, "{checked}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
