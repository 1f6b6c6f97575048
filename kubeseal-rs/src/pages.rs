//! Generates shell completions and manual pages from the definitions of the command line.

use std::io::Write as _;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The shells that [`completions`] supports.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

/// Returns a completion script of a program for one of [`SHELLS`]; empty for another shell.
pub fn completions(shell: &str, mut command: Command) -> Vec<u8> {
    let mut script = Vec::new();
    if let Ok(shell) = shell.parse::<Shell>() {
        let name = command.get_name().to_owned();
        clap_complete::generate(shell, &mut command, name, &mut script);
    }
    script
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
