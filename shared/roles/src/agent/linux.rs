//! Runs the agent.

use std::path::Path;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};

use agent::authority::{Authority, ConfigMap};
use agent::client::{Client, Settings};
use agent::env_file;
use agent::poll::Poll;
use agent::target::{self, FORMER_VERSION_LIFETIME, Owner, Target, WriteOutcome};
use anyhow::{Context as _, Result, bail};
use deliver::{Request, RequestBody, Response, is_object_name};
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use text::{ShowPath as _, error_chain};

use super::action::Actions;
use super::config::{self, Config};
use super::{Agent, objects};
use crate::delivery::Delivery;
use crate::failure::Failure;
use crate::port::listen;
use crate::report;
use crate::{CheckTemplate, Variables};

/// The mode of the file of `--env-file`. Only the kubelet reads the file, and the kubelet runs as root.
const ENV_FILE_MODE: u32 = 0o400;
/// The directory with the service account of a Pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Runs until a signal requests termination, or writes the files once.
///
/// # Errors
///
/// Fails if the arguments, or a file or port that they name, cannot be used, or if the first files cannot be written.
/// With `--ready`, fails if the directory has no complete set of files. Other failures are logged, and the agent
/// retries.
pub fn run(args: &Agent, variables: Variables, check: Option<CheckTemplate>) -> Result<()> {
    if args.ready {
        return check_ready(&args.to);
    }
    let config = config(args, check)?;
    let owner = args.owner.as_deref().map(str::parse::<Owner>).transpose();
    let owner = owner.context("invalid value for --owner")?;
    let actions = Actions::new(args, config.commands)?;
    let client = connect(&args.delivery, variables)?;
    let is_complete = stop_on_signals()?;
    let mut poll = Poll::new(client, config.objects, log);
    let _port = listen(args.listen, poll.metrics())?;
    if let Some(path) = &args.env_file {
        return write_env_file(&poll.next_change(), path, owner);
    }
    let mut target = Target::open(&args.to, owner)?;
    if !target.is_in_memory() {
        report::warn(&format!(
            "{} is not in memory, so values are written to a disk; use an `emptyDir: {{medium: Memory}}` volume",
            args.to.shown()
        ));
    }
    write_first(&mut target, &poll.next_change(), &actions)?;
    if args.once {
        return Ok(());
    }
    is_complete.store(true, Ordering::SeqCst);
    follow(&mut target, &mut poll, &actions)
}

fn log(text: &str) {
    report::info_lines(text);
}

fn config(args: &Agent, check: Option<CheckTemplate>) -> Result<Config> {
    let config = match &args.config {
        Some(path) => config::read(path, &args.to, check)?,
        None => Config {
            objects: objects::entries(&args.objects, args.mode, args.env_file.is_some()),
            ..Config::default()
        },
    };
    if !config.ignored.is_empty() {
        report::info(&format!(
            "ignored settings, which have no effect here: {}",
            config.ignored.join(", ")
        ));
    }
    let body = RequestBody {
        objects: config.objects.clone(),
        ..RequestBody::default()
    };
    if let Err(error) = Request::try_from(body) {
        bail!(Failure::new(error.to_string()).hint(error.hint()));
    }
    Ok(config)
}

/// Fails if the directory does not have a complete set of files yet.
fn check_ready(directory: &Path) -> Result<()> {
    if !Target::is_complete(directory)? {
        bail!(Failure::new(format!(
            "no values in {} yet",
            directory.shown()
        )));
    }
    Ok(())
}

/// Writes the first files. If the directory has files of an earlier run, takes the actions after a change: the versions
/// of those files are unknown, and a comparison of contents would make the actions depend on values.
fn write_first(target: &mut Target, response: &Response, actions: &Actions) -> Result<()> {
    let written = target.write(&response.files)?;
    report_written(response, &written);
    if let WriteOutcome::Changed(paths) = &written {
        actions.run(paths);
    }
    finish(target);
    Ok(())
}

/// Waits for changes and writes them, until a signal ends the process.
fn follow(target: &mut Target, poll: &mut Poll, actions: &Actions) -> ! {
    loop {
        let response = poll.next_change();
        match target.write(&response.files) {
            Ok(written) => {
                report_written(&response, &written);
                finish(target);
                if let WriteOutcome::Changed(paths) = &written {
                    actions.run(paths);
                }
            }
            Err(error) => poll.repeat(&error_chain(&error)),
        }
    }
}

/// Removes the former version, after a pause in which programs can finish opening its files.
fn finish(target: &Target) {
    sleep(FORMER_VERSION_LIFETIME);
    if let Err(error) = target.clean_up() {
        report::warn(&error_chain(&error));
    }
}

