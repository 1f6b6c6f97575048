//! The merge driver and the text conversion: settings of the clone, and lines of `.gitattributes`.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use kubeseal_library::files;
use kubeseal_library::git::{ATTRIBUTES_FILE, Repository, Section};

use super::super::Outcome;
use crate::failure::Failure;
use crate::report::{self, ShowPath as _, shown};

/// A program that Git runs for the files that an attribute names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    Merge,
    Diff,
}

/// The default patterns for the files that get the attributes.
const DEFAULT_PATTERNS: [&str; 2] = ["*.yaml", "*.yml"];

/// The size limit for an existing `.gitattributes` file, in bytes.
const MAX_ATTRIBUTES: u64 = 1 << 20;

impl Driver {
    pub(super) const ALL: [Self; 2] = [Self::Merge, Self::Diff];

    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Merge => "merge driver",
            Self::Diff => "text conversion",
        }
    }

    fn section(self) -> Section {
        Section {
            name: match self {
                Self::Merge => "merge",
                Self::Diff => "diff",
            },
            subsection: "seal",
        }
    }

    fn attribute(self) -> String {
        let Section { name, subsection } = self.section();
        format!("{name}={subsection}")
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Merge => "--merge",
            Self::Diff => "--diff",
        }
    }

    /// The key that contains the command.
    fn command_key(self) -> &'static str {
        match self {
            Self::Merge => "driver",
            Self::Diff => "textconv",
        }
    }

    /// Returns the command, which Git passes to a shell. Without the program, it does what Git does without a driver:
    /// a driver that fails would leave our version without markers, so the changes of the other version could be lost.
    /// `command -p` ignores `PATH`, which may have a relative directory; Git itself prepends the directory of `git`.
    fn command(self, program: &str) -> String {
        match self {
            Self::Merge => merge_command(&program.replace('%', "%%")),
            Self::Diff => format!(
                "f() {{ if [ -x {program} ]; then {program} textconv -- \"$1\"; else command -p cat -- \"$1\"; fi; }}; f"
            ),
        }
    }

    fn settings(self, program: &str) -> Vec<(&'static str, String)> {
        let command = (self.command_key(), self.command(program));
        match self {
            Self::Merge => vec![("name", "SealedSecrets, item by item".to_owned()), command],
            Self::Diff => vec![command],
        }
    }
}

/// Returns the command of the merge driver. Git quotes the values of `%P`, `%X` and `%Y`. `--path=` and `--` are needed
/// because the name of a file may begin with `-`. If the program fails, the lines are merged without its checks, so the
/// result is always a conflict.
fn merge_command(program: &str) -> String {
    [
        "f() { git merge-file --marker-size=%L -L ours -L base -L theirs %A %O %B || exit 1; }; ",
        &format!("if [ ! -x {program} ]; then "),
        "echo 'seal is missing: merged by lines' >&2; f; exit 0; fi; ",
        &format!("{program} merge-file --path=%P --marker-size=%L --ours-label=%X --theirs-label=%Y -- %O %A %B; "),
        "s=$?; if [ $s -gt 1 ]; then ",
        "echo 'seal failed: merged by lines, without a check' >&2; f; exit 1; fi; exit $s",
    ]
    .concat()
}

/// Returns the absolute path of the program that a command of this or another version runs, if it can be recognized.
fn program_of(driver: Driver, command: &str) -> Option<PathBuf> {
    let command = match driver {
        Driver::Merge => command.replace("%%", "%"),
        Driver::Diff => command.to_owned(),
    };
    let words = shlex::split(&command)?;
    let test = words.iter().position(|word| word == "-x");
    let program = words.get(test.map_or(0, |index| index + 1))?;
    Some(PathBuf::from(program)).filter(|path| path.is_absolute())
}

/// The state of a driver in a clone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Status {
    Installed,
    /// No file has the attribute.
    WithoutAttribute(Driver),
    NotInstalled(Driver),
    /// Files have the attribute, but this clone has no driver.
    Missing(Driver),
    /// Files have the attribute, and the clone has another command.
    OtherCommand(Driver, String),
    /// Files have the attribute, and the program of the command does not exist.
    WithoutProgram(Driver, PathBuf),
}

impl Status {
    pub(super) fn is_finding(&self) -> bool {
        matches!(
            self,
            Self::Missing(_) | Self::OtherCommand(..) | Self::WithoutProgram(..)
        )
    }

    fn of(driver: Driver, is_attribute_set: bool, command: Option<String>, wanted: &str) -> Self {
        match (is_attribute_set, command) {
            (true, Some(command)) if command == wanted => Self::Installed,
            (true, Some(command)) => Self::OtherCommand(driver, command),
            (true, None) => Self::Missing(driver),
            (false, Some(_)) => Self::WithoutAttribute(driver),
            (false, None) => Self::NotInstalled(driver),
        }
    }

