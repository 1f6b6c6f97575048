//! How the containers of a Pod consume Secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

/// The CSI driver that mounts values of a `SecretProviderClass`.
const CSI_DRIVER: &str = "secrets-store.csi.k8s.io";

/// How a container receives a value. This determines how a running container can get a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// An environment variable; only a restart of the container updates it.
    Env,
    /// A file mounted by `subPath`; only a restart of the container updates it.
    SubPath,
    /// A file in a volume; the kubelet updates it.
    Volume,
    /// A file in a volume of the Secrets Store CSI driver; the driver's rotation updates it.
    Csi,
}

impl Delivery {
    /// Returns the name that tables and reports show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::SubPath => "subPath",
            Self::Volume => "volume",
            Self::Csi => "csi",
        }
    }

    /// Returns whether a running container can receive a new value.
    pub fn is_live(self) -> bool {
        match self {
            Self::Env | Self::SubPath => false,
            Self::Volume | Self::Csi => true,
        }
    }
}

/// The object that a value is read from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The Secret with this name.
    Secret(String),
    /// The `SecretProviderClass` with this name.
    Class(String),
}

/// One way in which one container consumes one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Use<'a> {
    /// The Secret or class.
    pub source: &'a Source,
    /// How the container receives the value.
    pub delivery: Delivery,
    /// The name of the container.
    pub container: &'a str,
}

/// Maximum number of uses in one object. An object with more counts as consuming nothing. Each container that mounts a
/// volume uses each source of the volume.
pub const MAX_USES: usize = 10_000;

/// How the containers of a Pod consume Secrets and classes. The sources and the containers of a volume are stored once,
/// however many uses result from them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumption {
    /// The indexes in `receivers` for each source, ordered.
    sources: BTreeMap<Source, Vec<usize>>,
    /// The receivers of each volume and of each container's environment.
    receivers: Vec<Receivers>,
    /// The number of uses.
    count: usize,
    /// Whether there are more than [`MAX_USES`] uses, so that none is stored.
    is_too_large: bool,
}

/// The receivers of the same sources: every container that mounts one volume, or one container that reads the sources
/// as environment variables. Each has its way of delivery.
type Receivers = BTreeSet<(Box<str>, Delivery)>;

/// The fields of a Pod's spec that list containers.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

impl Consumption {
    /// Reads how the containers of a Pod's spec consume Secrets and classes. Omits `imagePullSecrets`, since no
    /// container receives them.
    pub fn read(spec: &Json) -> Self {
        let containers = || CONTAINERS.iter().flat_map(|field| list(&spec[*field]));
        let mut consumption = Self::default();
        for container in containers() {
            let receivers = BTreeSet::from([(name(container), Delivery::Env)]);
            consumption.add(env_sources(container), receivers);
        }
        let mut mounts = mounts(containers());
        for volume in list(&spec["volumes"]) {
            let mounts = mounts.remove(volume["name"].as_str().unwrap_or_default());
            if let (Some(mounts), Some((delivery, sources))) = (mounts, content(volume)) {
                let receivers = mounts.into_iter().map(|mount| mount.receiver(delivery));
                consumption.add(sources, receivers.collect());
            }
        }
        consumption.clear_if_too_large()
    }

    fn add(&mut self, sources: impl IntoIterator<Item = Source>, receivers: Receivers) {
        let index = self.receivers.len();
        for source in sources {
            let indexes = self.sources.entry(source).or_default();
            if indexes.last() != Some(&index) {
                indexes.push(index);
            }
        }
        self.receivers.push(receivers);
    }

    /// Counts the uses, and drops all of them if there are too many.
    fn clear_if_too_large(self) -> Self {
        let indexes = self.sources.values().flatten();
        let count = indexes.map(|index| self.receivers[*index].len()).sum();
        if count <= MAX_USES {
            return Self { count, ..self };
        }
        Self {
            is_too_large: true,
            ..Self::default()
        }
    }

    /// Returns whether there are too many uses, so that none is known.
    pub fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// Returns the number of uses.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns all uses.
    pub fn uses(&self) -> impl Iterator<Item = Use<'_>> {
        let sources = self.sources.iter();
        sources.flat_map(|(source, indexes)| self.uses_of(source, indexes))
    }

    /// Returns the uses of the Secret with this name.
    pub fn of_secret(&self, name: &str) -> impl Iterator<Item = Use<'_>> {
        let found = self.sources.get_key_value(&Source::Secret(name.to_owned()));
        let found = found.into_iter();
        found.flat_map(|(source, indexes)| self.uses_of(source, indexes))
    }

    /// Returns a use of the source for each of the receivers with these indexes.
    fn uses_of<'a>(
        &'a self,
        source: &'a Source,
        indexes: &'a [usize],
    ) -> impl Iterator<Item = Use<'a>> {
        let receivers = indexes.iter().flat_map(|index| &self.receivers[*index]);
        receivers.map(move |(container, delivery)| Use {
            source,
            delivery: *delivery,
            container,
        })
    }

    /// Returns whether a container consumes the Secret with this name.
    pub fn has_secret(&self, name: &str) -> bool {
        self.sources.contains_key(&Source::Secret(name.to_owned()))
    }

    /// Returns the names of the Secrets that the containers consume, ordered.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().filter_map(|source| match source {
            Source::Secret(name) => Some(name.as_str()),
            Source::Class(_) => None,
        })
    }
}

