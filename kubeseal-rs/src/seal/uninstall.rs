//! `seal uninstall`: removes the conditions and status fields that only this project's controller writes, because
//! Bitnami's controller would never update them.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use kubeseal_library::cluster::{ApiPath, ClusterError, Clusters, Objects, parse};
use kubeseal_library::environment::Environment;
use kubeseal_library::notice::StatusLine;
use kubeseal_library::parallel;
use kubeseal_library::progress::Progress;
use serde_json::{Value as Json, json};
use shared::readable::adapt_time;

use super::{Outcome, print};
use crate::failure::Failure;
use crate::report::{self, shown};
use crate::seal::keys;
use crate::seal_args::{Cluster, Controller, KeyLocation};

/// Arguments of `seal uninstall`.
#[derive(Debug, Args)]
#[command(
    after_help = "Run this command after every controller of this project is stopped, before or after Bitnami's \
controller starts. Bitnami's controller updates only the condition Synced, so Ready and Stalled would never \
change again and would mislead \
`kubectl wait` and Flux. Secrets, keys and SealedSecrets are not changed.\n\n\
Examples:\n  seal uninstall\n  seal uninstall --yes"
)]
pub struct Uninstall {
    /// Change the statuses; without this flag, only list the changes
    #[arg(long)]
    pub yes: bool,
    /// Process only this namespace
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Change the statuses even if a controller holds the Lease
    #[arg(long)]
    pub force: bool,
    /// Name of the controller's Lease
    #[arg(long, value_name = "NAME", default_value = "sealed-secrets-controller")]
    pub lease_name: String,
    /// The cluster to use.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The controller, whose namespace contains the Lease.
    #[command(flatten)]
    pub controller: Controller,
}

/// The conditions that Bitnami's controller does not write.
const CONDITIONS: [&str; 2] = ["Ready", "Stalled"];
/// The status fields that Bitnami's controller does not write.
const FIELDS: [&str; 5] = [
    "items",
    "record",
    "lastUnsealedGeneration",
    "versions",
    "previous",
];
const API: &str = "/apis/bitnami.com/v1alpha1";
const LIST_FAILED: &str = "cannot list SealedSecrets";
const CHANGE_FAILED: &str = "cannot change the status";

/// A SealedSecret whose status has conditions or fields that only this project's controller writes.
#[derive(Debug, PartialEq)]
struct Leftover {
    namespace: String,
    name: String,
    /// The conditions and fields to remove, for display.
    fields: Vec<&'static str>,
    /// A merge patch that removes these conditions and fields, if the object is unchanged since it was read.
    patch: Json,
}

/// Removes the conditions and status fields that Bitnami's controller would never update. Without `--yes`, changes
/// nothing.
///
/// # Errors
///
/// Fails if a controller is running, or objects cannot be read or changed. Changes made before an
/// error are kept, and the command can be run again.
pub fn run(args: &Uninstall, environment: &Environment) -> Result<Outcome> {
    let location = KeyLocation {
        directory: None,
        cluster: args.cluster.clone(),
        controller: args.controller.clone(),
    };
    let access = keys::access(&location, environment);
    let objects = Objects::connect(&access, &Clusters::new(environment))?;
    if !args.force {
        check_lease(
            &objects,
            &access.namespace,
            &args.lease_name,
            environment.now,
        )?;
    }
    let (total, leftovers) = find(&objects, args.namespace.as_deref())?;
    print(list_leftovers(&leftovers).as_bytes())?;
    if leftovers.is_empty() || !args.yes {
        report::info(&summary(total, leftovers.len()));
        return Ok(Outcome::Done);
    }
    let failures = change_all(&objects, &leftovers, environment.status_line);
    if !failures.is_empty() {
        let changed = leftovers.len() - failures.len();
        let message = format!(
            "{} statuses could not be changed, and {changed} were changed:\n{}",
            failures.len(),
            failures.join("\n")
        );
        bail!(Failure::new(message).hint("run the command again"));
    }
    report::info(&format!(
        "{} of {total} statuses were changed",
        leftovers.len()
    ));
    Ok(Outcome::Done)
}