    /// Returns [`Self::WithoutProgram`] for another command whose program does not exist.
    fn without_program(self, exists: impl Fn(&Path) -> bool) -> Self {
        let program = match &self {
            Self::OtherCommand(driver, command) => program_of(*driver, command),
            _ => None,
        };
        match (self, program) {
            (Self::OtherCommand(driver, _), Some(program)) if !exists(&program) => {
                Self::WithoutProgram(driver, program)
            }
            (status, _) => status,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let install = |driver: &Driver| format!("run `seal hook install {}`", driver.flag());
        match self {
            Self::Installed => write!(f, "installed"),
            Self::WithoutAttribute(driver) => {
                let attribute = driver.attribute();
                write!(f, "installed, but no {ATTRIBUTES_FILE} sets {attribute}")
            }
            Self::NotInstalled(driver) => write!(f, "not installed; {}", install(driver)),
            Self::Missing(driver) => write!(
                f,
                "missing in this clone, although {ATTRIBUTES_FILE} names it; {}",
                install(driver)
            ),
            Self::OtherCommand(driver, command) => write!(
                f,
                "another command: {}; to replace it, {}",
                shown(command),
                install(driver)
            ),
            Self::WithoutProgram(driver, program) => write!(
                f,
                "the program {} no longer exists; {}",
                program.shown(),
                install(driver)
            ),
        }
    }
}

/// Returns the state of a driver. `program` is the quoted path of this program.
pub(super) fn status(repository: &Repository, driver: Driver, program: &str) -> Result<Status> {
    let is_attribute_set = repository.sets_attribute(&driver.attribute())?;
    let command = repository.setting(driver.section(), driver.command_key());
    let status = Status::of(driver, is_attribute_set, command, &driver.command(program));
    Ok(status.without_program(Path::exists))
}

/// Installs drivers: first the settings of this clone, which have no effect without the attributes.
///
/// # Errors
///
/// Fails if `.gitattributes` or the configuration cannot be changed.
pub(super) fn install(
    repository: &Repository,
    drivers: &[Driver],
    program: &str,
    patterns: &[String],
) -> Result<Outcome> {
    let lines = attribute_lines(drivers, patterns)?;
    for driver in drivers {
        let settings = driver.settings(program);
        let settings: Vec<_> = settings
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        let is_changed = repository.set_section(driver.section(), &settings)?;
        report::info(&format!(
            "{} {} in the configuration of this clone",
            driver.description(),
            if is_changed {
                "installed"
            } else {
                "is already installed"
            }
        ));
    }
    write_attributes(&repository.root().join(ATTRIBUTES_FILE), &lines)?;
    Ok(Outcome::Done)
}

/// Removes the settings of drivers from this clone.
///
/// # Errors
///
/// Fails if the configuration cannot be changed.
pub(super) fn uninstall(repository: &Repository, drivers: &[Driver]) -> Result<Outcome> {
    for driver in drivers {
        if repository.remove_section(driver.section())? {
            report::info(&format!(
                "{} removed from the configuration of this clone",
                driver.description()
            ));
        }
        let attribute = driver.attribute();
        if repository.sets_attribute(&attribute)? {
            report::info(&format!(
                "{ATTRIBUTES_FILE} still sets {attribute}, for other clones"
            ));
        }
    }
    Ok(Outcome::Done)
}

/// Returns the settings and attributes as text, for manual installation.
///
/// # Errors
///
/// Fails if a pattern is not valid.
pub(super) fn settings_text(
    drivers: &[Driver],
    program: &str,
    patterns: &[String],
) -> Result<String> {
    let mut lines = Vec::new();
    for driver in drivers {
        let Section { name, subsection } = driver.section();
        for (key, value) in driver.settings(program) {
            let value = shlex::try_quote(&value)?.into_owned();
            lines.push(format!("git config {name}.{subsection}.{key} {value}\n"));
        }
    }
    lines.push(format!("# {ATTRIBUTES_FILE}:\n"));
    let attributes = attribute_lines(drivers, patterns)?;
    lines.extend(attributes.iter().map(|line| format!("{line}\n")));
    Ok(lines.concat())
}

/// Returns the lines of `.gitattributes`.
fn attribute_lines(drivers: &[Driver], patterns: &[String]) -> Result<Vec<String>> {
    let defaults = DEFAULT_PATTERNS.map(str::to_owned);
    let patterns = if patterns.is_empty() {
        &defaults[..]
    } else {
        patterns
    };
    if let Some(pattern) = patterns.iter().find(|pattern| !is_valid(pattern)) {
        bail!(
            Failure::new(format!(
                "{pattern:?} is not a pattern for a line of {ATTRIBUTES_FILE}"
            ))
            .hint("use a pattern without white space and quotes, such as 'secrets/*.yaml'")
        );
    }
    let lines = patterns.iter().flat_map(|pattern| {
        let line = move |driver: &Driver| format!("{pattern} {}", driver.attribute());
        drivers.iter().map(line)
    });
    Ok(lines.collect())
}

fn is_valid(pattern: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
    !pattern.is_empty() && pattern.chars().all(is_plain) && !pattern.starts_with(['#', '!', '['])
}

/// Adds lines that are missing to the beginning of the file, since later lines take precedence: attributes that the
/// repository already sets stay in effect.
fn write_attributes(path: &Path, lines: &[String]) -> Result<()> {
    let relative = files::relative_to_current_directory(path);
    if path.is_symlink() {
        let message = format!(
            "{} is a symbolic link, which Git does not read",
            relative.shown()
        );
        bail!(Failure::new(message).hint("replace it with a file"));
    }
    if files::is_absent(path)? {
        files::create(path, with_lines(b"", lines).as_slice())?;
        report::info(&format!("{} written; commit it", relative.shown()));
        return Ok(());
    }
    let existing = files::read_regular(path, MAX_ATTRIBUTES)?;
    let missing: Vec<String> = lines
        .iter()
        .filter(|line| !has_line(&existing, line))
        .cloned()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    files::replace_if_unchanged(path, &existing, &with_lines(&existing, &missing))?;
    report::info(&format!("{} changed; commit it", relative.shown()));
    Ok(())
}

fn has_line(text: &[u8], line: &str) -> bool {
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let text = String::from_utf8_lossy(text);
    text.lines().any(|existing| words(existing) == words(line))
}

fn with_lines(existing: &[u8], lines: &[String]) -> Vec<u8> {
    let line_break = if existing.windows(2).any(|pair| pair == b"\r\n") {
        "\r\n"
    } else {
        "\n"
    };
    let text: String = lines
        .iter()
        .flat_map(|line| [line.as_str(), line_break])
        .collect();
    // Git ignores this mark only at the beginning of the file.
    let (mark, existing) = match existing.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => (BYTE_ORDER_MARK, rest),
        None => (&b""[..], existing),
    };
    [mark, text.as_bytes(), existing].concat()
}

