//! Hints for a word that is not a command of `seal`: a mistyped one, or a command of a similar program. Hints for flags
//! of `kubeseal`.

use super::program;

/// Words and flags that users of sops, kubeseal, age, git-crypt, Git and kubectl know, and what `seal` has instead.
struct Known {
    words: &'static [&'static str],
    /// Names commands in backquotes. FILE, PATH, NAME and KEY stand for arguments.
    hint: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        words: &[
            "decrypt", "dec", "unseal", "unlock", "reveal", "show", "cat", "print",
        ],
        hint: "`seal view --reveal FILE` shows all values, `seal get FILE KEY` prints one, `seal edit FILE` opens an editor",
    },
    Known {
        words: &["encrypt", "enc", "seal", "lock"],
        hint: "`seal FILE` writes a sealed file next to FILE, `seal -i FILE` replaces FILE",
    },
    Known {
        words: &[
            "updatekeys",
            "update-keys",
            "reencrypt",
            "re-encrypt",
            "rekey",
            "re-key",
            "reseal",
            "re-seal",
            "--re-encrypt",
        ],
        hint: "`seal rotate PATH` re-encrypts files for the newest key",
    },
    Known {
        words: &["keygen", "generate-key", "new-key", "renew"],
        hint: "`seal keys rotate` requests a new key from the controller, `seal rotate PATH` re-encrypts files for it",
    },
    Known {
        words: &["ls", "list"],
        hint: "`seal view PATH` shows sealed files, `seal keys list` shows keys",
    },
    Known {
        words: &["status", "st"],
        hint: "`seal diff` shows which sealed items changed, `seal keys status PATH` shows which keys files need",
    },
    Known {
        words: &["init", "setup", "install"],
        hint: "no setup is needed to seal a file: `seal FILE`; `seal hook install` installs a Git pre-commit hook",
    },
    Known {
        words: &["apply", "deploy", "push", "publish"],
        hint: "apply sealed files with `kubectl apply -f FILE`, or through Git; `seal lint PATH` checks them before",
    },
    Known {
        words: &["fetch-cert", "fetchcert", "certificate", "--fetch-cert"],
        hint: "`seal cert fetch -o cert.pem` writes the certificate of the controller",
    },
    Known {
        words: &["validate", "verify", "check", "test", "--validate"],
        hint: "`seal lint PATH` checks files without a cluster, `seal doctor FILE` explains why a value cannot be unsealed",
    },
    Known {
        words: &["backup", "export"],
        hint: "`seal keys backup FILE` writes all keys to an encrypted archive",
    },
    Known {
        words: &["restore", "recover"],
        hint: "`seal keys restore FILE` restores keys from a backup",
    },
    Known {
        words: &["add", "new", "put", "insert"],
        hint: "`seal create NAME` creates a SealedSecret, `seal set FILE KEY` sets one item of a file",
    },
    Known {
        words: &["rm", "remove", "delete", "del"],
        hint: "`seal unset FILE KEY` removes an item of a file",
    },
    Known {
        words: &["run", "env", "exec-env", "exec-file"],
        hint: "`seal exec FILE -- COMMAND` runs a command with values in its environment",
    },
    Known {
        words: &["--recovery-unseal", "--recovery-private-key"],
        hint: "`seal view --reveal --key FILE PATH` shows all values, decrypted with a private key",
    },
    Known {
        words: &["--merge-into", "--raw"],
        hint: "`seal set FILE KEY` sets one item of a file, and seals no other item again",
    },
    Known {
        words: &["version"],
        hint: "`seal --version` prints the version",
    },
];

/// The similarity above which a word counts as a mistyped command: one changed letter in three.
const SIMILAR: f64 = 0.6;

/// Returns a hint for a word in the place of a command; `None` if the word is a command, or resembles none.
pub fn hint(word: &str) -> Option<String> {
    if word.starts_with('-') || commands().any(|command| command == word) {
        return None;
    }
    known(word).or_else(|| similar(word))
}

/// Returns a hint for a flag that a command does not have; `None` if it is no flag of `kubeseal`.
pub(super) fn flag_hint(flag: &str) -> Option<String> {
    flag.starts_with("--").then(|| known(flag)).flatten()
}

fn known(word: &str) -> Option<String> {
    let known = KNOWN.iter().find(|known| known.words.contains(&word));
    known.map(|known| known.hint.to_owned())
}

fn similar(word: &str) -> Option<String> {
    let scored = commands().map(|command| {
        let likeness = strsim::normalized_damerau_levenshtein(word, &command);
        (likeness, command)
    });
    let (likeness, command) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness >= SIMILAR).then(|| format!("did you mean `seal {command}`?"))
}

