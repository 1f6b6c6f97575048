//! Finds which Pod has which version of a Secret.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::consumption::{Delivery, Source, Use};
use crate::decide;
use crate::delivered::{Class, Content, Mounts, Program, Receiver, Report};
use crate::history::State;
use crate::pod::Pod;
use crate::sealed::Sealed;
use crate::state::SecretId;
use crate::workload::{Id, Workload};

/// A use of one SealedSecret by one container of one Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The namespace of the Pod and the SealedSecret.
    pub namespace: String,
    /// The name of the SealedSecret; `None` if it is unknown which SealedSecret the container uses.
    pub secret: Option<String>,
    /// The name of the `SecretProviderClass` through which the container uses the SealedSecret, if any.
    pub class: Option<String>,
    /// The workload of the Pod, if known.
    pub workload: Option<Id>,
    /// The name of the Pod.
    pub pod: String,
    /// The name of the container.
    pub container: String,
    /// How the container receives the values.
    pub way: Way,
    /// The generation of the SealedSecret whose content the container has, if known.
    pub generation: Option<i64>,
    /// Whether the container has the newest content.
    pub verdict: Verdict,
    /// How the container gets the newest content, if it may have earlier content and there is a way.
    pub remedy: Option<Remedy>,
}

/// How a container receives values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// In environment variables or volumes, from the kubelet or the CSI driver.
    Kubelet(Delivery),
    /// From the controller, by a program in the container.
    Program(Program),
}

impl Way {
    /// Returns the name that tables and reports show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubelet(delivery) => delivery.name(),
            Self::Program(program) => program.name(),
        }
    }
}

/// Whether a container has the newest content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The newest content.
    Current,
    /// Earlier content, which was replaced at this time.
    Stale(Timestamp),
    /// Unknown, for this reason.
    Unknown(Reason),
    /// The container is not running. It reads the newest content when it starts.
    NotStarted,
}

/// Why it is unknown which content a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The status of the SealedSecret records no version for the content of the container.
    Versions,
    /// The status of the SealedSecret does not have its newest version yet.
    NotRecorded,
    /// The container started after the last change, but the driver may have mounted its files before the change.
    Mounted,
    /// The class cannot be read, or names no SealedSecret.
    Class,
    /// The CSI driver has recorded no mount.
    Driver,
    /// The log of the container cannot be read.
    Log,
    /// The log of the container has no report about the SealedSecret.
    Report,
    /// This program does not report.
    Program,
}

impl Reason {
    /// Returns the text that tables and reports show.
    pub fn text(self) -> &'static str {
        match self {
            Self::Versions => "no version is recorded",
            Self::NotRecorded => "the newest version is not recorded yet",
            Self::Mounted => "the files may be from before the change",
            Self::Class => "the class cannot be read",
            Self::Driver => "the driver has recorded no mount",
            Self::Log => "the log cannot be read",
            Self::Report => "the log has no report",
            Self::Program => "the program does not report",
        }
    }
}

impl Verdict {
    /// Returns the name that tables and reports show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Stale(_) => "stale",
            Self::Unknown(_) => "unknown",
            Self::NotStarted => "not started",
        }
    }

    fn of(state: State, unknown: Reason) -> Self {
        match state {
            State::Current => Self::Current,
            State::Stale(time) => Self::Stale(time),
            State::Unknown => Self::Unknown(unknown),
        }
    }
}

/// How a container gets the newest content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// By `seal restart`, if it runs: the workload opts in.
    AutomaticRestart,
    /// By a restart that a user triggers.
    Restart,
    /// By the kubelet's next update of the volume.
    Kubelet,
    /// By the rotation of the CSI driver.
    Driver,
    /// By the agent, which waits for changes.
    Agent,
    /// By `seal exec`, which waits for changes.
    Exec,
    /// None is needed: the Pod is being deleted.
    Termination,
}

