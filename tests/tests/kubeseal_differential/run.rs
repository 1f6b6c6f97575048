//! One run of one program on one case, in its own folder.

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

use crate::{
    cases::Case,
    fixtures::{Fixtures, Marks},
};

/// The time limit for a run, far above the duration of any run.
const RUN_LIMIT: Duration = Duration::from_mins(1);

/// The time after which a program is considered hanging.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// After the limit of the case, for a program that is known to hang on it.
    OfTheCase,
    Generous,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
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
    Gone,
}

/// The unprocessed results of a run.
pub(crate) struct Traces {
    pub(crate) ending: Ending,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// Only entries that the run changed, by path in the folder.
    pub(crate) changed: BTreeMap<String, Entry>,
    pub(crate) folder: PathBuf,
}

/// A case with its placeholders replaced, so that both programs get the same input.
pub(crate) struct Prepared {
    args: String,
    env: BTreeMap<String, String>,
    stdin: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
    links: BTreeMap<String, String>,
    modes: BTreeMap<String, String>,
    limit: Option<Duration>,
}

impl Prepared {
    pub(crate) fn new(case: &Case, fixtures: &Fixtures, marks: &Marks) -> Result<Self> {
        let mut files: BTreeMap<String, Vec<u8>> = fixtures
            .files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.clone()))
            .collect();
        for (name, content) in &case.files {
            files.insert(name.clone(), fixtures.fill(content, marks)?.into_bytes());
        }
        let mut env = BTreeMap::new();
        for (name, value) in &case.env {
            env.insert(name.clone(), fixtures.fill(value, marks)?);
        }
        Ok(Self {
            args: fixtures.fill(case.args.as_deref().unwrap_or_default(), marks)?,
            env,
            stdin: stdin(case, fixtures, marks)?,
            files,
            links: case.links.clone(),
            modes: case.modes.clone(),
            limit: case.limit.map(Duration::from_secs),
        })
    }

    /// Runs the program in an empty folder, without our own environment.
    pub(crate) fn run(&self, program: &Path, limit: Limit) -> Result<Traces> {
        let room = tempfile::tempdir()?;
        let folder = room.path().join("case");
        self.lay_out(&folder)?;
        let before = entries(&folder)?;

        let stdin = room.path().join("stdin");
        fs::write(&stdin, in_folder_bytes(&self.stdin, &folder))?;
        let stdout = room.path().join("stdout");
        let stderr = room.path().join("stderr");
        let child = self
            .command(program, &folder)?
            .stdin(File::open(stdin)?)
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let limit = match limit {
            Limit::OfTheCase => self.limit.unwrap_or(RUN_LIMIT),
            Limit::Generous => RUN_LIMIT,
        };
        let ending = wait(child, limit)?;

        let changed = changes(&before, entries(&folder)?);
        Ok(Traces {
            ending,
            stdout: fs::read(stdout)?,
            stderr: fs::read(stderr)?,
            changed,
            folder,
        })
    }

    fn lay_out(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join("home"))?;
        fs::create_dir_all(folder.join("tmp"))?;
        for (name, content) in &self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().context("a file name without folder")?)?;
            fs::write(&path, in_folder_bytes(content, folder))?;
            let mode = self
                .modes
                .get(name)
                .map_or(Ok(0o644), |mode| u32::from_str_radix(mode, 8))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        for (name, target) in &self.links {
            symlink(target, folder.join(name))?;
        }
        Ok(())
    }

    fn command(&self, program: &Path, folder: &Path) -> Result<Command> {
        let args = shlex::split(&self.args).context("args is not a valid command line")?;
        let mut command = Command::new(program);
        // Both programs print their own name in usage texts.
        command
            .arg0("kubeseal")
            .args(args.iter().map(|arg| in_folder(arg, folder)));
        command.current_dir(folder).env_clear();
        command
            .env("HOME", folder.join("home"))
            .env("TMPDIR", folder.join("tmp"));
        for (name, value) in &self.env {
            command.env(name, in_folder(value, folder));
        }
        Ok(command)
    }
}

fn stdin(case: &Case, fixtures: &Fixtures, marks: &Marks) -> Result<Vec<u8>> {
    match &case.stdin_base64 {
        Some(base64) => Ok(STANDARD.decode(base64.split_whitespace().collect::<String>())?),
        None => Ok(fixtures
            .fill(case.stdin.as_deref().unwrap_or_default(), marks)?
            .into_bytes()),
    }
}

fn in_folder(text: &str, folder: &Path) -> String {
    text.replace("${dir}", &folder.display().to_string())
}

fn in_folder_bytes(bytes: &[u8], folder: &Path) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => in_folder(text, folder).into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

fn wait(mut child: Child, limit: Duration) -> Result<Ending> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(ending(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(Ending::Hang);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn ending(status: ExitStatus) -> Ending {
    status.code().map_or(Ending::Signal, Ending::Exit)
}

/// Returns every file and link below the folder.
fn entries(folder: &Path) -> Result<BTreeMap<String, Entry>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current)? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?;
            let name = path.strip_prefix(folder)?.display().to_string();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                found.insert(name, Entry::Link(fs::read_link(&path)?));
            } else {
                let mode = kind.permissions().mode() & 0o7777;
                found.insert(
                    name,
                    Entry::File {
                        mode,
                        content: fs::read(&path)?,
                    },
                );
            }
        }
    }
    Ok(found)
}

fn changes(
    before: &BTreeMap<String, Entry>,
    mut after: BTreeMap<String, Entry>,
) -> BTreeMap<String, Entry> {
    for (name, entry) in before {
        if after.get(name) == Some(entry) {
            after.remove(name);
        } else {
            after.entry(name.clone()).or_insert(Entry::Gone);
        }
    }
    after
}
