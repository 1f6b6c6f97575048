//! One run of one program on one case, in its own directory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    cases::Case,
    fixtures::{Fixtures, Placeholders},
};

/// The time limit for a run, far above the duration of any run that ends.
const RUN_LIMIT: Duration = Duration::from_mins(1);

/// The time after which a program is considered to hang.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// The limit of the case, or else [`RUN_LIMIT`]. For upstream, which hangs on some cases.
    Case,
    /// [`RUN_LIMIT`].
    Default,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Termination {
    Exit(i32),
    Signal,
    /// Still running at the limit, and killed.
    Hang,
}

/// The state of a path after a run: a file, a symbolic link, or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    File { mode: u32, content: Vec<u8> },
    Link(PathBuf),
    Removed,
}

/// The unprocessed results of a run.
pub(crate) struct RunOutput {
    pub(crate) termination: Termination,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// The entries that the run changed, by path in the directory.
    pub(crate) changed: BTreeMap<String, Entry>,
    pub(crate) directory: PathBuf,
}

/// A case with its placeholders replaced, so that both programs get the same input.
pub(crate) struct PreparedCase {
    args: String,
    env: BTreeMap<String, String>,
    stdin: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
    links: BTreeMap<String, String>,
    modes: BTreeMap<String, String>,
    limit: Option<Duration>,
}

impl PreparedCase {
    pub(crate) fn new(
        case: &Case,
        fixtures: &Fixtures,
        placeholders: &Placeholders,
    ) -> Result<Self> {
        let mut files: BTreeMap<String, Vec<u8>> = fixtures
            .files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.clone()))
            .collect();
        for (name, content) in &case.files {
            files.insert(
                name.clone(),
                fixtures.fill(content, placeholders)?.into_bytes(),
            );
        }
        let mut env = BTreeMap::new();
        for (name, value) in &case.env {
            env.insert(name.clone(), fixtures.fill(value, placeholders)?);
        }
        Ok(Self {
            args: fixtures.fill(case.args.as_deref().unwrap_or_default(), placeholders)?,
            env,
            stdin: stdin(case, fixtures, placeholders)?,
            files,
            links: case.links.clone(),
            modes: case.modes.clone(),
            limit: case.limit.map(Duration::from_secs),
        })
    }

    /// Runs the program in a new directory with the files of the case, without this process's environment.
    pub(crate) fn run(&self, program: &Path, limit: Limit) -> Result<RunOutput> {
        let scratch = tempfile::tempdir()?;
        let directory = scratch.path().join("case");
        self.create_entries(&directory)?;
        let before = entries(&directory)?;

        let stdin = scratch.path().join("stdin");
        fs::write(&stdin, bytes_with_directory_path(&self.stdin, &directory))?;
        let stdout = scratch.path().join("stdout");
        let stderr = scratch.path().join("stderr");
        let child = self
            .command(program, &directory)?
            .stdin(File::open(stdin)?)
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let limit = match limit {
            Limit::Case => self.limit.unwrap_or(RUN_LIMIT),
            Limit::Default => RUN_LIMIT,
        };
        let termination = wait(child, limit)?;

        let changed = changes(&before, entries(&directory)?);
        Ok(RunOutput {
            termination,
            stdout: fs::read(stdout)?,
            stderr: fs::read(stderr)?,
            changed,
            directory,
        })
    }

    fn create_entries(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory.join("home"))?;
        fs::create_dir_all(directory.join("tmp"))?;
        for (name, content) in &self.files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().context("a file name without directory")?)?;
            fs::write(&path, bytes_with_directory_path(content, directory))?;
            let mode = self
                .modes
                .get(name)
                .map_or(Ok(0o644), |mode| u32::from_str_radix(mode, 8))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        for (name, target) in &self.links {
            symlink(target, directory.join(name))?;
        }
        Ok(())
    }

    fn command(&self, program: &Path, directory: &Path) -> Result<Command> {
        let args = shlex::split(&self.args).context("args is not a valid command line")?;
        let mut command = Command::new(program);
        // Both programs print their own name in usage text.
        command
            .arg0("kubeseal")
            .args(args.iter().map(|arg| with_directory_path(arg, directory)));
        command.current_dir(directory).env_clear();
        command
            .env("HOME", directory.join("home"))
            .env("TMPDIR", directory.join("tmp"));
        for (name, value) in &self.env {
            command.env(name, with_directory_path(value, directory));
        }
        Ok(command)
    }
}

fn stdin(case: &Case, fixtures: &Fixtures, placeholders: &Placeholders) -> Result<Vec<u8>> {
    match &case.stdin_base64 {
        Some(base64) => Ok(STANDARD.decode(base64.split_whitespace().collect::<String>())?),
        None => Ok(fixtures
            .fill(case.stdin.as_deref().unwrap_or_default(), placeholders)?
            .into_bytes()),
    }
}

fn with_directory_path(text: &str, directory: &Path) -> String {
    text.replace("${dir}", &directory.display().to_string())
}

fn bytes_with_directory_path(bytes: &[u8], directory: &Path) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => with_directory_path(text, directory).into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

fn wait(mut child: Child, limit: Duration) -> Result<Termination> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(termination(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(Termination::Hang);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn termination(status: ExitStatus) -> Termination {
    status.code().map_or(Termination::Signal, Termination::Exit)
}

/// Returns every file and link below the directory.
fn entries(directory: &Path) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(current) = directories.pop() {
        for entry in fs::read_dir(&current)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let name = path.strip_prefix(directory)?.display().to_string();
            if metadata.is_dir() {
                directories.push(path);
            } else if metadata.is_symlink() {
                entries.insert(name, Entry::Link(fs::read_link(&path)?));
            } else {
                let mode = metadata.permissions().mode() & 0o7777;
                entries.insert(
                    name,
                    Entry::File {
                        mode,
                        content: fs::read(&path)?,
                    },
                );
            }
        }
    }
    Ok(entries)
}

fn changes(
    before: &BTreeMap<String, Entry>,
    mut after: BTreeMap<String, Entry>,
) -> BTreeMap<String, Entry> {
    for (name, entry) in before {
        if after.get(name) == Some(entry) {
            after.remove(name);
        } else {
            after.entry(name.clone()).or_insert(Entry::Removed);
        }
    }
    after
}