/// A mount of a volume in a container.
struct Mount {
    container: Box<str>,
    is_by_path: bool,
}

impl Mount {
    /// Returns the container, and how it receives the values of a volume whose files have this `delivery`.
    fn receiver(self, delivery: Delivery) -> (Box<str>, Delivery) {
        let delivery = if self.is_by_path {
            Delivery::SubPath
        } else {
            delivery
        };
        (self.container, delivery)
    }
}

/// Returns the mounts of each volume, by its name.
fn mounts<'a>(containers: impl Iterator<Item = &'a Json>) -> BTreeMap<&'a str, Vec<Mount>> {
    let mut mounts: BTreeMap<&str, Vec<Mount>> = BTreeMap::new();
    for container in containers {
        for mount in list(&container["volumeMounts"]) {
            let is_path = |field: &str| text(&mount[field]).is_some();
            let volume = mount["name"].as_str().unwrap_or_default();
            mounts.entry(volume).or_default().push(Mount {
                container: name(container),
                is_by_path: is_path("subPath") || is_path("subPathExpr"),
            });
        }
    }
    mounts
}

/// Returns how a mount without `subPath` receives the values of a volume, and their sources; `None` if the volume
/// contains no values.
fn content(volume: &Json) -> Option<(Delivery, Vec<Source>)> {
    if let Some(name) = text(&volume["secret"]["secretName"]) {
        return Some((Delivery::Volume, vec![Source::Secret(name)]));
    }
    if volume["csi"]["driver"] == CSI_DRIVER {
        let class = text(&volume["csi"]["volumeAttributes"]["secretProviderClass"])?;
        return Some((Delivery::Csi, vec![Source::Class(class)]));
    }
    let projected = list(&volume["projected"]["sources"]);
    let secrets = projected.filter_map(|source| text(&source["secret"]["name"]));
    let secrets: Vec<Source> = secrets.map(Source::Secret).collect();
    (!secrets.is_empty()).then_some((Delivery::Volume, secrets))
}

/// Returns the Secrets of a container's environment variables.
fn env_sources(container: &Json) -> impl Iterator<Item = Source> {
    let variables = list(&container["env"]).map(|env| &env["valueFrom"]["secretKeyRef"]["name"]);
    let all = list(&container["envFrom"]).map(|env| &env["secretRef"]["name"]);
    variables.chain(all).filter_map(text).map(Source::Secret)
}

fn name(container: &Json) -> Box<str> {
    container["name"].as_str().unwrap_or_default().into()
}

fn list(value: &Json) -> impl Iterator<Item = &Json> {
    value.as_array().into_iter().flatten()
}