fn report_written(response: &Response, written: &WriteOutcome) {
    report::info(&deliver::report::line(&response.objects, outcome(written)));
}

/// Returns the outcome for the log. It contains no number of files: with `spec.data`, the number of items is as secret
/// as a value.
fn outcome(written: &WriteOutcome) -> &'static str {
    match written {
        WriteOutcome::Unchanged => "unchanged",
        WriteOutcome::First => "wrote the files",
        WriteOutcome::Changed(_) => "replaced the files",
    }
}

fn write_env_file(response: &Response, path: &Path, owner: Option<Owner>) -> Result<()> {
    let items = response.files.iter().map(|file| {
        let name = file.path.components().last().unwrap_or_default();
        (name, file.value.expose())
    });
    let content = env_file::content(items)?;
    target::replace_file(path, &content, ENV_FILE_MODE, owner)?;
    let outcome = format!("wrote the variables to {}", path.shown());
    report::info(&deliver::report::line(&response.objects, &outcome));
    Ok(())
}

/// Returns a client for the controller that the flags name.
pub(crate) fn connect(args: &Delivery, variables: Variables) -> Result<Client> {
    let authority = match &args.ca_file {
        Some(path) => Authority::File(path.clone()),
        None => Authority::ConfigMap(config_map(&args.server, variables)?),
    };
    let client = Client::new(Settings {
        server: args.server.clone(),
        authority,
        token_file: args.token_file.clone(),
    });
    if args.token_file.exists() {
        return Ok(client?);
    }
    let message = format!("the Pod has no token in {}", args.token_file.shown());
    client.context(Failure::new(message).hint(
        "mount a projected volume there with serviceAccountToken: {audience: sealed-secrets.bitnami.com, path: token, \
         expirationSeconds: 600}",
    ))
}

/// Returns the `ConfigMap` that the controller publishes by default: `NAME-certificate` in its namespace.
fn config_map(server: &str, variables: Variables) -> Result<ConfigMap> {
    let Some((name, namespace)) = service(server) else {
        let message = "the host in --server does not have the form NAME.NAMESPACE.svc, so the ConfigMap with the CA certificate is unknown";
        bail!(Failure::new(message).hint("pass the controller's CA certificates with --ca-file"));
    };
    let variable = |name| {
        let value = variables(name).and_then(|value| value.into_string().ok());
        value.filter(|value| !value.is_empty())
    };
    let address = variable("KUBERNETES_SERVICE_HOST").zip(variable("KUBERNETES_SERVICE_PORT"));
    let Some((host, port)) = address else {
        let message = "cannot read the controller's CA certificate from the API server outside a Pod: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set";
        bail!(Failure::new(message).hint("pass the controller's CA certificates with --ca-file"));
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    Ok(ConfigMap {
        api_server: format!("https://{host}:{port}"),
        account: SERVICE_ACCOUNT.into(),
        namespace: namespace.to_owned(),
        name: format!("{name}-certificate"),
    })
}

/// Returns the name and namespace of the Service in a URL.
fn service(server: &str) -> Option<(&str, &str)> {
    let host = server.strip_prefix("https://")?.split([':', '/']).next()?;
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let is_service = labels.next() == Some("svc");
    let is_valid = is_object_name(name) && is_object_name(namespace);
    (is_service && is_valid).then_some((name, namespace))
}

/// Ends the process when SIGTERM, SIGINT or SIGQUIT arrives: the first process of a container has no default handler.
/// The exit code is 0 once the returned value is set, so that no init container succeeds without its files.
pub(crate) fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let is_complete = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT]).context("cannot handle signals")?;
    let seen = Arc::clone(&is_complete);
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            exit(if seen.load(Ordering::SeqCst) {
                0
            } else {
                128 + signal
            });
        }
    });
    Ok(is_complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: an author of a SealedSecret lets templates change a number of files that is a byte of a value, and reads
    /// the log of the agent.
    #[test]
    fn the_log_contains_no_number_of_files() {
        let changed = |count: usize| {
            let paths = (0..count).map(|index| format!("t{index}"));
            outcome(&WriteOutcome::Changed(paths.collect()))
        };
        for count in [1, 90, 256] {
            assert_eq!(changed(count), "replaced the files");
        }
    }

    #[test]
    fn derives_the_config_map_from_the_server_url() {
        let want = Some(("seals", "ops"));
        for url in [
            "https://seals.ops.svc:8443",
            "https://seals.ops.svc",
            "https://seals.ops.svc.cluster.local:8443/",
        ] {
            assert_eq!(service(url), want, "{url}");
        }
        for url in [
            "https://localhost:8443",
            "https://a.b.example",
            "http://seals.ops.svc",
            "https://../x.svc",
            "",
        ] {
            assert_eq!(service(url), None, "{url}");
        }
    }
}
