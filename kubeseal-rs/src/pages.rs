//! Generates shell completions and manual pages from command-line definitions.

use std::io::Write as _;

use clap::builder::Str;
use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;

/// The shells that [`completions`] supports.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

/// Returns a completion script of a program; empty for a shell that `clap_complete` does not support.
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
    let script = offer_commands_before_files(&String::from_utf8_lossy(&script), &name);
    omit_own_options_after_commands(&script, &name).into_bytes()
}

/// Escapes each colon in value names. `clap_complete` does not escape those of options, and zsh executes the text after
/// a colon.
fn with_escaped_value_names(command: Command) -> Command {
    command
        .mut_args(|arg| match escaped_value_names(&arg) {
            Some(names) => arg.value_names(names),
            None => arg,
        })
        .mut_subcommands(with_escaped_value_names)
}

/// Returns the value names with escaped colons; `None` if no name contains a colon. The names are leaked, since clap
/// requires static strings; a run generates one script.
fn escaped_value_names(arg: &Arg) -> Option<Vec<&'static str>> {
    let names = arg.get_value_names()?;
    if !names.iter().any(|name| name.contains(':')) {
        return None;
    }
    let escape = |name: &Str| -> &'static str { name.replace(':', "\\:").leak() };
    Some(names.iter().map(escape).collect())
}

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

/// The arguments that [`omit_own_options_after_commands`] adds.
const OWN_OPTIONS: &str = "\"${own_options[@]}\" ";

/// Changes a script for zsh so that it offers no options of the program after a command: their values replaced those of
/// an option of the command with the same name. After a file, they are still offered.
fn omit_own_options_after_commands(script: &str, name: &str) -> String {
    let call = "    _arguments \"${_arguments_options[@]}\" ";
    let Some((before, after)) = script.split_once(call) else {
        return script.to_owned();
    };
    let is_command = format!("(( $+functions[_{name}__subcmd__${{words[2]}}_commands] ))");
    let own_options =
        format!("    local -a own_options\n    {is_command} && own_options=(-A \"-*\")\n");
    [before, &own_options, call, OWN_OPTIONS, after].concat()
}

/// Returns the manual page of a program in roff, for `man -l`. The pages of its visible subcommands follow.
pub fn manual(command: Command) -> Vec<u8> {
    let mut page = Vec::new();
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_page(&command, &mut page);
    page
}

/// Appends the pages of a command and its visible subcommands. Writing to memory does not fail, so errors are ignored.
fn write_page(command: &Command, page: &mut Vec<u8>) {
    let _ = Man::new(command.clone()).render(page);
    for subcommand in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let _ = page.write_all(b"\n");
        write_page(subcommand, page);
    }
}

#[cfg(test)]
mod tests {
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

    /// Returns the specifications of options and positional arguments in a script for zsh, without the quotes around
    /// them.
    fn zsh_specifications(script: &str) -> Vec<&str> {
        let calls = script.split("_arguments \"${_arguments_options[@]}\" ");
        let calls = calls.map(|call| call.strip_prefix(OWN_OPTIONS).unwrap_or(call));
        let calls = calls.skip(1).filter_map(|call| call.strip_prefix(": \\\n"));
        let calls = calls.map(|call| call.split("&& ret=0").next());
        let specifications = calls.flatten().flat_map(|call| call.split(" \\\n"));
        specifications
            .filter_map(|text| text.strip_prefix('\'')?.strip_suffix('\''))
            .collect()
    }

    /// Splits a specification at unescaped colons, as zsh does, except in the help of an option.
    fn split_as_zsh(specification: &str) -> Vec<String> {
        let (mut parts, mut is_help) = (vec![String::new()], false);
        let mut chars = specification.chars();
        while let Some(c) = chars.next() {
            match c {
                ':' if !is_help => parts.push(String::new()),
                '\\' => parts.last_mut().unwrap().extend(chars.next()),
                '[' | ']' if parts.len() == 1 => is_help = c == '[',
                _ => parts.last_mut().unwrap().push(c),
            }
        }
        parts
    }

    /// Returns whether zsh completes values with this text, rather than executing a part of a value name.
    fn is_zsh_action(text: &str) -> bool {
        let is_list = text.starts_with('(') && text.ends_with(')');
        is_list || ["", " ", "_default", "_files"].contains(&text)
    }

    /// Attack: a part of a value name after a colon is the name of a program, which zsh runs when the user completes
    /// the value.
    #[test]
    fn zsh_executes_no_part_of_a_value_name() {
        let named = |name: &'static str| Arg::new("named").long("named").value_name(name);
        let pair = Arg::new("pair")
            .long("pair")
            .num_args(2)
            .value_names(["A:a", "B:b"]);
        for (why, command) in [
            ("seal", crate::seal_args::program()),
            ("kubeseal", crate::kubeseal_args::definition_with_hints()),
            ("a colon", command().arg(named("UID:GID"))),
            (
                "several colons",
                Command::new("outer").subcommand(command().arg(named("a:b|c:d:"))),
            ),
            ("two names", command().arg(pair)),
        ] {
            let script = String::from_utf8(completions("zsh", command)).unwrap();
            let specifications = zsh_specifications(&script);
            assert!(!specifications.is_empty(), "{why}: {script}");
            for specification in specifications {
                let parts = split_as_zsh(specification);
                // An action follows each description. `::` before the description marks an optional argument.
                let is_optional = parts.get(1).is_some_and(String::is_empty);
                let first_action = 2 + usize::from(is_optional);
                let mut actions = parts.iter().skip(first_action).step_by(2);
                assert!(
                    actions.all(|action| is_zsh_action(action)),
                    "{why}: {specification}"
                );
            }
        }
    }

    #[test]
    fn zsh_omits_options_of_the_program_after_a_command() {
        let script = String::from_utf8(completions("zsh", command())).unwrap();
        assert_eq!(script.matches(OWN_OPTIONS).count(), 1, "{script}");
        // The condition needs the names that `clap_complete` gives the functions.
        assert!(
            script.contains("\n_demo__subcmd__inner_commands() {"),
            "{script}"
        );
    }

    #[test]
    fn the_manual_contains_the_help() {
        let page = String::from_utf8(manual(command())).unwrap();
        assert!(page.contains("shown") && page.contains("inner"), "{page}");
        assert!(!page.contains("secret"), "{page}");
    }
}