impl Remedy {
    /// Returns the text that tables and reports show.
    pub fn text(self) -> &'static str {
        match self {
            Self::AutomaticRestart => "seal restart",
            Self::Restart => "restart",
            Self::Kubelet => "kubelet, within 2m",
            Self::Driver => "CSI driver",
            Self::Agent => "seal agent",
            Self::Exec => "seal exec",
            Self::Termination => "termination",
        }
    }
}

/// The input of a survey.
#[derive(Debug, Default)]
pub struct Objects {
    /// The SealedSecrets, read after all other objects: otherwise, newer content can look like earlier content if an
    /// object changes meanwhile.
    pub secrets: BTreeMap<SecretId, Sealed>,
    /// The SealedSecrets that have changed since the controller recorded their versions.
    pub unrecorded: BTreeSet<SecretId>,
    /// The workloads that may own the Pods.
    pub workloads: Vec<(Id, Workload)>,
    /// The Pods to survey.
    pub pods: Vec<Pod>,
    /// Each `SecretProviderClass`, by namespace and name.
    pub classes: BTreeMap<(String, String), Class>,
    /// The mounts that the CSI driver has recorded.
    pub mounts: Mounts,
    /// The containers that receive values from the controller, by namespace and Pod.
    pub receivers: BTreeMap<(String, String), Vec<Receiver>>,
}

/// Returns how the Pods use the SealedSecrets, ordered. With `with_unknown`, also returns uses of a class that cannot
/// be read or names no SealedSecret.
pub fn rows(objects: &Objects, with_unknown: bool, now: Timestamp) -> BTreeSet<Row> {
    let rows = objects.pods.iter().flat_map(|pod| {
        let workload = workload_of(pod, &objects.workloads);
        let survey = PodSurvey {
            objects,
            pod,
            workload,
            now,
        };
        survey.rows(with_unknown)
    });
    rows.collect()
}

fn workload_of<'a>(pod: &Pod, workloads: &'a [(Id, Workload)]) -> Option<&'a (Id, Workload)> {
    workloads.iter().find(|(id, workload)| {
        id.namespace == pod.namespace && workload.selector.selects(&pod.labels)
    })
}

/// A verdict, and the generation of the content, if known.
type Observed = (Verdict, Option<i64>);

/// A Pod, and the other objects of the survey.
struct PodSurvey<'a> {
    objects: &'a Objects,
    pod: &'a Pod,
    workload: Option<&'a (Id, Workload)>,
    now: Timestamp,
}

impl<'a> PodSurvey<'a> {
    fn rows(&self, with_unknown: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        for usage in self.pod.uses.uses() {
            match usage.source {
                Source::Secret(name) => rows.extend(self.secret_row(usage, name)),
                Source::Class(name) => rows.extend(self.class_rows(usage, name, with_unknown)),
            }
        }
        let id = (self.pod.namespace.clone(), self.pod.name.clone());
        let receivers = self.objects.receivers.get(&id).into_iter().flatten();
        rows.extend(receivers.flat_map(|receiver| self.receiver_rows(receiver)));
        rows
    }

    fn secret_row(&self, usage: Use<'_>, name: &str) -> Option<Row> {
        let sealed = self.sealed(name)?;
        let observed = self.pod.observe(usage, &sealed.history, self.now);
        let observed = match observed {
            Some((state, generation)) => (Verdict::of(state, Reason::Versions), generation),
            None => (Verdict::NotStarted, None),
        };
        let way = Way::Kubelet(usage.delivery);
        Some(self.row(Some(name), usage.container, way, observed))
    }

