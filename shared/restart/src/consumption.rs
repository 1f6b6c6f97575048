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
    /// A file in a volume; kubelet updates it.
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Use {
    /// The Secret or class.
    pub source: Source,
    /// How the container receives the value.
    pub delivery: Delivery,
    /// The name of the container.
    pub container: String,
}

impl Use {
    /// Returns the smallest possible use of a source, as the start of a range.
    pub fn lower_bound(source: Source) -> Self {
        Self {
            source,
            delivery: Delivery::Env,
            container: String::new(),
        }
    }

    /// Returns whether the source is the Secret of this name.
    pub fn is_secret(&self, secret: &str) -> bool {
        matches!(&self.source, Source::Secret(name) if name == secret)
    }
}

/// The fields of a Pod's spec that list containers.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Returns how the containers of a Pod's spec consume Secrets, ordered and without duplicates. Omits
/// `imagePullSecrets`, since no container receives them.
pub fn uses(spec: &Json) -> BTreeSet<Use> {
    let volumes = volumes(spec);
    let containers = CONTAINERS.iter().flat_map(|field| list(&spec[*field]));
    containers
        .flat_map(|container| {
            let mut uses = env_uses(container);
            uses.extend(mount_uses(container, &volumes));
            uses
        })
        .collect()
}

/// A volume with values: how a mount without `subPath` receives them, and their sources.
type Volume = (Delivery, Vec<Source>);

fn volumes(spec: &Json) -> BTreeMap<&str, Volume> {
    let volumes = list(&spec["volumes"]).filter_map(|volume| {
        let name = volume["name"].as_str()?;
        Some((name, content(volume)?))
    });
    volumes.collect()
}

/// Returns the values that a volume contains, or `None` if there are none.
fn content(volume: &Json) -> Option<Volume> {
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

fn env_uses(container: &Json) -> Vec<Use> {
    let variables = list(&container["env"]).map(|env| &env["valueFrom"]["secretKeyRef"]["name"]);
    let all = list(&container["envFrom"]).map(|env| &env["secretRef"]["name"]);
    let secrets = variables.chain(all).filter_map(text);
    secrets
        .map(|name| new_use(container, Delivery::Env, Source::Secret(name)))
        .collect()
}

fn mount_uses(container: &Json, volumes: &BTreeMap<&str, Volume>) -> Vec<Use> {
    let mut uses = Vec::new();
    for mount in list(&container["volumeMounts"]) {
        let name = mount["name"].as_str().unwrap_or_default();
        let Some((delivery, sources)) = volumes.get(name) else {
            continue;
        };
        let is_by_path = [&mount["subPath"], &mount["subPathExpr"]]
            .into_iter()
            .any(|path| text(path).is_some());
        let delivery = if is_by_path {
            Delivery::SubPath
        } else {
            *delivery
        };
        uses.extend(
            sources
                .iter()
                .map(|source| new_use(container, delivery, source.clone())),
        );
    }
    uses
}

fn new_use(container: &Json, delivery: Delivery, source: Source) -> Use {
    Use {
        source,
        delivery,
        container: text(&container["name"]).unwrap_or_default(),
    }
}

fn list(value: &Json) -> impl Iterator<Item = &Json> {
    value.as_array().into_iter().flatten()
}

/// Returns the text of a non-empty string.
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
        let uses = uses(&spec);
        let got: Vec<(&str, Delivery)> = uses
            .iter()
            .map(|usage| {
                let (Source::Secret(name) | Source::Class(name)) = &usage.source;
                (name.as_str(), usage.delivery)
            })
            .collect();
        assert_eq!(got, want, "{spec}");
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
        let uses = uses(&spec);
        let containers: Vec<&str> = uses.iter().map(|usage| usage.container.as_str()).collect();
        assert_eq!(containers, ["a", "c", "d"]);
    }

    #[test]
    fn a_malformed_pod_spec_uses_no_secrets() {
        for spec in [
            json!(null),
            json!(5),
            json!({ "containers": 5, "volumes": [5, {}] }),
        ] {
            assert!(uses(&spec).is_empty(), "{spec}");
        }
    }
}