/// Returns the names of the commands that the help lists.
fn commands() -> impl Iterator<Item = String> {
    let program = program();
    let visible = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let names = visible.map(|command| command.get_name().to_owned());
    let names: Vec<String> = names.chain(["help".to_owned()]).collect();
    names.into_iter()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use flags::Stop;

    use super::*;
    use crate::seal_args::{Command, parse};

    #[test]
    fn every_hint_names_only_command_lines_that_exist() {
        let quoted = regex::Regex::new("`(seal [^`]*)`").unwrap();
        for known in KNOWN {
            let lines: Vec<_> = quoted.captures_iter(known.hint).collect();
            assert!(!lines.is_empty(), "{}", known.hint);
            for line in lines {
                let args: Vec<&str> = line[1].split(' ').collect();
                let parsed = parse(args.iter().map(OsString::from));
                match &parsed {
                    Ok(Command::Files(_)) => assert!(["FILE", "-i"].contains(&args[1]), "{args:?}"),
                    Ok(_) | Err(Stop::Help(_)) => {}
                    Err(stop) => panic!("{args:?}: {stop:?}"),
                }
            }
        }
    }

    #[test]
    fn no_known_word_is_a_command_or_occurs_twice() {
        let mut words: Vec<&str> = KNOWN
            .iter()
            .flat_map(|known| known.words)
            .copied()
            .collect();
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "{words:?}");
        assert!(!commands().any(|command| words.contains(&command.as_str())));
    }

    #[test]
    fn suggests_the_command_that_a_mistyped_word_resembles() {
        for (word, want) in [
            ("veiw", Some("`seal view`")),
            ("rotat", Some("`seal rotate`")),
            ("crate", Some("`seal create`")),
            ("key", Some("`seal keys`")),
            ("decrypt", Some("`seal view --reveal FILE`")),
            ("updatekeys", Some("`seal rotate PATH`")),
            ("view", None),
            ("help", None),
            ("secret.yaml", None),
            ("db", None),
            ("--cert", None),
            ("", None),
        ] {
            let hint = hint(word);
            let is_expected = match (&hint, want) {
                (Some(hint), Some(want)) => hint.contains(want),
                (hint, want) => hint.is_none() && want.is_none(),
            };
            assert!(is_expected, "{word}: {hint:?}");
        }
    }

    #[test]
    fn a_hint_follows_the_error_about_a_flag_of_an_unknown_command() {
        let text = |args: &[&str]| match parse(args.iter().map(OsString::from)) {
            Err(Stop::Usage(text)) => text,
            other => panic!("{other:?}"),
        };
        let hint = "\nhint: `seal view --reveal FILE`";
        assert!(text(&["seal", "decrypt", "--key", "key.pem", "db.yaml"]).contains(hint));
        assert!(!text(&["seal", "view", "--nonsense"]).contains("hint: "));
        assert!(!text(&["seal", "-i", "--stdout"]).contains("hint: "));
    }

    #[test]
    fn flags_of_kubeseal_have_hints_and_no_flag_that_removes_data_is_suggested() {
        let text = |args: &[&str]| match parse(args.iter().map(OsString::from)) {
            Err(Stop::Usage(text)) => text,
            other => panic!("{other:?}"),
        };
        for (flag, want) in [
            ("--recovery-unseal", "`seal view --reveal --key FILE PATH`"),
            ("--fetch-cert", "`seal cert fetch "),
            ("--re-encrypt", "`seal rotate PATH`"),
            ("--validate", "`seal lint PATH`"),
            ("--merge-into", "`seal set FILE KEY`"),
            ("--raw", "`seal set FILE KEY`"),
        ] {
            let text = text(&["seal", flag, "secret.yaml"]);
            assert!(text.contains(&format!("\nhint: {want}")), "{text}");
            assert!(!text.contains("a similar argument"), "{text}");
        }
        for args in [
            &["seal", "--remove-plan", "a.yaml"][..],
            &["seal", "get", "a.yaml", "a", "--forc"],
            &["seal", "inventory", "--replac"],
            &["seal", "--forc", "get", "a.yaml", "a"],
        ] {
            let text = text(args);
            let named = ["--remove-plain", "--force", "--replace"];
            assert!(!named.iter().any(|flag| text.contains(flag)), "{text}");
        }
        assert!(
            text(&["seal", "--stdot", "a.yaml"]).contains("a similar argument exists: '--stdout'")
        );
    }
}