    /// Returns a row for each SealedSecret that a class delivers: those that the driver has mounted or, if it has
    /// recorded no mount, those that the class names. If there are none, returns one row without a name with
    /// `with_unknown`, and no row otherwise.
    fn class_rows(&self, usage: Use<'_>, class: &str, with_unknown: bool) -> Vec<Row> {
        let (namespace, pod) = (&self.pod.namespace, (&*self.pod.name, &*self.pod.uid));
        let mounted = self.objects.mounts.of(namespace, pod, class);
        let known = self
            .objects
            .classes
            .get(&(namespace.clone(), class.to_owned()));
        let names: Vec<&str> = match (known, mounted) {
            (Some(Class::Other), _) => return Vec::new(),
            (Some(Class::Sealed(_)), Some(mounted)) => mounted.keys().map(String::as_str).collect(),
            (Some(Class::Sealed(named)), None) => named.iter().map(String::as_str).collect(),
            (None, _) => Vec::new(),
        };
        let way = Way::Kubelet(usage.delivery);
        let row = |name: Option<&str>, observed| Row {
            class: Some(class.to_owned()),
            ..self.row(name, usage.container, way, observed)
        };
        if names.is_empty() {
            let unknown = row(None, (Verdict::Unknown(Reason::Class), None));
            return with_unknown.then_some(unknown).into_iter().collect();
        }
        let rows = names.into_iter().filter_map(|name| {
            let content = mounted.and_then(|mounted| mounted.get(name));
            Some(row(Some(name), self.observe_mount(usage, name, content)?))
        });
        rows.collect()
    }

    /// Determines whether a container that mounts a SealedSecret through the CSI driver has its newest content. Returns
    /// `None` if the SealedSecret does not exist.
    fn observe_mount(
        &self,
        usage: Use<'_>,
        name: &str,
        content: Option<&Content>,
    ) -> Option<Observed> {
        let sealed = self.sealed(name)?;
        let Some(start) = self.pod.start_of(usage.container) else {
            return Some((Verdict::NotStarted, None));
        };
        let Some(content) = content else {
            return Some((Verdict::Unknown(Reason::Driver), None));
        };
        let (verdict, generation) = self.observe_content(sealed, name, content);
        if usage.delivery != Delivery::SubPath || verdict != Verdict::Current {
            return Some((verdict, generation));
        }
        // The container keeps the file that it started with. The driver may have replaced this file in the volume
        // since.
        let state_at = |time| sealed.history.state_at(time);
        let is_current_at = |time: Timestamp| state_at(time) == State::Current;
        Some(match state_at(start) {
            State::Current if self.pod.created.is_some_and(is_current_at) => (verdict, generation),
            State::Current => (Verdict::Unknown(Reason::Mounted), None),
            state => (Verdict::of(state, Reason::Versions), None),
        })
    }

    fn observe_content(&self, sealed: &Sealed, name: &str, content: &Content) -> Observed {
        let id = (self.pod.namespace.clone(), name.to_owned());
        let is_recorded = !self.objects.unrecorded.contains(&id);
        let (state, generation) = sealed.history.state_of(&content.version, is_recorded);
        let unknown = if is_recorded {
            Reason::Versions
        } else {
            Reason::NotRecorded
        };
        (
            Verdict::of(state, unknown),
            generation.or(content.generation),
        )
    }

    /// Returns a row for each SealedSecret that a program receives, or one row without a name if the SealedSecrets are
    /// unknown. Prefers the names in the arguments to those in the report, because the commands that the program starts
    /// can write to the log too.
    fn receiver_rows(&self, receiver: &Receiver) -> Vec<Row> {
        let way = Way::Program(receiver.program);
        let row = |name, observed| self.row(name, &receiver.container, way, observed);
        let Some(names) = names(receiver) else {
            let is_started = self.pod.start_of(&receiver.container).is_some();
            let verdict = if is_started {
                unknown(receiver)
            } else {
                Verdict::NotStarted
            };
            return vec![row(None, (verdict, None))];
        };
        let rows = names.into_iter().filter_map(|name| {
            let observed = self.observe_receiver(receiver, name)?;
            Some(row(Some(name), observed))
        });
        rows.collect()
    }

