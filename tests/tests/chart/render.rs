//! Renders the chart with values, without a cluster.

use std::sync::LazyLock;

use serde_json::Value;
use tests::operators::objects;

use crate::helm::{Helm, chart};

static HELM: LazyLock<Helm> = LazyLock::new(Helm::without_cluster);

/// Writes a file with these values; returns its path.
pub fn file(values: &str) -> String {
    HELM.values(values)
}

/// The objects of a release named `release` in namespace `home`.
pub struct Render(Vec<Value>);

impl Render {
    pub fn of(values: &str) -> Self {
        Self::with(values, &[])
    }

    /// Renders with more Helm arguments.
    pub fn with(values: &str, args: &[&str]) -> Self {
        let file = HELM.values(values);
        Self(objects(&HELM.run(&helm_args(&chart(), &file, args))))
    }

    /// Returns Helm's error for invalid values.
    pub fn refusal(values: &str) -> String {
        let file = HELM.values(values);
        HELM.fails(&helm_args(&chart(), &file, &[]))
    }

    pub fn all(&self) -> &[Value] {
        &self.0
    }

    /// Returns the object of a kind, or of `kind/name` if there are several.
    pub fn find(&self, which: &str) -> Option<&Value> {
        let (kind, name) = which.split_once('/').unwrap_or((which, ""));
        let fits = |object: &&Value| {
            object["kind"] == kind && (name.is_empty() || object["metadata"]["name"] == name)
        };
        self.0.iter().find(fits)
    }

    /// Like [`Self::find`], for an object that must exist.
    pub fn the(&self, which: &str) -> &Value {
        self.find(which)
            .unwrap_or_else(|| panic!("{which} is not rendered"))
    }

    pub fn container(&self) -> &Value {
        &self.the("Deployment")["spec"]["template"]["spec"]["containers"][0]
    }

    /// Returns the controller's arguments, separated by spaces.
    pub fn arguments(&self) -> String {
        let arguments = self.container()["args"].as_array().unwrap().iter();
        let args: Vec<_> = arguments.map(|word| word.as_str().unwrap()).collect();
        format!(" {} ", args.join(" "))
    }
}

fn helm_args<'a>(chart: &'a str, file: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec![
        "template",
        "release",
        chart,
        "--namespace",
        "home",
        "--kube-version",
        "1.36.0",
        "-f",
        file,
    ];
    all.extend(args);
    all
}
