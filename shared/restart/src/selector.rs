//! Label selectors, with which workloads select their Pods.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// A label selector. An empty selector selects nothing, since the API does not allow it for workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    /// An unknown operator. A selector with such an operator selects nothing.
    Unknown,
}

impl Selector {
    /// Reads a selector as the API server returns it.
    pub fn read(selector: &Json) -> Self {
        let labels = selector["matchLabels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.as_str().unwrap_or_default().to_owned()]),
        });
        let expressions = selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten();
        Self(labels.chain(expressions.map(Requirement::read)).collect())
    }

    /// Returns whether the selector selects an object with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.0.is_empty() && self.0.iter().all(|requirement| requirement.is_met(labels))
    }
}

impl Requirement {
    fn read(expression: &Json) -> Self {
        let values = expression["values"].as_array().into_iter().flatten();
        let values = values
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect();
        let operator = match expression["operator"].as_str() {
            Some("In") => Operator::In(values),
            Some("NotIn") => Operator::NotIn(values),
            Some("Exists") => Operator::Exists,
            Some("DoesNotExist") => Operator::DoesNotExist,
            _ => Operator::Unknown,
        };
        Self {
            key: expression["key"].as_str().unwrap_or_default().to_owned(),
            operator,
        }
    }

    fn is_met(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Unknown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selects_by_labels_and_expressions() {
        let labels = BTreeMap::from(
            [("app", "web"), ("tier", "front")].map(|(a, b)| (a.to_owned(), b.to_owned())),
        );
        let expression = |key: &str, operator: &str, values: &[&str]| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        for (selector, want) in [
            (json!({ "matchLabels": { "app": "web" } }), true),
            (
                json!({ "matchLabels": { "app": "web", "tier": "back" } }),
                false,
            ),
            (json!({ "matchLabels": { "none": "" } }), false),
            (expression("app", "In", &["web", "api"]), true),
            (expression("app", "In", &[]), false),
            (expression("app", "NotIn", &["web"]), false),
            (expression("none", "NotIn", &["web"]), true),
            (expression("app", "Exists", &[]), true),
            (expression("none", "Exists", &[]), false),
            (expression("app", "DoesNotExist", &[]), false),
            (expression("none", "DoesNotExist", &[]), true),
            (expression("app", "Later", &["web"]), false),
            (json!({}), false),
            (json!(null), false),
        ] {
            assert_eq!(
                Selector::read(&selector).selects(&labels),
                want,
                "{selector}"
            );
        }
    }
}