    /// Determines whether a program has the newest content of a SealedSecret. Returns `None` if the SealedSecret does
    /// not exist.
    fn observe_receiver(&self, receiver: &Receiver, name: &str) -> Option<Observed> {
        let sealed = self.sealed(name)?;
        if self.pod.start_of(&receiver.container).is_none() {
            return Some((Verdict::NotStarted, None));
        }
        let contents = receiver.report.contents();
        Some(match contents.and_then(|contents| contents.get(name)) {
            Some(content) => self.observe_content(sealed, name, content),
            None => (unknown(receiver), None),
        })
    }

    fn sealed(&self, name: &str) -> Option<&'a Sealed> {
        let id = (self.pod.namespace.clone(), name.to_owned());
        self.objects.secrets.get(&id)
    }

    fn row(&self, secret: Option<&str>, container: &str, way: Way, observed: Observed) -> Row {
        let (verdict, generation) = observed;
        Row {
            namespace: self.pod.namespace.clone(),
            secret: secret.map(str::to_owned),
            class: None,
            workload: self.workload.map(|(id, _)| id.clone()),
            pod: self.pod.name.clone(),
            container: container.to_owned(),
            way,
            generation,
            verdict,
            remedy: self.remedy(verdict, way, secret),
        }
    }

    fn remedy(&self, verdict: Verdict, way: Way, secret: Option<&str>) -> Option<Remedy> {
        if matches!(verdict, Verdict::Current | Verdict::NotStarted) {
            return None;
        }
        if self.pod.is_terminating {
            return Some(Remedy::Termination);
        }
        match way {
            Way::Kubelet(Delivery::Volume) => Some(Remedy::Kubelet),
            Way::Kubelet(Delivery::Csi) => Some(Remedy::Driver),
            Way::Program(Program::Agent) => Some(Remedy::Agent),
            Way::Program(Program::ExecOnChange) => Some(Remedy::Exec),
            Way::Program(Program::Other) => None,
            // A program that waits gets the newest content without a restart.
            Way::Program(Program::AgentOnce | Program::Exec) if has_no_report(verdict) => None,
            Way::Kubelet(Delivery::Env | Delivery::SubPath)
            | Way::Program(Program::AgentOnce | Program::Exec) => Some(self.restart(secret)),
        }
    }

    /// Returns whether the Pod is restarted automatically after a change to the SealedSecret, or by a user.
    fn restart(&self, secret: Option<&str>) -> Remedy {
        let is_automatic = secret
            .zip(self.workload)
            .is_some_and(|(name, (_, workload))| {
                let tags = self.sealed(name).map(|sealed| sealed.tags);
                let is_matched = || decide::is_matched(workload, name);
                decide::relevance(workload, name, tags.unwrap_or_default(), is_matched).is_some()
            });
        if is_automatic {
            Remedy::AutomaticRestart
        } else {
            Remedy::Restart
        }
    }
}

/// Returns the SealedSecrets that a program receives, from its arguments or else from its report; `None` if neither
/// names them.
fn names(receiver: &Receiver) -> Option<Vec<&str>> {
    let from_arguments = receiver
        .objects
        .as_ref()
        .map(|names| names.iter().collect());
    let reported = || Some(receiver.report.contents()?.keys().collect());
    let names: Vec<&String> = from_arguments.or_else(reported)?;
    Some(names.into_iter().map(String::as_str).collect())
}

fn has_no_report(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Unknown(Reason::Log | Reason::Report))
}

