//! Generates shell completions and manual pages from command-line definitions.

use std::io::Write as _;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The shells that [`completions`] supports.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

/// Returns a completion script of a program for one of [`SHELLS`]; empty for another shell.
pub fn completions(shell: &str, mut command: Command) -> Vec<u8> {
    let mut script = Vec::new();
    let Ok(shell) = shell.parse::<Shell>() else {
        return script;
    };
    if shell == Shell::Zsh {
        command = with_escaped_value_names(command);
    }
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, &name, &mut script);
    if shell != Shell::Zsh {
        return script;
    }
    offer_commands_before_files(&String::from_utf8_lossy(&script), &name).into_bytes()
}

/// Escapes the colon in the value name of fingerprints. `clap_complete` does not escape it, and zsh executes the text
/// after a colon.
fn with_escaped_value_names(command: Command) -> Command {
    let escape = |arg: clap::Arg| match arg.get_value_names() {
        Some([name]) if name.as_str() == FINGERPRINT => arg.value_name("SHA256\\:…"),
        _ => arg,
    };
    command
        .mut_args(escape)
        .mut_subcommands(with_escaped_value_names)
}

/// The value name of fingerprints.
const FINGERPRINT: &str = "SHA256:…";

/// Changes a script for zsh so that the first word is a command or a file. `clap_complete` treats the first word as the
/// optional file, and offers commands only for the second word.
fn offer_commands_before_files(script: &str, name: &str) -> String {
    let commands = format!("\":: :_{name}_commands\" \\\n");
    let Some((before, after)) = script.split_once(&commands) else {
        return script.to_owned();
    };
    let start = before.trim_end_matches('\n').rfind('\n').unwrap_or(0) + 1;
    let (before, last_line) = before.split_at(start);
    if !last_line.starts_with("'::") {
        return script.to_owned();
    }
    let after = after.replace("$line[2]", "$line[1]");
    format!("{before}\":: :{{_{name}_commands; _files}}\" \\\n{after}")
}

/// Returns the manual page of a program in roff, for `man -l`. Pages of subcommands follow, one
/// below the other.
pub fn manual(command: Command) -> Vec<u8> {
    let mut page = Vec::new();
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_page(&command, &mut page);
    page
}

/// Appends a page. Writing to memory does not fail, so errors are ignored.
fn write_page(command: &Command, page: &mut Vec<u8>) {
    let _ = Man::new(command.clone()).render(page);
    for subcommand in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let _ = page.write_all(b"\n");
        write_page(subcommand, page);
    }
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn command() -> Command {
        Command::new("demo")
            .arg(Arg::new("shown").long("shown").help("Is shown."))
            .arg(Arg::new("secret").long("secret").hide(true))
            .subcommand(Command::new("inner").about("Does something."))
    }

    #[test]
    fn the_completion_script_of_every_shell_contains_the_flags() {
        for shell in SHELLS {
            let script = String::from_utf8(completions(shell, command())).unwrap();
            assert!(script.contains("shown"), "{shell}: {script}");
            assert!(script.contains("inner"), "{shell}: {script}");
        }
        assert!(completions("cmd.exe", command()).is_empty());
    }

    #[test]
    fn the_manual_contains_the_help() {
        let page = String::from_utf8(manual(command())).unwrap();
        assert!(page.contains("shown") && page.contains("inner"), "{page}");
        assert!(!page.contains("secret"), "{page}");
    }
}