/// Refuses to run while a controller of this project is running, because it would restore the removed fields. Only a
/// response of the API server that there is no Lease, or an expired or released Lease, shows that no controller is
/// running.
fn check_lease(objects: &Objects, namespace: &str, name: &str, now: Timestamp) -> Result<()> {
    let leases = ApiPath::namespaced("/apis/coordination.k8s.io/v1", namespace, "leases")?;
    let path = leases.object(name)?;
    let (code, body, date) = objects.get_with_date(&path)?;
    let response = parse(&body).unwrap_or_default();
    let holder = match (code, response["kind"].as_str()) {
        (404, Some("Status")) => None,
        (200, Some("Lease")) => holder(&response, date.unwrap_or(now)),
        _ => {
            let message = format!(
                "cannot check whether a controller is running: the response to the request for the Lease \
                 {namespace}/{name} was {}",
                describe_response(code, &response)
            );
            let mut failure = Failure::new(message);
            if code == 403 {
                failure = failure.hint(format!(
                    "ask an administrator for permission to `get` leases.coordination.k8s.io in {namespace}"
                ));
            }
            bail!(failure.hint("make sure that no controller is running, and pass --force"))
        }
    };
    if let Some(holder) = holder {
        let message = format!(
            "a controller of this project is running ({holder} holds the Lease {namespace}/{name}) and would restore \
             the removed fields"
        );
        bail!(
            Failure::new(message).hint(
                "stop the controller first, wait until the Lease expires, or pass --force to continue regardless"
            )
        );
    }
    Ok(())
}

/// Describes a response that is neither a Lease nor the message that there is none.
fn describe_response(code: u16, response: &Json) -> String {
    match (code, response["message"].as_str()) {
        (200, _) => "not a Lease".to_owned(),
        (code, Some(message)) => format!("{code}, {message:?}"),
        (code, None) => code.to_string(),
    }
}

/// Returns the current holder of the Lease. A holder whose lease time cannot be read counts as current. `now` is the
/// time of the API server, if known: its clock is closer to the controller's clock than the clock of this machine.
fn holder(lease: &Json, now: Timestamp) -> Option<String> {
    let spec = &lease["spec"];
    let holder = match &spec["holderIdentity"] {
        Json::Null => return None,
        Json::String(name) if name.is_empty() => return None,
        Json::String(name) => name.clone(),
        _ => "an unknown holder".to_owned(),
    };
    let mut renew_time = spec["renewTime"].clone();
    adapt_time(&mut renew_time);
    let expiry = || {
        let renew_time: Timestamp = renew_time.as_str()?.parse().ok()?;
        let seconds = spec["leaseDurationSeconds"].as_i64()?;
        Some((renew_time, SignedDuration::from_secs(seconds)))
    };
    let is_expired = expiry().is_some_and(|(time, duration)| now.duration_since(time) >= duration);
    (!is_expired).then_some(holder)
}

/// Returns the number of SealedSecrets, and those whose status has conditions or fields that only this project's
/// controller writes.
fn find(objects: &Objects, namespace: Option<&str>) -> Result<(usize, Vec<Leftover>)> {
    let path = match namespace {
        Some(namespace) => ApiPath::namespaced(API, namespace, "sealedsecrets")?,
        None => ApiPath::fixed("/apis/bitnami.com/v1alpha1/sealedsecrets"),
    };
    let (mut total, mut leftovers) = (0, Vec::new());
    for page in objects.list(LIST_FAILED, &path)? {
        let mut page = parse(&page)?;
        let items = page["items"].take();
        let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
        total += items.len();
        leftovers.extend(items.iter().filter_map(leftover));
    }
    Ok((total, leftovers))
}

fn leftover(object: &Json) -> Option<Leftover> {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    let conditions = status["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let has_condition = |type_: &str| {
        conditions
            .iter()
            .any(|condition| condition["type"] == type_)
    };
    let mut fields: Vec<_> = CONDITIONS
        .into_iter()
        .filter(|type_| has_condition(type_))
        .collect();
    fields.extend(FIELDS.into_iter().filter(|field| !status[*field].is_null()));
    if fields.is_empty() {
        return None;
    }
    let is_own_condition = |condition: &Json| {
        condition["type"]
            .as_str()
            .is_some_and(|type_| CONDITIONS.contains(&type_))
    };
    let other_conditions: Vec<&Json> = conditions
        .iter()
        .filter(|condition| !is_own_condition(condition))
        .collect();
    let version = &metadata["resourceVersion"];
    let mut status = json!({ "conditions": other_conditions });
    for field in FIELDS {
        status[field] = Json::Null;
    }
    Some(Leftover {
        namespace: metadata["namespace"].as_str()?.to_owned(),
        name: metadata["name"].as_str()?.to_owned(),
        fields,
        patch: json!({ "metadata": { "resourceVersion": version }, "status": status }),
    })
}

/// Changes all statuses, and returns a message for each failure.
fn change_all(objects: &Objects, leftovers: &[Leftover], line: Option<StatusLine>) -> Vec<String> {
    let progress = Progress::new("statuses", leftovers.len(), line);
    let change = |(): &mut (), _, leftover: &Leftover| {
        let changed = remove_leftover(objects, leftover);
        progress.step();
        let error = changed.err()?;
        let text = shared::error_chain(&error);
        Some(shown(&format!("{}/{}: {text}", leftover.namespace, leftover.name)).into_owned())
    };
    let failures = parallel::map(leftovers, || (), change);
    drop(progress);
    failures.into_iter().flatten().collect()
}