fn unknown(receiver: &Receiver) -> Verdict {
    Verdict::Unknown(match receiver.report {
        _ if !receiver.program.reports() => Reason::Program,
        Report::Unreadable => Reason::Log,
        Report::Missing | Report::Content(_) => Reason::Report,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::delivered::tests::status;
    use crate::history::tests::{history, second};
    use crate::pod::tests::pod;
    use crate::workload::Kind;

    fn deployment(annotations: &Json) -> (Id, Workload) {
        let id = Id {
            namespace: "ns".into(),
            kind: Kind::Deployment,
            name: "web".into(),
        };
        let object = json!({
            "metadata": { "annotations": annotations },
            "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": { "spec": { "containers": [
                { "name": "app", "envFrom": [{ "secretRef": { "name": "db" } }] },
            ] } } },
        });
        (id, Workload::read(Kind::Deployment, &object))
    }

    fn survey(
        pod: &Json,
        annotations: &Json,
        entries: &[(&str, &str, i64, i64)],
        now: i64,
    ) -> Vec<Row> {
        let sealed = Sealed {
            history: history(entries),
            ..Sealed::default()
        };
        let objects = Objects {
            secrets: BTreeMap::from([(("ns".into(), "db".into()), sealed)]),
            workloads: vec![deployment(annotations)],
            pods: vec![Pod::read(pod).unwrap()],
            ..Objects::default()
        };
        rows(&objects, true, second(now)).into_iter().collect()
    }

    const CHANGED: [(&str, &str, i64, i64); 2] = [("b", "1", 2, 20), ("a", "1", 1, 10)];

    #[test]
    fn reports_version_verdict_and_remedy() {
        let auto = json!({ "reloader.stakater.com/auto": "true" });
        let stale = Verdict::Stale(second(20));
        for (delivery, start, annotations, now, generation, verdict, remedy) in [
            (
                Delivery::Env,
                15,
                json!({}),
                30,
                Some(1),
                stale,
                Some(Remedy::Restart),
            ),
            (
                Delivery::Env,
                15,
                auto.clone(),
                30,
                Some(1),
                stale,
                Some(Remedy::AutomaticRestart),
            ),
            (
                Delivery::SubPath,
                15,
                json!({}),
                30,
                Some(1),
                stale,
                Some(Remedy::Restart),
            ),
            (
                Delivery::Env,
                20,
                json!({}),
                30,
                Some(2),
                Verdict::Current,
                None,
            ),
            (
                Delivery::Env,
                5,
                json!({}),
                30,
                None,
                stale,
                Some(Remedy::Restart),
            ),
            (
                Delivery::Volume,
                15,
                json!({}),
                30,
                Some(1),
                stale,
                Some(Remedy::Kubelet),
            ),
            (
                Delivery::Volume,
                15,
                json!({}),
                150,
                Some(2),
                Verdict::Current,
                None,
            ),
            (
                Delivery::Csi,
                15,
                auto,
                30,
                None,
                Verdict::Unknown(Reason::Class),
                Some(Remedy::Driver),
            ),
        ] {
            let rows = survey(&pod("p", delivery, start), &annotations, &CHANGED, now);
            let matching_rows: Vec<_> = rows
                .iter()
                .map(|row| (row.generation, row.verdict, row.remedy))
                .collect();
            assert_eq!(
                matching_rows,
                [(generation, verdict, remedy)],
                "{delivery:?} {start} {now}"
            );
            assert_eq!(
                rows[0].workload.as_ref().map(|id| id.name.as_str()),
                Some("web")
            );
        }
    }

    /// Fault: a user restarts the workload of a Pod that is being deleted and ends anyway.
    #[test]
    fn a_pod_that_is_being_deleted_needs_no_restart() {
        let auto = json!({ "reloader.stakater.com/auto": "true" });
        for delivery in [Delivery::Env, Delivery::SubPath, Delivery::Volume] {
            for annotations in [&json!({}), &auto] {
                let mut pod = pod("p", delivery, 15);
                pod["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:25Z");
                let rows = survey(&pod, annotations, &CHANGED, 30);
                let found = (rows[0].verdict, rows[0].remedy);
                let want = (Verdict::Stale(second(20)), Some(Remedy::Termination));
                assert_eq!(found, want, "{delivery:?} {annotations}");
            }
        }
    }

    #[test]
    fn without_recorded_versions_the_verdict_is_unknown() {
        let rows = survey(&pod("p", Delivery::Env, 15), &json!({}), &[], 30);
        assert_eq!(rows[0].verdict, Verdict::Unknown(Reason::Versions));
        let rows = survey(&pod("p", Delivery::Env, 5), &json!({}), &CHANGED[1..], 30);
        assert_eq!(rows[0].verdict, Verdict::Unknown(Reason::Versions));
    }

    #[test]
    fn a_waiting_container_is_not_stale() {
        let mut waiting = pod("p", Delivery::Env, 15);
        waiting["status"]["containerStatuses"] = json!([]);
        let rows = survey(&waiting, &json!({}), &CHANGED, 30);
        assert_eq!(
            (rows[0].verdict, rows[0].remedy),
            (Verdict::NotStarted, None)
        );
    }

    #[test]
    fn lists_pods_without_a_workload() {
        let mut bare = pod("p", Delivery::Env, 15);
        bare["metadata"]["labels"] = json!({});
        let rows = survey(&bare, &json!({}), &CHANGED, 30);
        assert_eq!((rows.len(), &rows[0].workload), (1, &None));
    }

    /// Returns a started Pod `p` that mounts the class `web` in this way.
    fn pod_with_class(delivery: Delivery, start: i64) -> Json {
        let mut pod = pod("p", Delivery::Csi, start);
        pod["metadata"]["creationTimestamp"] = json!(second(start - 2).to_string());
        pod["spec"]["volumes"][0]["csi"]["volumeAttributes"]["secretProviderClass"] = json!("web");
        if delivery == Delivery::SubPath {
            pod["spec"]["containers"][0]["volumeMounts"][0]["subPath"] = json!("password");
        }
        pod
    }

    fn class(names: &[&str]) -> Class {
        Class::Sealed(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Returns the objects of a survey of a Pod with the SealedSecret `db` and a class `web`.
    fn objects(pod: &Json, class: Option<Class>) -> Objects {
        let sealed = Sealed {
            history: history(&CHANGED),
            ..Sealed::default()
        };
        let id = |name: &str| ("ns".to_owned(), name.to_owned());
        Objects {
            secrets: BTreeMap::from([(id("db"), sealed)]),
            pods: vec![Pod::read(pod).unwrap()],
            classes: class.map(|class| (id("web"), class)).into_iter().collect(),
            ..Objects::default()
        }
    }

    fn verdicts(objects: &Objects) -> Vec<(Option<String>, Verdict, Option<i64>)> {
        let rows = rows(objects, true, second(30)).into_iter();
        rows.map(|row| (row.secret, row.verdict, row.generation))
            .collect()
    }

    #[test]
    fn a_mounted_version_shows_the_content_of_a_csi_volume() {
        let stale = Verdict::Stale(second(20));
        for (why, delivery, start, version, want, generation) in [
            (
                "the newest version",
                Delivery::Csi,
                15,
                "b",
                Verdict::Current,
                Some(2),
            ),
            ("an earlier version", Delivery::Csi, 25, "a", stale, Some(1)),
            (
                "a version that is no longer recorded",
                Delivery::Csi,
                25,
                "z",
                stale,
                None,
            ),
            (
                "a subPath, in a container that started after the change",
                Delivery::SubPath,
                25,
                "b",
                Verdict::Current,
                Some(2),
            ),
            (
                "a subPath, in a container that started before the change",
                Delivery::SubPath,
                15,
                "b",
                stale,
                None,
            ),
            (
                "a subPath that may have been mounted before the change",
                Delivery::SubPath,
                21,
                "b",
                Verdict::Unknown(Reason::Mounted),
                None,
            ),
            (
                "a subPath of a stale volume",
                Delivery::SubPath,
                25,
                "a",
                stale,
                Some(1),
            ),
        ] {
            let mut objects = objects(&pod_with_class(delivery, start), Some(class(&["db"])));
            objects.mounts.add(&status("p", version));
            let want = [(Some("db".to_owned()), want, generation)];
            assert_eq!(verdicts(&objects), want, "{why}");
        }
    }

    #[test]
    fn a_version_that_is_not_recorded_yet_is_not_called_stale() {
        let mut objects = objects(&pod_with_class(Delivery::Csi, 15), Some(class(&["db"])));
        objects.mounts.add(&status("p", "c"));
        objects.unrecorded.insert(("ns".into(), "db".into()));
        assert_eq!(
            verdicts(&objects)[0].1,
            Verdict::Unknown(Reason::NotRecorded)
        );
    }

    #[test]
    fn without_a_record_of_the_driver_the_class_names_the_objects() {
        let secret = |name: &str| Some(name.to_owned());
        let unknown = Verdict::Unknown(Reason::Class);
        let started = pod_with_class(Delivery::Csi, 15);
        let mut waiting = started.clone();
        waiting["status"]["containerStatuses"] = json!([]);
        for (why, pod, class, want) in [
            (
                "a class",
                &started,
                Some(class(&["db"])),
                vec![(secret("db"), Verdict::Unknown(Reason::Driver), None)],
            ),
            (
                "a Pod that waits",
                &waiting,
                Some(class(&["db"])),
                vec![(secret("db"), Verdict::NotStarted, None)],
            ),
            (
                "an object that does not exist",
                &started,
                Some(class(&["web"])),
                vec![],
            ),
            (
                "a class that names nothing",
                &started,
                Some(class(&[])),
                vec![(None, unknown, None)],
            ),
            (
                "a class that cannot be read",
                &started,
                None,
                vec![(None, unknown, None)],
            ),
            (
                "a class of another provider",
                &started,
                Some(Class::Other),
                vec![],
            ),
        ] {
            assert_eq!(verdicts(&objects(pod, class)), want, "{why}");
        }
        assert!(rows(&objects(&started, None), false, second(30)).is_empty());
    }

    /// Returns a survey of one container that receives values from the controller.
    fn survey_receiver(
        program: Program,
        names: Option<&[&str]>,
        report: &Report,
        start: i64,
    ) -> Vec<Row> {
        let mut pod = pod("p", Delivery::Env, start);
        pod["spec"]["containers"][0]["envFrom"] = json!([]);
        let mut objects = objects(&pod, None);
        let receiver = Receiver {
            container: "app".into(),
            program,
            objects: names.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            report: report.clone(),
        };
        let id = ("ns".to_owned(), "p".to_owned());
        objects.receivers.insert(id, vec![receiver]);
        rows(&objects, false, second(30)).into_iter().collect()
    }

    /// Returns a report about one SealedSecret.
    fn report(name: &str, version: &str) -> Report {
        let content = Content {
            version: version.to_owned(),
            generation: Some(7),
        };
        Report::Content(BTreeMap::from([(name.to_owned(), content)]))
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn shows_the_content_that_each_program_reports() {
        let stale = Verdict::Stale(second(20));
        let no_report = Verdict::Unknown(Reason::Report);
        let silent = Verdict::Unknown(Reason::Program);
        let (db, nothing) = (Some(&["db"][..]), None);
        for (why, program, names, report, start, want, generation, remedy) in [
            (
                "the newest version",
                Program::Agent,
                db,
                Some("b"),
                15,
                Verdict::Current,
                Some(2),
                None,
            ),
            (
                "an earlier version",
                Program::Agent,
                db,
                Some("a"),
                15,
                stale,
                Some(1),
                Some(Remedy::Agent),
            ),
            (
                "older than every recorded version",
                Program::Agent,
                db,
                Some("z"),
                15,
                stale,
                Some(7),
                Some(Remedy::Agent),
            ),
            (
                "an agent in an init container",
                Program::AgentOnce,
                db,
                Some("a"),
                15,
                stale,
                Some(1),
                Some(Remedy::Restart),
            ),
            (
                "an agent whose arguments name no SealedSecret",
                Program::Agent,
                nothing,
                Some("b"),
                15,
                Verdict::Current,
                Some(2),
                None,
            ),
            (
                "no report",
                Program::Agent,
                db,
                None,
                25,
                no_report,
                None,
                Some(Remedy::Agent),
            ),
            (
                "a command with an earlier version",
                Program::Exec,
                db,
                Some("a"),
                15,
                stale,
                Some(1),
                Some(Remedy::Restart),
            ),
            (
                "a command with the newest version",
                Program::Exec,
                db,
                Some("b"),
                25,
                Verdict::Current,
                Some(2),
                None,
            ),
            (
                "a command without a report",
                Program::Exec,
                db,
                None,
                15,
                no_report,
                None,
                None,
            ),
            (
                "a command that receives changes",
                Program::ExecOnChange,
                db,
                Some("a"),
                15,
                stale,
                Some(1),
                Some(Remedy::Exec),
            ),
            (
                "a command that receives changes, without a report",
                Program::ExecOnChange,
                db,
                None,
                15,
                no_report,
                None,
                Some(Remedy::Exec),
            ),
            (
                "an unknown program",
                Program::Other,
                nothing,
                None,
                15,
                silent,
                None,
                None,
            ),
        ] {
            let log = report.map_or(Report::Missing, |version| self::report("db", version));
            let rows = survey_receiver(program, names, &log, start);
            let found: Vec<_> = rows
                .iter()
                .map(|row| (row.verdict, row.generation, row.remedy))
                .collect();
            assert_eq!(found, [(want, generation, remedy)], "{why}");
            let is_named = names.is_some() || report.is_some();
            assert_eq!(rows[0].secret.is_some(), is_named, "{why}");
        }
    }

    /// Fault: a container runs while `seal exec` waits for a permission or an item, so its application has no values.
    #[test]
    fn a_command_that_waits_for_values_is_not_current() {
        for program in [Program::Exec, Program::ExecOnChange] {
            for (log, reason) in [
                (Report::Missing, Reason::Report),
                (Report::Unreadable, Reason::Log),
                // Another SealedSecret than the arguments name.
                (report("web", "b"), Reason::Report),
            ] {
                for start in [15, 25] {
                    let rows = survey_receiver(program, Some(&["db"]), &log, start);
                    let found: Vec<_> = rows
                        .iter()
                        .map(|row| (row.verdict, row.generation))
                        .collect();
                    assert_eq!(
                        found,
                        [(Verdict::Unknown(reason), None)],
                        "{program:?} {log:?}"
                    );
                    assert_eq!(rows[0].secret.as_deref(), Some("db"));
                }
            }
        }
    }

    /// Fault: the value changed while `seal exec` waited for a permission, so the application received the new value in
    /// a container that had started before the change.
    #[test]
    fn a_command_that_waited_during_a_change_is_current() {
        for program in [Program::Exec, Program::ExecOnChange] {
            let rows = survey_receiver(program, Some(&["db"]), &report("db", "b"), 15);
            let found = (rows[0].verdict, rows[0].generation, rows[0].remedy);
            assert_eq!(found, (Verdict::Current, Some(2), None), "{program:?}");
        }
    }

    #[test]
    fn a_program_that_has_not_started_has_no_content() {
        let mut waiting = pod("p", Delivery::Env, 15);
        waiting["status"]["containerStatuses"] = json!([]);
        for names in [Some(BTreeSet::from(["db".to_owned()])), None] {
            let mut objects = objects(&waiting, None);
            let receiver = Receiver {
                container: "app".into(),
                program: Program::Agent,
                objects: names,
                report: Report::Unreadable,
            };
            let id = ("ns".to_owned(), "p".to_owned());
            objects.receivers.insert(id, vec![receiver]);
            let rows = rows(&objects, false, second(30));
            let is_agent = |row: &&Row| row.way == Way::Program(Program::Agent);
            let agent = rows.iter().find(is_agent).unwrap();
            assert_eq!((agent.verdict, agent.remedy), (Verdict::NotStarted, None));
        }
    }
}
