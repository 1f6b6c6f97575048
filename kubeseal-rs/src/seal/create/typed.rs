//! The items of a Secret with a built-in type, from the files and names that `seal create` receives.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{ArgAction, Args};
use jiff::Timestamp;
use kubeseal_library::recipe::{docker_config, is_user_name};
use kubeseal_library::typed::{ssh, tls};
use shared::plain::Plain;

use super::Items;
use crate::failure::Failure;
use crate::report;
use crate::seal::values::{self, Stdin};

/// Arguments for the items that a built-in type requires. At most one of the types can be selected.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Items of built-in types, instead of --type")]
pub struct TypedItems {
    /// Add a certificate chain and its private key, both in PEM, as tls.crt and tls.key
    #[arg(
        long,
        num_args = 2,
        action = ArgAction::Set,
        value_names = ["CHAIN", "KEY"],
        conflicts_with_all = ["docker_registry", "basic_auth", "ssh_auth", "type_"]
    )]
    pub tls: Option<Vec<PathBuf>>,
    /// Add a login to this registry, with a password, as .dockerconfigjson
    #[arg(
        long,
        value_name = "SERVER",
        requires = "docker_username",
        conflicts_with_all = ["basic_auth", "ssh_auth", "type_"]
    )]
    pub docker_registry: Option<String>,
    /// User name for the registry
    #[arg(long, value_name = "USER", requires = "docker_registry")]
    pub docker_username: Option<String>,
    /// Add this user name, with a password, as username and password
    #[arg(long, value_name = "USER", conflicts_with_all = ["ssh_auth", "type_"])]
    pub basic_auth: Option<String>,
    /// Add a private key in OpenSSH or PEM format as ssh-privatekey
    #[arg(long, value_name = "FILE", conflicts_with = "type_")]
    pub ssh_auth: Option<PathBuf>,
    /// Read the password from stdin; a line break at its end is removed
    #[arg(long, conflicts_with_all = ["password_prompt", "password_file"])]
    pub password_stdin: bool,
    /// Prompt for the password without showing it
    #[arg(long, conflicts_with = "password_file")]
    pub password_prompt: bool,
    /// Read the password from a file; a line break at its end is removed
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// The selected type, with its arguments.
enum Kind<'a> {
    Tls { chain: &'a Path, key: &'a Path },
    Docker { server: &'a str, user: &'a str },
    BasicAuth { user: &'a str },
    SshAuth { key: &'a Path },
}

impl TypedItems {
    /// Returns the selected type of Secret.
    pub fn type_(&self) -> Option<&'static str> {
        self.kind().map(|kind| match kind {
            Kind::Tls { .. } => "kubernetes.io/tls",
            Kind::Docker { .. } => "kubernetes.io/dockerconfigjson",
            Kind::BasicAuth { .. } => "kubernetes.io/basic-auth",
            Kind::SshAuth { .. } => "kubernetes.io/ssh-auth",
        })
    }

    /// Checks the arguments, before anything is read.
    ///
    /// # Errors
    ///
    /// Fails if a server or user name is invalid, or if a password is missing or unused.
    pub fn check(&self) -> Result<()> {
        let flag = match self.kind() {
            Some(Kind::Docker { server, user }) => {
                check_server(server)?;
                check_user("docker-username", user)?;
                Some("docker-registry")
            }
            Some(Kind::BasicAuth { user }) => {
                check_user("basic-auth", user)?;
                Some("basic-auth")
            }
            _ => None,
        };
        match flag {
            Some(flag) if !self.has_password() => bail!(
                Failure::new(format!("--{flag} requires a password"))
                    .hint("pass --password-stdin, --password-prompt or --password-file FILE")
            ),
            None if self.has_password() => bail!(
                Failure::new("no password is used without --docker-registry or --basic-auth").hint(
                    "for any other item, pass --stdin KEY, --prompt KEY or --from-file KEY=FILE"
                )
            ),
            _ => Ok(()),
        }
    }

    /// Reads and checks the items of the selected type, and adds them. Warns about values that are valid, but probably
    /// not intended.
    ///
    /// # Errors
    ///
    /// Fails if a file or password cannot be read, or if programs that use this type cannot use a value.
    pub fn add_to(&self, items: &mut Items, stdin: &mut Stdin<'_>, now: Timestamp) -> Result<()> {
        match self.kind() {
            None => Ok(()),
            Some(Kind::Tls { chain, key }) => add_tls(items, stdin, (chain, key), now),
            Some(Kind::Docker { server, user }) => {
                let config = docker_config(server, user, &self.password(stdin)?)?;
                items.add(".dockerconfigjson", config)
            }
            Some(Kind::BasicAuth { user }) => {
                items.add("username", Plain::from(user.to_owned()))?;
                items.add("password", self.password(stdin)?)
            }
            Some(Kind::SshAuth { key }) => add_ssh_key(items, stdin, key),
        }
    }

    fn kind(&self) -> Option<Kind<'_>> {
        if let Some([chain, key]) = self.tls.as_deref() {
            return Some(Kind::Tls { chain, key });
        }
        if let (Some(server), Some(user)) = (&self.docker_registry, &self.docker_username) {
            return Some(Kind::Docker { server, user });
        }
        let basic_auth = self.basic_auth.as_deref();
        let basic_auth = basic_auth.map(|user| Kind::BasicAuth { user });
        basic_auth.or_else(|| {
            let key = self.ssh_auth.as_deref();
            key.map(|key| Kind::SshAuth { key })
        })
    }

    fn has_password(&self) -> bool {
        self.password_stdin || self.password_prompt || self.password_file.is_some()
    }

    fn password(&self, stdin: &mut Stdin<'_>) -> Result<Plain> {
        let password = match &self.password_file {
            _ if self.password_prompt => values::prompt("the password")?,
            Some(file) => values::without_line_break(stdin.read_file(file)?),
            None => values::without_line_break(stdin.read("the password")?),
        };
        if password.expose().is_empty() {
            bail!(Failure::new("the password is empty").hint("pass the password of the account"));
        }
        values::warn_about_byte_order_mark("", "the password", &password);
        Ok(password)
    }
}

