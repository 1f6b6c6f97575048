//! Assigns items to environment variables, using only their names.
//!
//! Anyone with the certificate can seal an item of any name, so the user of the command decides:
//! either `--only` names the items, or `--all` selects all of them. A variable that is already set is replaced
//! only if `--override` names it.

use std::str::FromStr;

use hardening::memory;

use crate::process;

/// An item that the user named: `ITEM` or `VARIABLE=ITEM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemChoice {
    /// The variable to set; derived from the item if `None`.
    pub variable: Option<String>,
    /// The item key.
    pub item: String,
}

/// An argument of `--only` that does not name an item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected ITEM or VARIABLE=ITEM")]
pub struct MalformedChoice;

impl FromStr for ItemChoice {
    type Err = MalformedChoice;

    fn from_str(text: &str) -> Result<Self, MalformedChoice> {
        let (variable, item) = match text.split_once('=') {
            Some((variable, item)) => (Some(variable.to_owned()), item.to_owned()),
            None => (None, text.to_owned()),
        };
        if item.is_empty() || variable.as_deref() == Some("") {
            return Err(MalformedChoice);
        }
        Ok(Self { variable, item })
    }
}

/// The options that select variables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    /// The named items; empty selects all.
    pub(super) only: &'a [ItemChoice],
    /// Variables that an item may replace.
    pub(super) overrides: &'a [String],
    /// Whether values are passed as files. If so, the default name of a variable ends in `_FILE`.
    pub(super) in_files: bool,
}

/// A variable and the item with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) variable: String,
    pub(super) item: String,
}

/// Why an item cannot become a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum VariableError {
    #[error("no item {item}; existing items: {items}")]
    NoSuchItem { item: String, items: String },
    #[error(
        "the item name {item} is not a valid variable name\nhint: choose a name with --only NAME={item}{}",
        files_hint()
    )]
    NoName { item: String },
    #[error(
        "{name:?} is not a valid variable name: use letters, digits and _, and no digit at the beginning"
    )]
    Malformed { name: String },
    #[error(
        "the items {first} and {second} would both set the variable {variable}\n\
         hint: choose another name with --only NAME={second}"
    )]
    Twice {
        variable: String,
        first: String,
        second: String,
    },
    #[error(
        "the variable {variable} is already set, and the item {item} would replace it\n\
         hint: pass --override {variable} if this is intended, or choose another name with --only NAME={item}"
    )]
    IsSet { variable: String, item: String },
    #[error(
        "--all does not set {variable}: the variable can change which code the command runs or which servers it trusts, \
         and anyone who has the certificate can seal an item {item}\n\
         hint: pass --override {variable} if this is intended, or select the items with --only"
    )]
    ChangesCommand { variable: String, item: String },
}

/// Returns the end of the hint for a name that cannot be a variable.
fn files_hint() -> &'static str {
    if memory::IS_SUPPORTED {
        ", or pass values as files with --files"
    } else {
        ""
    }
}

/// Assigns items to variables. `is_set` returns whether the command would inherit a variable of
/// that name.
pub(super) fn assign<'a>(
    items: impl Iterator<Item = &'a str> + Clone,
    choice: Choice<'_>,
    is_set: impl Fn(&str) -> bool,
) -> Result<Vec<Assignment>, VariableError> {
    let mut assigned = Vec::new();
    for assignment in requested_assignments(items, choice)? {
        check(&assignment, choice, &is_set, &assigned)?;
        assigned.push(assignment);
    }
    Ok(assigned)
}