/// Returns a string, unless it is empty.
fn text(value: &Json) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Asserts that a Pod with these volumes and a container with these fields has the uses `want`.
    fn check(volumes: &Json, container: &Json, want: &[(&str, Delivery)]) {
        let mut container = container.clone();
        container["name"] = json!("app");
        let spec = json!({ "volumes": volumes, "containers": [container] });
        let consumption = Consumption::read(&spec);
        let uses = consumption.uses().map(|usage| {
            let (Source::Secret(name) | Source::Class(name)) = usage.source;
            (name.as_str(), usage.delivery)
        });
        assert_eq!(uses.collect::<Vec<_>>(), want, "{spec}");
    }

    /// Returns the spec of a Pod with one volume of `secrets` Secrets, which `containers` containers mount.
    fn wide(containers: usize, secrets: usize) -> Json {
        let sources =
            (0..secrets).map(|number| json!({ "secret": { "name": format!("s{number}") } }));
        let volume =
            json!({ "name": "v", "projected": { "sources": sources.collect::<Vec<_>>() } });
        let mount = json!([{ "name": "v", "mountPath": "/v" }]);
        let containers = (0..containers)
            .map(|number| json!({ "name": format!("c{number}"), "volumeMounts": mount }));
        json!({ "volumes": [volume], "containers": containers.collect::<Vec<_>>() })
    }

    /// Attack: a tenant makes many containers mount a volume of many Secrets, so that the compact form of the object
    /// takes a hundred times as much memory as the object.
    #[test]
    fn the_compact_form_is_not_larger_than_the_object() {
        let spec = wide(90, 100);
        let consumption = Consumption::read(&spec);
        assert_eq!(
            (consumption.uses().count(), consumption.count()),
            (9_000, 9_000)
        );
        assert_eq!(consumption.of_secret("s7").count(), 90);
        let (compact, object) = (format!("{consumption:?}"), spec.to_string());
        assert!(
            compact.len() < object.len(),
            "{} {}",
            compact.len(),
            object.len()
        );
    }

    /// Attack: a tenant makes every check of an object go through hundreds of thousands of uses, so that the checks of
    /// other tenants wait.
    #[test]
    fn an_object_with_too_many_uses_counts_as_consuming_nothing() {
        for (containers, is_too_large) in [(100, false), (101, true), (2_000, true)] {
            let consumption = Consumption::read(&wide(containers, 100));
            assert_eq!(consumption.is_too_large(), is_too_large, "{containers}");
            assert_eq!(consumption.has_secret("s7"), !is_too_large, "{containers}");
            assert!(consumption.uses().count() <= MAX_USES, "{containers}");
        }
    }

    #[test]
    fn a_secret_that_is_named_repeatedly_is_one_use() {
        let volumes = json!([{ "name": "v", "projected": { "sources": [
            { "secret": { "name": "db" } }, { "secret": { "name": "db" } },
        ] } }]);
        let container = json!({
            "envFrom": [{ "secretRef": { "name": "db" } }, { "secretRef": { "name": "db" } }],
            "volumeMounts": [{ "name": "v" }, { "name": "v" }, { "name": "v", "subPath": "a" }],
        });
        let want = [Delivery::Env, Delivery::SubPath, Delivery::Volume].map(|way| ("db", way));
        check(&volumes, &container, &want);
    }

    #[test]
    fn finds_secrets_in_environment_variables() {
        let variable = json!({ "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "db", "key": "a" } } }] });
        check(&json!([]), &variable, &[("db", Delivery::Env)]);
        let all = json!({ "envFrom": [{ "prefix": "X_", "secretRef": { "name": "db", "optional": true } }] });
        check(&json!([]), &all, &[("db", Delivery::Env)]);
        for other in [
            json!({ "env": [{ "name": "A", "value": "db" }] }),
            json!({ "env": [{ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "db", "key": "a" } } }] }),
            json!({ "envFrom": [{ "configMapRef": { "name": "db" } }] }),
            json!({ "env": "db" }),
        ] {
            check(&json!([]), &other, &[]);
        }
    }

    #[test]
    fn finds_secrets_in_mounted_volumes() {
        let mounted = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
        for (volume, want) in [
            (
                json!({ "secret": { "secretName": "db" } }),
                vec![("db", Delivery::Volume)],
            ),
            (
                json!({ "secret": { "secretName": "db", "items": [{ "key": "a", "path": "b" }] } }),
                vec![("db", Delivery::Volume)],
            ),
            (
                json!({ "projected": { "sources": [
                    { "secret": { "name": "a" } }, { "configMap": { "name": "b" } }, { "secret": { "name": "c" } },
                ] } }),
                vec![("a", Delivery::Volume), ("c", Delivery::Volume)],
            ),
            (
                json!({ "csi": { "driver": CSI_DRIVER, "volumeAttributes": { "secretProviderClass": "web" } } }),
                vec![("web", Delivery::Csi)],
            ),
            (
                json!({ "csi": { "driver": "other", "volumeAttributes": { "secretProviderClass": "web" } } }),
                vec![],
            ),
            (json!({ "configMap": { "name": "db" } }), vec![]),
            (json!({ "emptyDir": {} }), vec![]),
        ] {
            let mut volume = volume;
            volume["name"] = json!("v");
            check(&json!([volume]), &mounted, &want);
            check(&json!([volume]), &json!({}), &[]);
        }
    }

    #[test]
    fn a_sub_path_mount_is_never_refreshed() {
        let volumes = json!([
            { "name": "v", "secret": { "secretName": "db" } },
            { "name": "c", "csi": { "driver": CSI_DRIVER, "volumeAttributes": { "secretProviderClass": "web" } } },
        ]);
        for (mount, want) in [
            (
                json!({ "name": "v", "subPath": "a" }),
                ("db", Delivery::SubPath),
            ),
            (
                json!({ "name": "v", "subPathExpr": "$(A)" }),
                ("db", Delivery::SubPath),
            ),
            (
                json!({ "name": "v", "subPath": "" }),
                ("db", Delivery::Volume),
            ),
            (
                json!({ "name": "c", "subPath": "a" }),
                ("web", Delivery::SubPath),
            ),
            (json!({ "name": "c" }), ("web", Delivery::Csi)),
        ] {
            check(&volumes, &json!({ "volumeMounts": [mount] }), &[want]);
        }
    }

    #[test]
    fn finds_secrets_in_every_kind_of_container_but_no_pull_secrets() {
        let env = json!([{ "secretRef": { "name": "db" } }]);
        let spec = json!({
            "imagePullSecrets": [{ "name": "registry" }],
            "containers": [{ "name": "a", "envFrom": env }, { "name": "b" }],
            "initContainers": [{ "name": "c", "envFrom": env }],
            "ephemeralContainers": [{ "name": "d", "envFrom": env }],
        });
        let consumption = Consumption::read(&spec);
        let containers: Vec<&str> = consumption.uses().map(|usage| usage.container).collect();
        assert_eq!(containers, ["a", "c", "d"]);
    }

    #[test]
    fn a_malformed_pod_spec_uses_no_secrets() {
        for spec in [
            json!(null),
            json!(5),
            json!({ "containers": 5, "volumes": [5, {}] }),
        ] {
            assert_eq!(Consumption::read(&spec).uses().count(), 0, "{spec}");
        }
    }
}
