//! The configuration file of an agent: objects in YAML, or templates of Vault Agent in HCL.

use std::path::Path;

use agent::files;
use anyhow::{Context as _, Result, anyhow, bail};
use class::yaml;
use deliver::{EntryBody, FilePath};
use serde::Deserialize;
use text::ShowPath as _;

use super::hcl::{self, Entry, Value};
use super::vault;
use crate::CheckTemplate;
use crate::failure::Failure;

/// The maximum size of a configuration or template in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// A parsed configuration file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) objects: Vec<EntryBody>,
    /// Commands, each with the path of the file that it belongs to.
    pub(super) commands: Vec<(String, Vec<String>)>,
    /// Names of settings of Vault Agent that have no effect here.
    pub(super) ignored: Vec<String>,
}

/// Reads a configuration file. `target` is the target directory.
pub(super) fn read(path: &Path, target: &Path, check: Option<CheckTemplate>) -> Result<Config> {
    let bytes = files::read(path, MAX_CONFIG)?;
    let is_hcl = path.extension().is_some_and(|extension| extension == "hcl");
    let config = if is_hcl {
        from_hcl(&bytes, target)
    } else {
        from_yaml(&bytes)
    };
    let config = config.and_then(|config| match check {
        Some(check) => check_templates(&config, check).map(|()| config),
        None => Ok(config),
    });
    config.with_context(|| format!("cannot use {}", path.shown()))
}