fn requested_assignments<'a>(
    items: impl Iterator<Item = &'a str> + Clone,
    choice: Choice<'_>,
) -> Result<Vec<Assignment>, VariableError> {
    if choice.only.is_empty() {
        return items
            .map(|item| default_assignment(item, choice.in_files))
            .collect();
    }
    let assign = |chosen: &ItemChoice| {
        if !items.clone().any(|item| item == chosen.item) {
            let item = chosen.item.clone();
            let items = items.clone().collect::<Vec<_>>().join(", ");
            return Err(VariableError::NoSuchItem { item, items });
        }
        match &chosen.variable {
            Some(variable) => Ok(Assignment {
                variable: variable.clone(),
                item: chosen.item.clone(),
            }),
            None => default_assignment(&chosen.item, choice.in_files),
        }
    };
    choice.only.iter().map(assign).collect()
}

fn default_assignment(item: &str, in_files: bool) -> Result<Assignment, VariableError> {
    let variable = if in_files {
        Some(file_variable(item))
    } else {
        is_name(item).then(|| item.to_owned())
    };
    let item = item.to_owned();
    match variable {
        Some(variable) => Ok(Assignment { variable, item }),
        None => Err(VariableError::NoName { item }),
    }
}

fn check(
    new: &Assignment,
    choice: Choice<'_>,
    is_set: impl Fn(&str) -> bool,
    before: &[Assignment],
) -> Result<(), VariableError> {
    let Assignment { variable, item } = new.clone();
    if !is_name(&variable) {
        return Err(VariableError::Malformed { name: variable });
    }
    let is_same = |other: &&Assignment| process::is_same_variable(&other.variable, &variable);
    if let Some(first) = before.iter().find(is_same) {
        let (first, second) = (first.item.clone(), item);
        return Err(VariableError::Twice {
            variable,
            first,
            second,
        });
    }
    let is_named = |name: &String| process::is_same_variable(name, &variable);
    if choice.overrides.iter().any(is_named) {
        return Ok(());
    }
    if choice.only.is_empty() && changes_command(&variable) {
        return Err(VariableError::ChangesCommand { variable, item });
    }
    if is_set(&variable) {
        return Err(VariableError::IsSet { variable, item });
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let is_allowed = |(i, byte): (usize, u8)| {
        byte == b'_' || byte.is_ascii_alphabetic() || i > 0 && byte.is_ascii_digit()
    };
    !text.is_empty() && text.bytes().enumerate().all(is_allowed)
}

/// Returns the variable for the path of an item's file: `tls.key` → `tls_key_FILE`.
fn file_variable(item: &str) -> String {
    let replace_invalid = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    item.chars()
        .map(replace_invalid)
        .chain("_FILE".chars())
        .collect()
}

/// Prefixes of variables that change the behavior of linkers, shells, interpreters, TLS libraries, database clients and
/// common tools. These lists cannot be complete. They only reduce the risk of `--all`: with `--only`, the user chooses
/// the variables.
const DANGEROUS_PREFIXES: [&str; 45] = [
    "AWS_ENDPOINT_URL",
    "BASH_",
    "BUNDLE_",
    "CARGO_ALIAS_",
    "CARGO_BUILD_",
    "CARGO_CREDENTIAL_",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_SOURCE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "CORECLR_",
    "COR_PROFILER",
    "CURL_",
    "DOTNET_",
    "DYLD_",
    "ERL_",
    "FZF_DEFAULT_",
    "GIT_",
    "GLIBC_",
    "GUILE_",
    "HELM_",
    "JAVA_",
    "JDK_",
    "KUBECTL_",
    "LD_",
    "LESS",
    "LIBMYSQL_PLUGIN",
    "LUA_CPATH",
    "LUA_INIT",
    "LUA_PATH",
    "MAGICK_",
    "NODE_",
    "NPM_CONFIG_",
    "PERL",
    "PIP_",
    "PYTHON",
    "RUBY",
    "RUSTC",
    "R_ENVIRON",
    "R_PROFILE",
    "TF_CLI_ARGS",
    "UV_INDEX",
    "XDG_",
    "YARN_",
];
/// Names, in upper case, of variables that change programs like those with [`DANGEROUS_PREFIXES`].
const DANGEROUS_NAMES: [&str; 139] = [
    "ALL_PROXY",
    "ANSIBLE_CONFIG",
    "ANSIBLE_LIBRARY",
    "ANT_ARGS",
    "ANT_OPTS",
    "AWKLIBPATH",
    "AWKPATH",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AZURE_CONFIG_DIR",
    "BASHOPTS",
    "BROWSER",
    "BUN_OPTIONS",
    "CAMLRUNPARAM",
    "CAML_LD_LIBRARY_PATH",
    "CARGO_HOME",
    "CDPATH",
    "CLASSPATH",
    "CLOUDSDK_CONFIG",
    "COMSPEC",
    "COR_ENABLE_PROFILING",
    "CVS_RSH",
    "DOCKER_CONFIG",
    "DOCKER_HOST",
    "EDITOR",
    "ELIXIR_ERL_OPTIONS",
    "ENV",
    "EXINIT",
    "FTP_PROXY",
    "GCONV_PATH",
    "GEM_HOME",
    "GEM_PATH",
    "GHCRTS",
    "GNUMAKEFLAGS",
    "GOFLAGS",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOPATH",
    "GOPROXY",
    "GOROOT",
    "GRADLE_OPTS",
    "GRADLE_USER_HOME",
    "GROOVY_OPTS",
    "GS_LIB",
    "GS_OPTIONS",
    "GTK_MODULES",
    "GUNICORN_CMD_ARGS",
    "HOME",
    "HOSTALIASES",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IFS",
    "JRUBY_OPTS",
    "JULIA_DEPOT_PATH",
    "JULIA_LOAD_PATH",
    "JULIA_PROJECT",
    "KRB5_CONFIG",
    "KRB5_KDC_PROFILE",
    "KUBECONFIG",
    "KUBERC",
    "KUBE_EDITOR",
    "LDAPCONF",
    "LDAPRC",
    "LDAPTLS_CACERT",
    "LOCPATH",
    "MAKEFILES",
    "MAKEFLAGS",
    "MANPAGER",
    "MAVEN_ARGS",
    "MAVEN_OPTS",
    "MYSQL_HOME",
    "NLSPATH",
    "NO_PROXY",
    "OCAMLRUNPARAM",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "ORACLE_HOME",
    "PAGER",
    "PATH",
    "PATHEXT",
    "PGSERVICEFILE",
    "PGSSLROOTCERT",
    "PGSYSCONFDIR",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PS1",
    "PS4",
    "PSQLRC",
    "PSQL_EDITOR",
    "PSQL_HISTORY",
    "PYTEST_ADDOPTS",
    "PYTEST_PLUGINS",
    "QT_PLUGIN_PATH",
    "REQUESTS_CA_BUNDLE",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "RSYNC_CONNECT_PROG",
    "RSYNC_RSH",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "R_HOME",
    "R_LIBS",
    "R_LIBS_SITE",
    "R_LIBS_USER",
    "SBT_OPTS",
    "SHELL",
    "SHELLOPTS",
    "SOPS_AGE_KEY_CMD",
    "SOPS_EDITOR",
    "SQLITE_HISTORY",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
    "SSLKEYLOGFILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SUDO_ASKPASS",
    "SUDO_EDITOR",
    "SVN_SSH",
    "TAR_OPTIONS",
    "TCLLIBPATH",
    "TERMCAP",
    "TERMINFO",
    "TERMINFO_DIRS",
    "TF_CLI_CONFIG_FILE",
    "TMPDIR",
    "TNS_ADMIN",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "VAULT_ADDR",
    "VAULT_CACERT",
    "VAULT_CAPATH",
    "VAULT_SKIP_VERIFY",
    "VIMINIT",
    "VISUAL",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
];

/// The first and the last part of names, in upper case, of variables that change programs like those with
/// [`DANGEROUS_PREFIXES`].
const DANGEROUS_PATTERNS: [(&str, &str); 2] = [("", "_PAGER"), ("ANSIBLE_", "_PLUGINS")];

fn changes_command(variable: &str) -> bool {
    // Proxy variables are read in lower case too.
    let upper = variable.to_ascii_uppercase();
    let has_parts =
        |(first, last): &(&str, &str)| upper.starts_with(first) && upper.ends_with(last);
    DANGEROUS_PREFIXES
        .iter()
        .any(|prefix| upper.starts_with(prefix))
        || DANGEROUS_NAMES.contains(&upper.as_str())
        || DANGEROUS_PATTERNS.iter().any(has_parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_choices(args: &[&str]) -> Vec<ItemChoice> {
        args.iter().map(|arg| arg.parse().unwrap()).collect()
    }

    fn assign_pairs(
        items: &[&str],
        only: &[ItemChoice],
        overrides: &[&str],
        in_files: bool,
        set: &[&str],
    ) -> Result<Vec<(String, String)>, VariableError> {
        let overrides: Vec<String> = overrides.iter().map(|name| (*name).to_owned()).collect();
        let choice = Choice {
            only,
            overrides: &overrides,
            in_files,
        };
        let assigned = assign(items.iter().copied(), choice, |name| set.contains(&name))?;
        Ok(assigned
            .into_iter()
            .map(|assignment| (assignment.variable, assignment.item))
            .collect())
    }

    /// Attack: an author gives items the names of variables that decide which code runs.
    ///
    /// Columns: the item, whether `--all` passes it, and whether `--only` does.
    #[test]
    fn only_valid_variable_names_become_variables() {
        for (item, all_accepts, only_accepts) in [
            ("password", true, true),
            ("DB_2", true, true),
            ("DB_PATH", true, true),
            ("2", false, false),
            ("tls.key", false, false),
            ("a-b", false, false),
            ("LD_PRELOAD", false, true),
            ("PATH", false, true),
        ] {
            assert_eq!(
                assign_pairs(&[item], &[], &[], false, &[]).is_ok(),
                all_accepts,
                "{item}"
            );
            let only = parse_choices(&[item]);
            assert_eq!(
                assign_pairs(&[item], &only, &[], false, &[]).is_ok(),
                only_accepts,
                "{item}"
            );
        }
    }

    /// Names that `--all` refuses.
    const REFUSED_NAMES: [&str; 104] = [
        "LD_PRELOAD",
        "DYLD_INSERT_LIBRARIES",
        "PATH",
        "BASH_ENV",
        "PYTHONUSERBASE",
        "PYTHONPATH",
        "PERL5DB",
        "RUBYOPT",
        "NODE_OPTIONS",
        "KUBECONFIG",
        "HOME",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_COUNT",
        "GIT_DIR",
        "HTTPS_PROXY",
        "https_proxy",
        "SSL_CERT_FILE",
        "JAVA_TOOL_OPTIONS",
        "GOFLAGS",
        "XDG_CONFIG_HOME",
        "SHELLOPTS",
        "BASHOPTS",
        "KUBE_EDITOR",
        "KUBECTL_EXTERNAL_DIFF",
        "PIP_INDEX_URL",
        "UV_INDEX_URL",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
        "RUSTC_WORKSPACE_WRAPPER",
        "LUA_INIT_5_4",
        "LUA_PATH",
        "LUA_CPATH_5_3",
        "LIBMYSQL_PLUGINS",
        "LIBMYSQL_PLUGIN_DIR",
        "MYSQL_HOME",
        "MAVEN_OPTS",
        "GRADLE_OPTS",
        "ANT_OPTS",
        "SBT_OPTS",
        "ERL_ZFLAGS",
        "ELIXIR_ERL_OPTIONS",
        "R_PROFILE_USER",
        "R_ENVIRON",
        "R_HOME",
        "KRB5_CONFIG",
        "TNS_ADMIN",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "CLOUDSDK_CONFIG",
        "AZURE_CONFIG_DIR",
        "PSQLRC",
        "TCLLIBPATH",
        "JULIA_LOAD_PATH",
        "GHCRTS",
        "CAML_LD_LIBRARY_PATH",
        "GUILE_LOAD_COMPILED_PATH",
        "AWKLIBPATH",
        "MAGICK_CONFIGURE_PATH",
        "GS_LIB",
        "TERMINFO",
        "RSYNC_RSH",
        "RSYNC_CONNECT_PROG",
        "SVN_SSH",
        "CVS_RSH",
        "TAR_OPTIONS",
        "SOPS_AGE_KEY_CMD",
        "SOPS_EDITOR",
        "GUNICORN_CMD_ARGS",
        "PYTEST_ADDOPTS",
        "PYTEST_PLUGINS",
        "FZF_DEFAULT_COMMAND",
        "FZF_DEFAULT_OPTS",
        "FZF_DEFAULT_OPTS_FILE",
        "GNUMAKEFLAGS",
        "MAKEFILES",
        "VIMINIT",
        "EXINIT",
        "BAT_PAGER",
        "GH_PAGER",
        "PSQL_PAGER",
        "SYSTEMD_PAGER",
        "CORECLR_PROFILER_PATH",
        "COR_PROFILER",
        "COR_PROFILER_PATH_64",
        "COR_ENABLE_PROFILING",
        "GTK_MODULES",
        "QT_PLUGIN_PATH",
        "ANSIBLE_CONFIG",
        "ANSIBLE_LIBRARY",
        "ANSIBLE_CALLBACK_PLUGINS",
        "TF_CLI_CONFIG_FILE",
        "TF_CLI_ARGS",
        "TF_CLI_ARGS_plan",
        "BUN_OPTIONS",
        "JRUBY_OPTS",
        "GROOVY_OPTS",
        "VAULT_ADDR",
        "VAULT_CACERT",
        "VAULT_CAPATH",
        "VAULT_SKIP_VERIFY",
        "PGSSLROOTCERT",
        "LDAPTLS_CACERT",
        "LDAPCONF",
        "LDAPRC",
        "KUBERC",
    ];

    /// Names whose values are usually secrets.
    const SECRET_NAMES: [&str; 22] = [
        "PGPASSWORD",
        "PSQL_PASSWORD",
        "MYSQL_PWD",
        "MYSQL_PASSWORD",
        "MYSQL_ROOT_PASSWORD",
        "DATABASE_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AZURE_CLIENT_SECRET",
        "GOOGLE_API_KEY",
        "GITHUB_TOKEN",
        "ORACLE_PASSWORD",
        "DOCKER_PASSWORD",
        "RELEASE_COOKIE",
        "R_API_KEY",
        "MAVEN_PASSWORD",
        "ANSIBLE_VAULT_PASSWORD",
        "SOPS_AGE_KEY",
        "TF_VAR_password",
        "VAULT_TOKEN",
        "PAGERDUTY_TOKEN",
    ];

    /// Attack: an author seals an item under the name of a variable that decides what a program
    /// runs or trusts, and waits for a user to run `seal exec --all`.
    #[test]
    fn the_flag_all_refuses_names_that_change_the_command() {
        for name in REFUSED_NAMES {
            let result = assign_pairs(&[name], &[], &[], false, &[]);
            assert!(
                matches!(result, Err(VariableError::ChangesCommand { .. })),
                "{name}: {result:?}"
            );
            assert!(
                assign_pairs(&[name], &[], &[name], false, &[]).is_ok(),
                "{name}"
            );
        }
        for name in SECRET_NAMES {
            let result = assign_pairs(&[name], &[], &[], false, &[]);
            assert!(result.is_ok(), "{name}: {result:?}");
        }
        // The name of the variable decides, not the name of the item.
        assert!(assign_pairs(&["SSL_CERT"], &[], &[], true, &[]).is_err());
    }

    /// Attack: an author seals an item under the name of a variable that the command inherits, to replace the variable.
    #[test]
    fn replaces_a_set_variable_only_with_override() {
        let set = ["EXISTING"];
        let chosen = parse_choices(&["EXISTING"]);
        let mapped = parse_choices(&["EXISTING=a"]);
        for (only, items, in_files) in [
            (&[][..], "EXISTING", false),
            (&chosen, "EXISTING", false),
            (&mapped, "a", false),
            (&mapped, "a", true),
        ] {
            let result = assign_pairs(&[items], only, &[], in_files, &set);
            assert!(
                matches!(result, Err(VariableError::IsSet { .. })),
                "{result:?}"
            );
            assert!(assign_pairs(&[items], only, &["OTHER"], in_files, &set).is_err());
            assert!(assign_pairs(&[items], only, &["EXISTING"], in_files, &set).is_ok());
        }
    }

    #[test]
    fn maps_names_and_derives_names_for_files() {
        let pair = |variable: &str, item: &str| (variable.to_owned(), item.to_owned());
        for (items, args, in_files, want) in [
            (vec!["a", "b"], vec!["b"], false, vec![pair("b", "b")]),
            (
                vec!["a", "b"],
                vec!["X=b", "a"],
                false,
                vec![pair("X", "b"), pair("a", "a")],
            ),
            (
                vec!["tls.key"],
                vec!["tls.key"],
                true,
                vec![pair("tls_key_FILE", "tls.key")],
            ),
            (
                vec!["tls.key"],
                vec!["KEY=tls.key"],
                true,
                vec![pair("KEY", "tls.key")],
            ),
            (
                vec!["tls.key"],
                vec!["KEY=tls.key"],
                false,
                vec![pair("KEY", "tls.key")],
            ),
        ] {
            assert_eq!(
                assign_pairs(&items, &parse_choices(&args), &[], in_files, &[]).unwrap(),
                want
            );
        }
    }

    #[test]
    fn refuses_missing_items_conflicts_and_invalid_names() {
        assert!(matches!(
            assign_pairs(&["a"], &parse_choices(&["b"]), &[], false, &[]),
            Err(VariableError::NoSuchItem { .. })
        ));
        assert!(matches!(
            assign_pairs(&["a-b", "a.b"], &[], &[], true, &[]),
            Err(VariableError::Twice { .. })
        ));
        assert!(matches!(
            assign_pairs(&["a"], &parse_choices(&["X Y=a"]), &[], false, &[]),
            Err(VariableError::Malformed { .. })
        ));
        for arg in ["", "=a", "A=", "="] {
            assert_eq!(arg.parse::<ItemChoice>(), Err(MalformedChoice), "{arg:?}");
        }
    }

    proptest! {
        /// Attack: an author adds arbitrary items to the one that the user named, to set more variables.
        #[test]
        fn only_the_arguments_of_the_user_set_variables(
            items in prop::collection::btree_set("[A-Z_a-z.]{1,8}", 0..8),
            in_files: bool,
        ) {
            let mut items: Vec<&str> = items.iter().map(String::as_str).collect();
            if !items.contains(&"password") {
                items.push("password");
            }
            let assigned = assign_pairs(&items, &parse_choices(&["DB=password"]), &[], in_files, &[]).unwrap();
            prop_assert_eq!(assigned, [("DB".to_owned(), "password".to_owned())]);
        }

        /// Attack: an author gives items the names of variables that are set where the command runs, to replace the
        /// variables.
        #[test]
        fn the_flag_all_changes_no_inherited_variable(
            items in prop::collection::btree_set("[A-C]{1,2}", 1..6),
            set in prop::collection::btree_set("[A-C]{1,2}", 0..6),
        ) {
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            let set: Vec<&str> = set.iter().map(String::as_str).collect();
            let assigned = assign_pairs(&items, &[], &[], false, &set);
            let clash = items.iter().any(|item| set.contains(item));
            prop_assert_eq!(assigned.is_err(), clash);
        }
    }
}
