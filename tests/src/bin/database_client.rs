//! A client of PostgreSQL that opens a new connection every 50 ms, for tests that change passwords.
//!
//! Variables: `DATABASE_HOST`, and either `DATABASE_USER` and `DATABASE_PASSWORD`, or `DATABASE_FILES`, the directory
//! of a mounted Secret with the items `user` and `password`. From a mounted Secret, the client also tries
//! `password.previous`.
//!
//! Prints a line for each failure, and a line when a connection succeeds with another user than the last one, or with
//! the other of the two passwords.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io, process};

use tokio_postgres::{Config, NoTls};

const INTERVAL: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let host = variable("DATABASE_HOST");
    let source = Source::from_environment();
    let mut last_connection = String::new();
    loop {
        match connect_with_any(&host, &source).await {
            Ok(connection) if connection == last_connection => {}
            Ok(connection) => {
                println!("connected {connection}");
                last_connection = connection;
            }
            Err(error) => println!("refused: {error}"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| {
        eprintln!("{name}: {error}");
        process::exit(2)
    })
}

/// Where the client reads its user and passwords.
enum Source {
    /// Fixed when the container starts.
    Environment { user: String, password: String },
    /// Read before each connection.
    Files(PathBuf),
}

/// A user with the passwords to try.
struct Credentials {
    user: String,
    password: String,
    previous: Option<String>,
}

impl Source {
    fn from_environment() -> Self {
        match env::var_os("DATABASE_FILES") {
            Some(directory) => Self::Files(directory.into()),
            None => Self::Environment {
                user: variable("DATABASE_USER"),
                password: variable("DATABASE_PASSWORD"),
            },
        }
    }

    fn read(&self) -> io::Result<Credentials> {
        match self {
            Self::Environment { user, password } => Ok(Credentials {
                user: user.clone(),
                password: password.clone(),
                previous: None,
            }),
            // The kubelet may replace the directory while the files are read; the second attempt reads the new
            // directory.
            Self::Files(directory) => read_files(directory).or_else(|_| read_files(directory)),
        }
    }
}

/// Reads files of the same version: the kubelet replaces all files atomically, by changing the target of the link
/// `..data`.
fn read_files(directory: &Path) -> io::Result<Credentials> {
    let content = fs::canonicalize(directory.join("..data"))?;
    let read = |item: &str| fs::read_to_string(content.join(item));
    let previous = match read("password.previous") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        previous => Some(previous?),
    };
    Ok(Credentials {
        user: read("user")?,
        password: read("password")?,
        previous,
    })
}

/// Connects with the current password, or else with the former one. Returns a description of the user and password that
/// succeeded.
async fn connect_with_any(host: &str, source: &Source) -> Result<String, String> {
    let Credentials {
        user,
        password,
        previous,
    } = source
        .read()
        .map_err(|error| format!("cannot read the files: {error}"))?;
    let refusal = match connect(host, &user, &password).await {
        Ok(()) => return Ok(format!("as {user}")),
        Err(refusal) => refusal,
    };
    let Some(previous) = previous else {
        return Err(format!("as {user}: {refusal}"));
    };
    if connect(host, &user, &previous).await.is_ok() {
        return Ok(format!("as {user} with the former password"));
    }
    // The database may have changed its password between the two attempts.
    let result = connect(host, &user, &password).await;
    let result = result.map(|()| format!("as {user}"));
    result.map_err(|refusal| format!("as {user}, with both passwords: {refusal}"))
}

/// Connects, uses the connection, and closes it.
async fn connect(host: &str, user: &str, password: &str) -> Result<(), String> {
    let mut config = Config::new();
    config
        .host(host)
        .dbname("postgres")
        .user(user)
        .password(password)
        .connect_timeout(TIMEOUT);
    let (client, connection) = config
        .connect(NoTls)
        .await
        .map_err(|error| message(&error))?;
    let connection = tokio::spawn(connection);
    let result = client.simple_query("SELECT 1").await;
    drop(client);
    let closed = connection.await.map_err(|error| error.to_string())?;
    result.map_err(|error| message(&error))?;
    closed.map_err(|error| message(&error))
}

/// Returns the message of the server, or the client's message if the server sent none.
fn message(error: &tokio_postgres::Error) -> String {
    let reported = error.as_db_error().map(ToString::to_string);
    reported.unwrap_or_else(|| {
        let source = error.source().map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    })
}
