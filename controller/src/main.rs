//! Wiring and exit code.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use controller::args::{Config, Stop};
use controller::rounds::{Rounds, StartError};
use controller::{http, log};
use jiff::Timestamp;
use shared::error_chain;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// Why the controller did not run to its end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("--listen-addr: cannot listen on {address}")]
    Listen {
        address: String,
        source: std::io::Error,
    },
    #[error("the system refused what every process needs")]
    System(#[from] std::io::Error),
}

/// 0: help, version, or ended by a signal. 1: cannot start. 2: wrong words.
fn main() -> ExitCode {
    let words = std::env::args_os().skip(1);
    let variable = |name: &str| std::env::var(name).ok();
    match Config::read(words, variable) {
        Ok(config) => run(&config),
        Err(Stop::Print(text)) => {
            // A closed pipe is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(Stop::Usage(text)) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(2)
        }
        Err(Stop::Invalid(mistakes)) => {
            for mistake in mistakes {
                let _ = writeln!(std::io::stderr(), "error: {mistake}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> ExitCode {
    log::start(config.log);
    let version = env!("CARGO_PKG_VERSION");
    info!(version, "Starting sealed-secrets controller");
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let done = tokio::runtime::Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(serve(config)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The port is opened before a key is made, so that a mistake there leaves no trace, and served
/// after, so that the first answer has a certificate.
async fn serve(config: &Config) -> Result<(), Failure> {
    let listener = http::bind(&config.listen).await;
    let listener = listener.map_err(|source| Failure::Listen {
        address: config.listen.to_string(),
        source,
    })?;
    let (mut term, mut int) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let mut usr1 = on(SignalKind::user_defined1())?;
    let mut rounds = Rounds::start(config, Timestamp::now()).await?;
    let (end, ended) = watch::channel(false);
    let limits = http::Limits {
        read: config.read_timeout,
        write: config.write_timeout,
    };
    let router = http::router(rounds.facts());
    let server = tokio::spawn(http::serve(listener, router, limits, ended));
    loop {
        let next = rounds.round(Timestamp::now()).await;
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = usr1.recv() => rounds.ask_for_key(),
            () = until(next) => {}
        }
    }
    info!("Shutting down");
    end.send_replace(true);
    let _ = server.await;
    Ok(())
}

fn on(kind: SignalKind) -> std::io::Result<Signal> {
    signal(kind)
}

async fn until(time: Timestamp) {
    let rest = time.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(rest).unwrap_or_default()).await;
}
