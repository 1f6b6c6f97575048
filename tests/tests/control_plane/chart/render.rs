//! Renders the chart with values, without a cluster.

use std::sync::LazyLock;

use serde_json::Value;
use tests::operators::objects;

use super::helm::{Helm, chart};

static HELM: LazyLock<Helm> = LazyLock::new(Helm::without_cluster);

/// Writes a YAML file for Helm or kubectl; returns its path.
pub fn write_file(values: &str) -> String {
    HELM.write_values(values)
}

/// The objects of a release named `release` in namespace `home`.
pub struct RenderedChart(Vec<Value>);

impl RenderedChart {
    pub fn new(values: &str) -> Self {
        Self::with_args(values, &[])
    }

    /// Renders with more Helm arguments.
    pub fn with_args(values: &str, args: &[&str]) -> Self {
        let file = HELM.write_values(values);
        Self(objects(&HELM.run(&helm_args(&chart(), &file, args))))
    }

    /// Returns Helm's error for invalid values.
    pub fn refusal(values: &str) -> String {
        let file = HELM.write_values(values);
        HELM.run_failing(&helm_args(&chart(), &file, &[]))
    }

    pub fn objects(&self) -> &[Value] {
        &self.0
    }

    /// Returns the object of a kind, or of `kind/name` if the kind has several; `None` if it is not rendered.
    pub fn find(&self, kind_or_name: &str) -> Option<&Value> {
        let (kind, name) = kind_or_name.split_once('/').unwrap_or((kind_or_name, ""));
        let is_match = |object: &&Value| {
            object["kind"] == kind && (name.is_empty() || object["metadata"]["name"] == name)
        };
        self.0.iter().find(is_match)
    }

    /// Like [`Self::find`], for an object that must exist.
    pub fn object(&self, kind_or_name: &str) -> &Value {
        self.find(kind_or_name)
            .unwrap_or_else(|| panic!("{kind_or_name} is not rendered"))
    }

    pub fn container(&self) -> &Value {
        &self.object("Deployment")["spec"]["template"]["spec"]["containers"][0]
    }

    /// Returns the controller's arguments, separated and surrounded by spaces.
    pub fn arguments(&self) -> String {
        let arguments = self.container()["args"].as_array().unwrap().iter();
        let args: Vec<_> = arguments.map(|arg| arg.as_str().unwrap()).collect();
        format!(" {} ", args.join(" "))
    }
}

fn helm_args<'a>(chart: &'a str, file: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    let mut all_args = vec![
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
    all_args.extend(args);
    all_args
}