/// The byte order mark of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_depends_on_attributes_and_settings() {
        let wanted = Driver::Merge.command("/opt/seal");
        let status = |is_attribute_set, command: Option<&str>| {
            Status::of(
                Driver::Merge,
                is_attribute_set,
                command.map(str::to_owned),
                &wanted,
            )
        };
        assert_eq!(status(true, Some(&wanted)), Status::Installed);
        assert_eq!(status(true, None), Status::Missing(Driver::Merge));
        assert_eq!(status(false, None), Status::NotInstalled(Driver::Merge));
        assert_eq!(
            status(false, Some("x")),
            Status::WithoutAttribute(Driver::Merge)
        );
        let other = status(true, Some("x\u{1b}"));
        assert!(other.is_finding());
        assert!(
            other.to_string().starts_with("another command: x\\u{1b};"),
            "{other}"
        );
    }

    #[test]
    fn attributes_are_added_before_those_of_the_repository() {
        let lines = attribute_lines(&Driver::ALL, &["*.yaml".to_owned()]).unwrap();
        assert_eq!(lines, ["*.yaml merge=seal", "*.yaml diff=seal"]);
        assert_eq!(
            with_lines(b"a.yaml merge=union\r\n", &lines[..1]),
            b"*.yaml merge=seal\r\na.yaml merge=union\r\n"
        );
        // Fault: after inserted lines, the mark would be part of the first pattern of the repository.
        assert_eq!(
            with_lines(b"\xef\xbb\xbf*.key filter=crypt\n", &lines[..1]),
            b"\xef\xbb\xbf*.yaml merge=seal\n*.key filter=crypt\n"
        );
        assert!(has_line(b"x\n *.yaml\tmerge=seal\r\n", &lines[0]));
        assert!(!has_line(b"*.yaml merge=seal2\n", &lines[0]));
        for pattern in ["", "a b", "\"a\"", "#a", "!a", "[attr]a", "a\nb"] {
            assert!(
                attribute_lines(&Driver::ALL, &[pattern.to_owned()]).is_err(),
                "{pattern:?}"
            );
        }
    }

    /// Attack: the path of the program contains a placeholder, which Git would replace with text from the repository.
    #[test]
    fn placeholders_in_the_path_of_the_program_are_not_replaced() {
        let command = Driver::Merge.command("'/opt/%P/seal'");
        assert!(!command.contains("/opt/%P"), "{command}");
        assert!(
            command.contains("; '/opt/%%P/seal' merge-file --path=%P "),
            "{command}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_status_names_a_program_that_no_longer_exists() {
        for driver in Driver::ALL {
            let status = |command: &str, exists| {
                let other = Status::OtherCommand(driver, command.to_owned());
                other.without_program(|_| exists)
            };
            let command = driver.command("'/opt/a %P/seal'");
            let missing = status(&command, false);
            assert!(missing.is_finding());
            assert!(
                missing
                    .to_string()
                    .starts_with("the program /opt/a %P/seal no longer exists; run "),
                "{missing}"
            );
            let is_other = |status| matches!(status, Status::OtherCommand(..));
            assert!(is_other(status(&command, true)));
            assert!(is_other(status("tool merge", false)));
            assert!(is_other(status("'", false)));
            assert!(!is_other(status("/old/seal textconv --", false)));
        }
    }
}
