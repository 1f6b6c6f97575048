//! What the chart makes of values, without a cluster.

use std::sync::LazyLock;

use serde_json::Value;
use tests::operators::objects;

use crate::helm::{Helm, chart};

static HELM: LazyLock<Helm> = LazyLock::new(Helm::alone);

/// A file with these values.
pub fn file(values: &str) -> String {
    HELM.values(values)
}

/// The objects of a release named `release` in namespace `home`.
pub struct Render(Vec<Value>);

impl Render {
    pub fn of(values: &str) -> Self {
        Self::with(values, &[])
    }

    /// With more words for Helm.
    pub fn with(values: &str, words: &[&str]) -> Self {
        let file = HELM.values(values);
        Self(objects(&HELM.run(&all_words(&chart(), &file, words))))
    }

    /// Helm's complaint about values that cannot be.
    pub fn refusal(values: &str) -> String {
        let file = HELM.values(values);
        HELM.fails(&all_words(&chart(), &file, &[]))
    }

    pub fn all(&self) -> &[Value] {
        &self.0
    }

    /// The object of a kind, or of `kind/name` where there are several.
    pub fn find(&self, which: &str) -> Option<&Value> {
        let (kind, name) = which.split_once('/').unwrap_or((which, ""));
        let fits = |object: &&Value| {
            object["kind"] == kind && (name.is_empty() || object["metadata"]["name"] == name)
        };
        self.0.iter().find(fits)
    }

    /// As [`Self::find`], where it must be.
    pub fn the(&self, which: &str) -> &Value {
        self.find(which)
            .unwrap_or_else(|| panic!("there is no {which}"))
    }

    pub fn container(&self) -> &Value {
        &self.the("Deployment")["spec"]["template"]["spec"]["containers"][0]
    }

    /// The controller's arguments, between spaces.
    pub fn arguments(&self) -> String {
        let arguments = self.container()["args"].as_array().unwrap().iter();
        let words: Vec<_> = arguments.map(|word| word.as_str().unwrap()).collect();
        format!(" {} ", words.join(" "))
    }
}

fn all_words<'a>(chart: &'a str, file: &'a str, words: &[&'a str]) -> Vec<&'a str> {
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
    all.extend(words);
    all
}