fn check_server(server: &str) -> Result<()> {
    if server.is_empty() || server.chars().any(|c| c.is_whitespace() || c.is_control()) {
        bail!(
            Failure::new(format!("--docker-registry: invalid server {server:?}"))
                .hint("pass the host of the registry, possibly with a port, such as ghcr.io or registry.example.com:5000")
        );
    }
    Ok(())
}

fn check_user(flag: &str, user: &str) -> Result<()> {
    if user.is_empty() || !is_user_name(user) {
        // Do not quote the argument, which may be `USER:PASSWORD`.
        bail!(
            Failure::new(format!(
                "--{flag}: the user name is empty, or contains a colon or a control character"
            ))
            .hint("pass only the user name, and the password with --password-stdin")
        );
    }
    Ok(())
}

fn add_tls(
    items: &mut Items,
    stdin: &mut Stdin<'_>,
    (chain_path, key_path): (&Path, &Path),
    now: Timestamp,
) -> Result<()> {
    let (chain_pem, key_pem) = (stdin.read_file(chain_path)?, stdin.read_file(key_path)?);
    let source = values::source(chain_path);
    let chain = tls::Chain::parse(chain_pem.expose()).with_context(|| source.clone())?;
    let matches = chain.check_key(key_pem.expose());
    matches.with_context(|| values::source(key_path))?;
    for warning in chain.warnings(now) {
        report::warn(&format!("{source}: {warning}"));
    }
    items.add("tls.crt", chain_pem)?;
    items.add("tls.key", key_pem)
}

fn add_ssh_key(items: &mut Items, stdin: &mut Stdin<'_>, path: &Path) -> Result<()> {
    let key = stdin.read_file(path)?;
    let source = values::source(path);
    for warning in ssh::check(key.expose()).with_context(|| source.clone())? {
        report::warn(&format!("{source}: {warning}"));
    }
    items.add("ssh-privatekey", key)
}