/// Checks the templates before a request. The controller checks them too.
fn check_templates(config: &Config, check: CheckTemplate) -> Result<()> {
    for entry in &config.objects {
        let path = entry.path.as_deref().unwrap_or_default();
        if let Some(text) = &entry.template {
            check(path, text).map_err(|error| anyhow!(error))?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    objects: Vec<EntryBody>,
}

fn from_yaml(bytes: &[u8]) -> Result<Config> {
    let text = std::str::from_utf8(bytes).context("not UTF-8 text")?;
    let json = yaml::read(text)?;
    let objects = if json.is_array() {
        serde_json::from_value(json)
    } else {
        serde_json::from_value(json).map(|body: Body| body.objects)
    };
    let objects: Vec<EntryBody> = objects.map_err(|error| {
        Failure::new(error.to_string())
            .hint("an entry has the fields `sealedSecret`, `items`, `path`, `mode`, or `template`, `from`, `path`, `mode`")
    })?;
    Ok(Config {
        objects,
        ..Config::default()
    })
}

/// Attributes of a `template` block that have no effect here.
const IGNORED_ATTRIBUTES: &[&str] = &[
    "backup",
    "command_timeout",
    "create_dest_dirs",
    "error_on_missing_key",
    "wait",
];

/// A `template` block.
#[derive(Debug, Default)]
struct TemplateBlock {
    contents: Option<String>,
    destination: Option<String>,
    mode: Option<String>,
    command: Vec<String>,
}

fn from_hcl(bytes: &[u8], target: &Path) -> Result<Config> {
    let text = std::str::from_utf8(bytes).context("not UTF-8 text")?;
    let mut config = Config::default();
    for entry in hcl::parse(text)? {
        match (entry.name.as_str(), &entry.value) {
            ("template", Value::Block(attributes)) => {
                let line = entry.line;
                let added = add_template(&mut config, attributes, target);
                added.with_context(|| format!("the template in line {line}"))?;
            }
            ("env_template" | "exec", _) => bail!(
                Failure::new(format!(
                    "line {}: {} is not supported here",
                    entry.line, entry.name
                ))
                .hint("use `seal exec --from NAME -- COMMAND`")
            ),
            _ => config.ignored.push(entry.name),
        }
    }
    if config.objects.is_empty() {
        bail!(Failure::new("the file contains no `template` block"));
    }
    Ok(config)
}

fn add_template(config: &mut Config, attributes: &[Entry], target: &Path) -> Result<()> {
    let block = template_block(attributes)?;
    let contents = block
        .contents
        .context("`contents` or `source` is missing")?;
    let destination = block.destination.context("`destination` is missing")?;
    let path = path_below(&destination, target)?;
    let translated = vault::translate(&contents)?;
    if !block.command.is_empty() {
        config.commands.push((path.clone(), block.command));
    }
    config.objects.push(EntryBody {
        path: Some(path),
        template: Some(translated.text),
        from: Some(translated.objects.into_iter().collect()),
        mode: block.mode,
        ..EntryBody::default()
    });
    Ok(())
}

fn template_block(attributes: &[Entry]) -> Result<TemplateBlock> {
    let mut block = TemplateBlock::default();
    for Entry { name, value, line } in attributes {
        match (name.as_str(), value) {
            ("contents", Value::Text(text)) => block.contents = Some(text.clone()),
            ("source", Value::Text(path)) => block.contents = Some(source(path)?),
            ("destination", Value::Text(path)) => block.destination = Some(path.clone()),
            ("perms", Value::Text(mode) | Value::Word(mode)) => block.mode = Some(mode.clone()),
            ("command", value) => {
                block.command = command(value).with_context(|| format!("line {line}"))?;
            }
            ("exec", Value::Block(attributes)) => {
                for attribute in attributes
                    .iter()
                    .filter(|attribute| attribute.name == "command")
                {
                    block.command = command(&attribute.value)?;
                }
            }
            ("user" | "group", _) => bail!(
                Failure::new(format!("line {line}: {name} is not supported"))
                    .hint("use --owner UID:GID")
            ),
            (name, _) if IGNORED_ATTRIBUTES.contains(&name) => {}
            _ => bail!(Failure::new(format!(
                "line {line}: {name} is not supported, or has a value of an unexpected type"
            ))),
        }
    }
    Ok(block)
}

fn source(path: &str) -> Result<String> {
    let bytes = files::read(Path::new(path), MAX_CONFIG)?;
    let text = std::str::from_utf8(&bytes);
    Ok(text
        .with_context(|| format!("{path} is not UTF-8 text"))?
        .to_owned())
}

/// Returns a command as a list of arguments. A string becomes a shell command, as in Vault Agent.
fn command(value: &Value) -> Result<Vec<String>> {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let arguments: Option<Vec<String>> = match value {
        Value::Text(text) => Some(["/bin/sh", "-c", text].map(str::to_owned).into()),
        Value::List(values) => values.iter().map(text).collect(),
        _ => None,
    };
    arguments.context("`command` must be a string or a list of strings")
}

/// Converts a destination to a path relative to the target directory.
fn path_below(destination: &str, target: &Path) -> Result<String> {
    let path = Path::new(destination);
    let below = if path.is_absolute() {
        path.strip_prefix(target).ok()
    } else {
        Some(path)
    };
    let below = below
        .and_then(Path::to_str)
        .and_then(|path| path.parse::<FilePath>().ok());
    match below {
        Some(path) => Ok(path.to_string()),
        None => bail!(
            Failure::new(format!(
                "the destination {destination:?} is not below {}",
                target.shown()
            ))
            .hint("pass a directory above all destinations with --to")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: &str = r#"
pid_file = "/tmp/pid"
auto_auth { method "kubernetes" { config = { role = "web" } } }
template {
  contents = <<-EOT
    {{ with secret "secret/data/db" -}}
    DB_PASSWORD={{ .Data.data.password }}
    {{ end -}}
    EOT
  destination = "/secrets/app/db.env"
  perms       = "0640"
  command     = "pkill -HUP app"
}
template {
  contents    = "{{ with secret \"web-tls\" }}{{ index .Data \"tls.key\" }}{{ end }}"
  destination = "tls.key"
  exec { command = ["nginx", "-s", "reload"] }
}
"#;

    fn hcl(text: &str) -> Result<Config> {
        from_hcl(text.as_bytes(), Path::new("/secrets"))
    }

    #[test]
    fn reads_the_templates_of_vault_agent() {
        let config = hcl(VAULT).unwrap();
        let [db, tls] = config.objects.as_slice() else {
            unreachable!("two templates")
        };
        assert_eq!(db.path.as_deref(), Some("app/db.env"));
        assert_eq!(db.mode.as_deref(), Some("0640"));
        assert_eq!(db.from, Some(vec!["db".to_owned()]));
        let text = "{{ with index $ \"db\" -}}\nDB_PASSWORD={{ .password }}\n{{ end -}}\n";
        assert_eq!(db.template.as_deref(), Some(text));
        assert_eq!(tls.from, Some(vec!["web-tls".to_owned()]));
        assert_eq!(config.ignored, ["pid_file", "auto_auth"]);
        let commands = [
            (
                "app/db.env".to_owned(),
                ["/bin/sh", "-c", "pkill -HUP app"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            (
                "tls.key".to_owned(),
                ["nginx", "-s", "reload"].map(str::to_owned).to_vec(),
            ),
        ];
        assert_eq!(config.commands, commands);
    }

    /// Attack: a user copies a template from another source, and its destination is outside the volume.
    #[test]
    fn refuses_destinations_outside_of_the_directory() {
        for destination in [
            "/etc/passwd",
            "/secrets",
            "/secrets/../etc/x",
            "../x",
            "/secretsx/a",
            "",
        ] {
            let error = path_below(destination, Path::new("/secrets")).unwrap_err();
            assert!(
                error.to_string().contains("is not below /secrets"),
                "{error}"
            );
        }
        assert_eq!(
            path_below("/secrets/a/b", Path::new("/secrets/")).unwrap(),
            "a/b"
        );
    }

    #[test]
    fn names_what_is_missing_or_not_supported() {
        let contents = "contents = \"{{ with secret \\\"db\\\" }}{{ end }}\"";
        for (text, want) in [
            ("a = 1".to_owned(), "no `template` block"),
            (
                format!("template {{ {contents} }}"),
                "`destination` is missing",
            ),
            (
                "template { destination = \"a\" }".to_owned(),
                "`contents` or `source` is missing",
            ),
            (
                format!("template {{ {contents}\n user = \"app\" }}"),
                "line 2: user is not supported",
            ),
            (
                format!("template {{ {contents}\n left_delimiter = \"<<\" }}"),
                "left_delimiter is not supported",
            ),
            (
                format!("template {{ {contents}\n command = 1 }}"),
                "must be a string or a list",
            ),
            (
                "env_template \"A\" { contents = \"\" }".to_owned(),
                "seal exec --from",
            ),
        ] {
            let error = Failure::from(hcl(&text).unwrap_err()).to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn reads_objects_from_yaml() {
        let entries = "- sealedSecret: db\n  path: db/\n- {path: dsn, template: '{{ .db.user }}', from: [db], mode: \"0400\"}\n";
        let config = from_yaml(entries.as_bytes()).unwrap();
        assert_eq!(config.objects.len(), 2);
        assert_eq!(config.objects[1].mode.as_deref(), Some("0400"));
        let nested = format!("objects:\n{entries}");
        assert_eq!(from_yaml(nested.as_bytes()).unwrap(), config);
        for (text, want) in [
            ("- {sealedSecret: db, other: 1}", "unknown field `other`"),
            (
                "- {sealedSecret: db, items: password}",
                "expected a sequence",
            ),
            ("", "not a single YAML document"),
        ] {
            let error = Failure::from(from_yaml(text.as_bytes()).unwrap_err()).to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
