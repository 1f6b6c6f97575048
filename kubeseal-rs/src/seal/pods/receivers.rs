//! Finds the containers of a Pod that receive values from the controller. Such a container mounts a token for the
//! controller. The arguments of a container, which the parser of `seal` parses, show which objects it receives.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use deliver::AUDIENCE;
use restart::delivered::{Program, Receiver, Report};
use roles::agent::Agent;
use serde_json::Value as Json;

use crate::seal::exec::Exec;
use crate::seal_args::{self, Command};

/// The names of the programs that receive values. `seal` accepts all arguments of `seal-deliver`.
const PROGRAMS: [&str; 2] = ["seal", "seal-deliver"];

/// Returns the receivers of a Pod, without reports.
pub(super) fn of(pod: &Json) -> Vec<Receiver> {
    let spec = &pod["spec"];
    let volumes = list(&spec["volumes"]).filter(|volume| has_token(volume));
    let tokens: BTreeSet<&str> = volumes
        .filter_map(|volume| volume["name"].as_str())
        .collect();
    let containers = ["initContainers", "containers", "ephemeralContainers"];
    let containers = containers.iter().flat_map(|field| list(&spec[*field]));
    let has_token = |container: &&Json| {
        let mounts = list(&container["volumeMounts"]);
        let mut names = mounts.filter_map(|mount| mount["name"].as_str());
        names.any(|name| tokens.contains(name))
    };
    containers.filter(has_token).filter_map(receiver).collect()
}

/// Returns whether a volume contains a token for the controller.
fn has_token(volume: &Json) -> bool {
    list(&volume["projected"]["sources"])
        .any(|source| source["serviceAccountToken"]["audience"] == AUDIENCE)
}

/// Returns the program of a container and the objects that it receives; `None` for `seal agent --ready`, which receives
/// nothing.
fn receiver(container: &Json) -> Option<Receiver> {
    let (program, objects) = match command(container) {
        Some(Command::Agent(args)) if args.ready => return None,
        Some(Command::Agent(args)) => agent(&args),
        Some(Command::Exec(args)) if !args.from.is_empty() => exec(&args),
        _ => (Program::Other, None),
    };
    Some(Receiver {
        container: container["name"].as_str().unwrap_or_default().to_owned(),
        program,
        objects,
        report: Report::Unreadable,
    })
}

fn agent(args: &Agent) -> (Program, Option<BTreeSet<String>>) {
    let program = if args.once {
        Program::AgentOnce
    } else {
        Program::Agent
    };
    let names = args.objects.iter().map(|object| object.name.as_str());
    // With `--config`, the names are in a file that only the container has.
    let has_names = args.config.is_none();
    (program, has_names.then(|| literal_names(names)).flatten())
}

fn exec(args: &Exec) -> (Program, Option<BTreeSet<String>>) {
    let program = if args.on_change.is_some() {
        Program::ExecOnChange
    } else {
        Program::Exec
    };
    (program, literal_names(args.from.iter().map(String::as_str)))
}

/// Returns the names; `None` if a name contains a variable, which the kubelet replaces.
fn literal_names<'a>(names: impl Iterator<Item = &'a str>) -> Option<BTreeSet<String>> {
    names
        .map(|name| (!name.contains("$(")).then(|| name.to_owned()))
        .collect()
}

/// Returns the `seal` command that a container runs; `None` for another program. Without `command`, the container
/// runs the program of its image, which is assumed to be `seal` if the arguments are valid for `seal`.
fn command(container: &Json) -> Option<Command> {
    let texts = |field: &str| {
        let texts = list(&container[field]).filter_map(|text| text.as_str());
        texts.map(OsString::from).collect::<Vec<_>>()
    };
    let mut line = texts("command");
    if line.is_empty() {
        line.push(PROGRAMS[0].into());
    }
    line.extend(texts("args"));
    let name = Path::new(&line[0]).file_name();
    let is_seal = PROGRAMS
        .iter()
        .any(|program| name == Some(program.as_ref()));
    is_seal.then(|| seal_args::parse(line).ok()).flatten()
}

fn list(value: &Json) -> impl Iterator<Item = &Json> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the receivers of a Pod with one container, which mounts a token for this audience.
    fn receivers(audience: &str, command: &Json, args: &Json) -> Vec<Receiver> {
        let token = json!({ "serviceAccountToken": { "audience": audience, "path": "token" } });
        of(&json!({ "spec": {
            "volumes": [{ "name": "id", "projected": { "sources": [token] } }],
            "initContainers": [{
                "name": "seal", "command": command, "args": args,
                "volumeMounts": [{ "name": "id", "mountPath": "/var/run/secrets/sealed-secrets" }],
            }],
            "containers": [{ "name": "app" }],
        } }))
    }

    #[test]
    fn arguments_show_what_a_container_receives() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        for (command, args, program, objects) in [
            (
                json!(["seal"]),
                json!(["agent", "--objects=db:a,web"]),
                Program::Agent,
                names(&["db", "web"]),
            ),
            (
                json!([
                    "/usr/local/bin/seal-deliver",
                    "agent",
                    "--objects",
                    "db",
                    "--once"
                ]),
                json!(null),
                Program::AgentOnce,
                names(&["db"]),
            ),
            (
                json!(null),
                json!(["agent", "--objects=db"]),
                Program::Agent,
                names(&["db"]),
            ),
            (
                json!(["seal", "agent", "--config=a.yaml"]),
                json!([]),
                Program::Agent,
                None,
            ),
            (
                json!(["seal", "agent", "--objects=$(NAME)"]),
                json!([]),
                Program::Agent,
                None,
            ),
            (
                json!(["seal-deliver", "exec", "--from=db", "--all", "--", "app"]),
                json!([]),
                Program::Exec,
                names(&["db"]),
            ),
            (
                json!([
                    "seal",
                    "exec",
                    "--from=db",
                    "--all",
                    "--on-change=exit",
                    "--",
                    "app"
                ]),
                json!([]),
                Program::ExecOnChange,
                names(&["db"]),
            ),
            (
                json!(["sh", "-c", "seal exec --from=db --all -- app"]),
                json!([]),
                Program::Other,
                None,
            ),
            (
                json!(["seal", "exec", "file.yaml", "--all", "--", "app"]),
                json!([]),
                Program::Other,
                None,
            ),
            (
                json!(["seal", "agent", "--mistake"]),
                json!([]),
                Program::Other,
                None,
            ),
            (json!(null), json!(null), Program::Other, None),
        ] {
            let found = receivers(AUDIENCE, &command, &args);
            let found: Vec<_> = found
                .into_iter()
                .map(|found| (found.container, found.program, found.objects))
                .collect();
            assert_eq!(
                found,
                [("seal".to_owned(), program, objects)],
                "{command} {args}"
            );
        }
    }

    #[test]
    fn containers_without_a_token_for_the_controller_receive_nothing() {
        let agent = json!(["seal", "agent", "--objects=db"]);
        assert!(receivers("vault", &agent, &json!([])).is_empty());
        assert!(of(&json!({})).is_empty());
        let ready = json!(["seal", "agent", "--ready"]);
        assert!(receivers(AUDIENCE, &ready, &json!([])).is_empty());
    }
}