fn remove_leftover(objects: &Objects, leftover: &Leftover) -> Result<(), ClusterError> {
    let Leftover {
        namespace,
        name,
        patch,
        ..
    } = leftover;
    let all = ApiPath::namespaced(API, namespace, "sealedsecrets")?;
    objects.merge(
        CHANGE_FAILED,
        &all.object(name)?.subresource("status"),
        patch,
    )
}

fn list_leftovers(leftovers: &[Leftover]) -> String {
    leftovers.iter().fold(String::new(), |mut text, leftover| {
        let fields = leftover.fields.join(", ");
        let line = format!("{}/{}: {fields}", leftover.namespace, leftover.name);
        let _ = writeln!(text, "{}", shown(&line));
        text
    })
}

fn summary(total: usize, leftovers: usize) -> String {
    match leftovers {
        0 => format!("none of {total} SealedSecrets has anything to remove"),
        _ => format!(
            "nothing was changed: {leftovers} of {total} SealedSecrets have conditions or fields of this project's \
             controller; pass --yes to remove them"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(status: &Json) -> Json {
        json!({ "metadata": { "namespace": "shop", "name": "db", "resourceVersion": "7" }, "status": status })
    }

    #[test]
    fn removes_only_the_conditions_and_fields_of_this_project() {
        let synced = json!({ "type": "Synced", "status": "True" });
        let condition = |type_: &str| json!({ "type": type_, "status": "True" });
        let status = json!({
            "observedGeneration": 3, "lastUnsealedGeneration": 3, "items": [{ "key": "a" }], "record": { "content": "x" },
            "versions": [{ "version": "v", "keyId": "k" }], "previous": { "items": ["a"] },
            "conditions": [synced, condition("Ready"), condition("Stalled"), condition("Audited")],
        });
        let result = leftover(&object(&status)).unwrap();
        assert_eq!(
            result.fields,
            [
                "Ready",
                "Stalled",
                "items",
                "record",
                "lastUnsealedGeneration",
                "versions",
                "previous"
            ]
        );
        let want = json!({
            "metadata": { "resourceVersion": "7" },
            "status": {
                "conditions": [synced, condition("Audited")],
                "items": null, "record": null, "lastUnsealedGeneration": null,
                "versions": null, "previous": null,
            },
        });
        assert_eq!(result.patch, want);
    }

    #[test]
    fn finds_nothing_in_a_status_of_bitnamis_controller() {
        for status in [
            json!(null),
            json!({ "observedGeneration": -1 }),
            json!({ "observedGeneration": 3, "conditions": [{ "type": "Synced", "status": "False" }] }),
        ] {
            assert_eq!(leftover(&object(&status)), None, "{status}");
        }
    }

    #[test]
    fn a_controller_is_running_until_its_lease_expires() {
        let lease = |spec: Json| json!({ "spec": spec });
        let timestamp = |second| Timestamp::from_second(second).unwrap();
        let renewed = |holder: &str| {
            lease(json!({
                "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "1970-01-01T00:00:10.000000Z",
            }))
        };
        for (why, lease, now, want) in [
            ("valid", renewed("pod"), 24, Some("pod")),
            ("expired", renewed("pod"), 25, None),
            ("released", renewed(""), 11, None),
            ("never held", lease(json!({})), 11, None),
        ] {
            assert_eq!(holder(&lease, timestamp(now)).as_deref(), want, "{why}");
        }
    }

    /// Attack: a client that may write the Lease sets a renew time that `Timestamp` cannot represent, to hide a running
    /// controller.
    #[test]
    fn a_controller_with_an_unreadable_renew_time_counts_as_running() {
        let now = Timestamp::from_second(24).unwrap();
        for (time, want) in [
            ("9999-12-31T23:59:59.999999Z", Some("pod")),
            ("10000-01-01T13:59:59.000000Z", Some("pod")),
            ("-0001-12-31T10:00:00.000000Z", None),
            ("soon", Some("pod")),
        ] {
            let spec =
                json!({ "holderIdentity": "pod", "leaseDurationSeconds": 15, "renewTime": time });
            let lease = json!({ "spec": spec });
            assert_eq!(holder(&lease, now).as_deref(), want, "{time}");
        }
        for (spec, want) in [
            (json!({ "holderIdentity": "pod" }), Some("pod")),
            (
                json!({ "holderIdentity": "pod", "renewTime": "1970-01-01T00:00:00Z" }),
                Some("pod"),
            ),
            (json!({ "holderIdentity": 5 }), Some("an unknown holder")),
            (json!(null), None),
        ] {
            let lease = json!({ "spec": spec });
            assert_eq!(holder(&lease, now).as_deref(), want, "{lease}");
        }
    }
}
