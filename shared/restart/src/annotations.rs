//! The annotations with which workloads opt in to restarts, of Stakater's Reloader and of Sealed Secrets.
//!
//! As in Reloader, the opt-in annotations of Reloader on the Pod template count only if the workload itself has none of
//! them, and an exclusion counts only on the workload. A change to a Secret that an annotation names or matches
//! restarts a workload even if the workload does not consume the Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde_json::Value as Json;
use shared::resource::{REFRESH_ANNOTATION, RESTART_ANNOTATION, RESTART_WINDOW_ANNOTATION};

use crate::consumption::Source;

/// Restarts the workload for every Secret or class that it consumes.
const AUTO: &str = "reloader.stakater.com/auto";
/// Restarts the workload for every consumed Secret that has [`MATCH`].
const SEARCH: &str = "reloader.stakater.com/search";
/// On a Secret: [`SEARCH`] includes the Secret.
const MATCH: &str = "reloader.stakater.com/match";
/// On a Secret: its changes restart no workload. On a workload: no change restarts the workload.
const IGNORE: &str = "reloader.stakater.com/ignore";
/// The default quiet time after the last change.
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);
/// The maximum quiet time, and the maximum time from the first change by which further changes delay a restart.
pub const LONGEST_WINDOW: Duration = Duration::from_mins(2);
/// Maximum size of a compiled pattern in bytes, since any client that may write workloads can set patterns.
const MAX_PATTERN: usize = 16 << 10;
/// Maximum length of a pattern in bytes.
const MAX_PATTERN_LENGTH: usize = 256;
/// Maximum number of patterns in one annotation. Further patterns have no effect.
pub const MAX_PATTERNS: usize = 32;
/// Maximum number of names in one annotation. Further names have no effect.
pub const MAX_NAMES: usize = 256;

/// The annotations that Reloader reads for one kind of source.
struct AnnotationNames {
    auto: &'static str,
    reload: &'static str,
    exclude: &'static str,
}

const SECRETS: AnnotationNames = AnnotationNames {
    auto: "secret.reloader.stakater.com/auto",
    reload: "secret.reloader.stakater.com/reload",
    exclude: "secrets.exclude.reloader.stakater.com/reload",
};
const CLASSES: AnnotationNames = AnnotationNames {
    auto: "secretproviderclass.reloader.stakater.com/auto",
    reload: "secretproviderclass.reloader.stakater.com/reload",
    exclude: "secretproviderclasses.exclude.reloader.stakater.com/reload",
};

/// The Secrets and classes whose changes restart a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptIn {
    /// Whether an annotation of Sealed Secrets opts in. Otherwise, only annotations of Reloader can opt in.
    has_own_annotation: bool,
    secrets: Rules,
    classes: Rules,
    /// Whether consumed Secrets with [`MATCH`] restart the workload.
    search: bool,
    /// The quiet time after the last change.
    pub window: Duration,
}

/// Which sources of one kind restart the workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rules {
    auto: bool,
    /// Entries that are literal names, without special characters of regular expressions.
    names: BTreeSet<String>,
    /// The other entries: regular expressions.
    patterns: Vec<String>,
    excluded: BTreeSet<String>,
    /// Whether entries have no effect, since there are too many or they are too long.
    is_truncated: bool,
}

/// The annotations of a Secret that Reloader reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretTags {
    /// Whether the annotation `reloader.stakater.com/match` is `true`, so that workloads with `search` include the
    /// Secret.
    pub is_match: bool,
    /// Whether changes to the Secret restart no workload.
    pub is_ignored: bool,
}

impl SecretTags {
    /// Reads the annotations that the Secret of a SealedSecret gets from the template, and those of the SealedSecret
    /// itself.
    pub fn from_sealed_secret(object: &Json) -> Self {
        let (template, own) = (
            &object["spec"]["template"]["metadata"]["annotations"],
            &object["metadata"]["annotations"],
        );
        let is_set = |name| [template, own].iter().any(|all| all[name] == "true");
        Self {
            is_match: is_set(MATCH),
            is_ignored: is_set(IGNORE),
        }
    }
}

impl OptIn {
    /// Reads the opt-in annotations of a workload and its Pod template.
    pub fn read(workload: &Json, template: &Json) -> Self {
        let opting = [
            AUTO,
            SEARCH,
            SECRETS.auto,
            SECRETS.reload,
            CLASSES.auto,
            CLASSES.reload,
        ];
        let has_own = opting.iter().any(|name| !workload[*name].is_null());
        let chosen = if has_own { workload } else { template };
        let auto = is_true(&chosen[AUTO]);
        let has_own_annotation = [workload, template]
            .iter()
            .any(|all| all[RESTART_ANNOTATION] == "auto");
        if workload[IGNORE] == "true" {
            return Self::default();
        }
        let rules = |names: &AnnotationNames| Rules {
            auto: auto || has_own_annotation || is_true(&chosen[names.auto]),
            excluded: entries(&workload[names.exclude])
                .map(str::to_owned)
                .collect(),
            ..Rules::from_list(&chosen[names.reload])
        };
        Self {
            has_own_annotation,
            secrets: rules(&SECRETS),
            classes: rules(&CLASSES),
            search: chosen[SEARCH] == "true",
            window: window(&[workload, template]),
        }
    }

    /// Returns whether the workload opts in to restarts, for at least one Secret or class.
    pub fn is_enabled(&self) -> bool {
        self.search || self.secrets.is_enabled() || self.classes.is_enabled()
    }

    /// Returns whether no annotation of Sealed Secrets opts in. If Reloader runs, it restarts such a workload as its
    /// annotations require.
    pub fn is_by_reloader_alone(&self) -> bool {
        !self.has_own_annotation
    }

    /// Returns whether a change to this source restarts the workload. `is_consumed` is whether the workload consumes
    /// the source; `is_matched` returns whether one of the patterns matches the name.
    pub fn includes(
        &self,
        source: &Source,
        tags: SecretTags,
        is_consumed: bool,
        is_matched: impl FnOnce() -> bool,
    ) -> bool {
        match source {
            Source::Secret(name) => {
                let by_search = self.search && tags.is_match;
                let rules = &self.secrets;
                !tags.is_ignored && rules.include(name, is_consumed, by_search, is_matched)
            }
            Source::Class(name) => self.classes.include(name, is_consumed, false, is_matched),
        }
    }

    /// Returns the Secrets that an annotation names, without Secrets that only a pattern matches.
    pub fn named_secrets(&self) -> &BTreeSet<String> {
        &self.secrets.names
    }

    /// Returns the patterns for names of Secrets.
    pub fn secret_patterns(&self) -> &[String] {
        &self.secrets.patterns
    }

    /// Returns whether entries of the annotation that names Secrets have no effect, since there are too many or they
    /// are too long.
    pub fn is_truncated(&self) -> bool {
        self.secrets.is_truncated
    }
}

/// Returns the names that match the pattern completely. A pattern that cannot be parsed (as in Reloader) or is too
/// large matches nothing. Unlike in Reloader, where `a|b` matches every name that begins with `a`, the anchors enclose
/// alternatives.
pub fn matching_names<'a>(pattern: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let anchored = format!("^(?:{pattern})$");
    let compiled = RegexBuilder::new(&anchored).size_limit(MAX_PATTERN).build();
    let compiled: Option<Regex> = compiled.ok();
    let Some(pattern) = compiled else {
        return Vec::new();
    };
    names.filter(|name| pattern.is_match(name)).collect()
}

impl Rules {
    /// Reads the names and patterns of a comma-separated list.
    fn from_list(list: &Json) -> Self {
        let mut rules = Self::default();
        for entry in entries(list) {
            let is_name = !entry.contains(is_regex_character);
            if is_name && rules.names.len() < MAX_NAMES {
                rules.names.insert(entry.to_owned());
            } else if !is_name
                && entry.len() <= MAX_PATTERN_LENGTH
                && rules.patterns.len() < MAX_PATTERNS
            {
                rules.patterns.push(entry.to_owned());
            } else {
                rules.is_truncated = true;
            }
        }
        rules
    }

    fn is_enabled(&self) -> bool {
        self.auto || !self.names.is_empty() || !self.patterns.is_empty()
    }

    fn include(
        &self,
        name: &str,
        is_consumed: bool,
        by_search: bool,
        is_matched: impl FnOnce() -> bool,
    ) -> bool {
        let is_named = || self.names.contains(name) || !self.patterns.is_empty() && is_matched();
        !self.excluded.contains(name) && (is_consumed && (self.auto || by_search) || is_named())
    }
}

/// Returns whether a character has a meaning in regular expressions.
fn is_regex_character(character: char) -> bool {
    r".*+?()[]{}|\^$".contains(character)
}

/// Returns whether the annotation of a SealedSecret, a Namespace or a Pod enables the refresh of Pods, or disables it
/// (`Some(false)`); `None` if it is not set.
pub fn refresh(annotations: &Json) -> Option<bool> {
    annotations[REFRESH_ANNOTATION].as_str().map(parse_bool)
}

/// Parses a boolean as Go's `strconv.ParseBool` does; any other text is false.
fn parse_bool(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

fn is_true(value: &Json) -> bool {
    value.as_str().is_some_and(parse_bool)
}

fn entries(value: &Json) -> impl Iterator<Item = &str> {
    let entries = value.as_str().unwrap_or_default().split(',').map(str::trim);
    entries.filter(|entry| !entry.is_empty())
}

/// Returns the quiet time from the first annotation that can be parsed, limited to [`LONGEST_WINDOW`], or the default.
fn window(annotations: &[&Json]) -> Duration {
    let parse = |all: &&Json| {
        let text = all[RESTART_WINDOW_ANNOTATION].as_str()?;
        let duration: jiff::SignedDuration = text.parse().ok()?;
        Duration::try_from(duration).ok()
    };
    let window = annotations.iter().find_map(parse);
    window.unwrap_or(DEFAULT_WINDOW).min(LONGEST_WINDOW)
}

/// Returns the annotations of an object as JSON, or null.
pub fn from_object(object: &Json) -> &Json {
    &object["metadata"]["annotations"]
}

/// Returns the labels of an object.
pub fn labels(object: &Json) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten();
    let labels =
        labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    labels.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NO_TAGS: SecretTags = SecretTags {
        is_match: false,
        is_ignored: false,
    };
    const MATCHING: SecretTags = SecretTags {
        is_match: true,
        is_ignored: false,
    };
    const IGNORED: SecretTags = SecretTags {
        is_match: true,
        is_ignored: true,
    };

    /// Returns whether a change to the Secret `db` restarts a workload with these annotations.
    fn restarts(workload: &Json, template: &Json, tags: SecretTags, is_consumed: bool) -> bool {
        let opt_in = OptIn::read(workload, template);
        let mut patterns = opt_in.secret_patterns().iter();
        let is_matched =
            || patterns.any(|pattern| !matching_names(pattern, ["db"].into_iter()).is_empty());
        opt_in.includes(&Source::Secret("db".into()), tags, is_consumed, is_matched)
    }

    #[test]
    fn annotations_opt_in_for_consumed_secrets() {
        for (annotations, tags, want) in [
            (json!({}), NO_TAGS, false),
            (
                json!({ "reloader.stakater.com/auto": "true" }),
                NO_TAGS,
                true,
            ),
            (json!({ "reloader.stakater.com/auto": "T" }), NO_TAGS, true),
            (
                json!({ "reloader.stakater.com/auto": "false" }),
                NO_TAGS,
                false,
            ),
            (
                json!({ "reloader.stakater.com/auto": "yes" }),
                NO_TAGS,
                false,
            ),
            (
                json!({ "reloader.stakater.com/auto": true }),
                NO_TAGS,
                false,
            ),
            (
                json!({ "secret.reloader.stakater.com/auto": "true" }),
                NO_TAGS,
                true,
            ),
            (
                json!({ "configmap.reloader.stakater.com/auto": "true" }),
                NO_TAGS,
                false,
            ),
            (
                json!({ "secretproviderclass.reloader.stakater.com/auto": "true" }),
                NO_TAGS,
                false,
            ),
            (
                json!({ "sealedsecrets.bitnami.com/restart": "auto" }),
                NO_TAGS,
                true,
            ),
            (
                json!({ "sealedsecrets.bitnami.com/restart": "true" }),
                NO_TAGS,
                false,
            ),
            (
                json!({ "reloader.stakater.com/search": "true" }),
                NO_TAGS,
                false,
            ),
            (
                json!({ "reloader.stakater.com/search": "true" }),
                MATCHING,
                true,
            ),
            (
                json!({ "reloader.stakater.com/search": "1" }),
                MATCHING,
                false,
            ),
            (
                json!({ "reloader.stakater.com/search": "true" }),
                IGNORED,
                false,
            ),
            (
                json!({ "reloader.stakater.com/auto": "true" }),
                IGNORED,
                false,
            ),
            (
                json!({ "secret.reloader.stakater.com/reload": "db" }),
                IGNORED,
                false,
            ),
        ] {
            assert_eq!(
                restarts(&annotations, &json!({}), tags, true),
                want,
                "on the workload: {annotations}"
            );
            assert_eq!(
                restarts(&json!({}), &annotations, tags, true),
                want,
                "on the template: {annotations}"
            );
        }
    }

    #[test]
    fn patterns_in_annotations_match_only_whole_names() {
        for (list, want) in [
            ("db", true),
            ("web, db", true),
            ("d.", true),
            ("d", false),
            ("b", false),
            ("d|db", true),
            ("d|x", false),
            ("(", false),
            ("(,db", true),
            ("", false),
        ] {
            let annotations = json!({ "secret.reloader.stakater.com/reload": list });
            for is_consumed in [true, false] {
                assert_eq!(
                    restarts(&annotations, &json!({}), NO_TAGS, is_consumed),
                    want,
                    "{list:?}"
                );
            }
        }
    }

    #[test]
    fn an_ignored_workload_is_never_restarted() {
        let annotations =
            json!({ "reloader.stakater.com/auto": "true", "reloader.stakater.com/ignore": "true" });
        assert!(!restarts(&annotations, &json!({}), NO_TAGS, true));
    }

    #[test]
    fn automatic_modes_require_that_the_secret_is_consumed() {
        for annotations in [
            json!({ "reloader.stakater.com/auto": "true" }),
            json!({ "reloader.stakater.com/search": "true" }),
            json!({ "sealedsecrets.bitnami.com/restart": "auto" }),
        ] {
            assert!(
                !restarts(&annotations, &json!({}), MATCHING, false),
                "{annotations}"
            );
        }
    }

    #[test]
    fn exclusions_apply_only_to_exact_names_on_the_workload() {
        let exclude = |list: &str| json!({ "reloader.stakater.com/auto": "true", "secrets.exclude.reloader.stakater.com/reload": list });
        for (list, want) in [("db", false), ("web, db", false), ("d.", true), ("", true)] {
            assert_eq!(
                restarts(&exclude(list), &json!({}), NO_TAGS, true),
                want,
                "{list:?}"
            );
        }
        assert!(
            restarts(&json!({}), &exclude("db"), NO_TAGS, true),
            "on the template"
        );
    }

    #[test]
    fn the_workload_overrides_its_template() {
        let auto = |value: &str| json!({ "reloader.stakater.com/auto": value });
        assert!(!restarts(&auto("false"), &auto("true"), NO_TAGS, true));
        assert!(restarts(&auto("true"), &auto("false"), NO_TAGS, true));
        let named = json!({ "secret.reloader.stakater.com/reload": "web" });
        assert!(!restarts(&named, &auto("true"), NO_TAGS, true));
    }

    #[test]
    fn classes_have_their_own_annotations() {
        let class = Source::Class("web".into());
        for (annotations, want) in [
            (json!({ "reloader.stakater.com/auto": "true" }), true),
            (
                json!({ "secretproviderclass.reloader.stakater.com/auto": "true" }),
                true,
            ),
            (
                json!({ "secretproviderclass.reloader.stakater.com/reload": "web" }),
                true,
            ),
            (
                json!({ "secret.reloader.stakater.com/auto": "true" }),
                false,
            ),
            (
                json!({ "secret.reloader.stakater.com/reload": "web" }),
                false,
            ),
            (
                json!({ "reloader.stakater.com/auto": "true", "secretproviderclasses.exclude.reloader.stakater.com/reload": "web" }),
                false,
            ),
        ] {
            let opt_in = OptIn::read(&annotations, &json!({}));
            assert_eq!(
                opt_in.includes(&class, NO_TAGS, true, || false),
                want,
                "{annotations}"
            );
        }
    }

    #[test]
    fn detects_workloads_that_only_reloader_annotations_opt_in() {
        let reloader = json!({ "reloader.stakater.com/auto": "true" });
        let both = json!({ "reloader.stakater.com/auto": "true", "sealedsecrets.bitnami.com/restart": "auto" });
        assert!(OptIn::read(&reloader, &json!({})).is_by_reloader_alone());
        assert!(!OptIn::read(&both, &json!({})).is_by_reloader_alone());
    }

    #[test]
    fn the_window_has_a_maximum() {
        let window = |text: &str| {
            OptIn::read(
                &json!({ "sealedsecrets.bitnami.com/restart-window": text }),
                &json!({}),
            )
            .window
        };
        for (text, seconds) in [
            ("30s", 30),
            ("1m", 60),
            ("0s", 0),
            ("5m", 120),
            ("-5s", 10),
            ("soon", 10),
            ("", 10),
        ] {
            assert_eq!(window(text).as_secs(), seconds, "{text:?}");
        }
    }

    #[test]
    fn tags_apply_from_the_template_and_the_sealed_secret() {
        let tags = |own: Json, template: Json| {
            SecretTags::from_sealed_secret(&json!({
                "metadata": { "annotations": own }, "spec": { "template": { "metadata": { "annotations": template } } },
            }))
        };
        let matching = json!({ "reloader.stakater.com/match": "true" });
        let ignored = json!({ "reloader.stakater.com/ignore": "true" });
        assert_eq!(tags(json!(null), json!(null)), NO_TAGS);
        assert_eq!(tags(matching.clone(), json!({})), MATCHING);
        assert_eq!(tags(json!({}), matching.clone()), MATCHING);
        assert_eq!(tags(ignored, matching), IGNORED);
        assert_eq!(
            tags(json!({ "reloader.stakater.com/match": "1" }), json!({})),
            NO_TAGS
        );
    }

    /// Attack: a client that may write workloads sets patterns that exhaust the memory and CPU of `seal restart`.
    #[test]
    fn limits_the_number_and_size_of_patterns() {
        let read = |list: &str| {
            OptIn::read(
                &json!({ "secret.reloader.stakater.com/reload": list }),
                &json!({}),
            )
        };
        let names = ["aaaa"];
        assert_eq!(matching_names("a{1,9}", names.into_iter()), names);
        assert!(matching_names("(?:a{1000}){1000}|aaaa", names.into_iter()).is_empty());
        for (list, patterns, literals, is_truncated) in [
            ("a.*,".repeat(MAX_PATTERNS), MAX_PATTERNS, 0, false),
            ("a.*,".repeat(MAX_PATTERNS + 1), MAX_PATTERNS, 0, true),
            ("a.*,b".to_owned(), 1, 1, false),
            (".".repeat(MAX_PATTERN_LENGTH), 1, 0, false),
            (".".repeat(MAX_PATTERN_LENGTH + 1), 0, 0, true),
            ("a,".repeat(1000), 0, 1, false),
        ] {
            let opt_in = read(&list);
            let counts = (opt_in.secret_patterns().len(), opt_in.named_secrets().len());
            assert_eq!(
                (counts, opt_in.is_truncated()),
                ((patterns, literals), is_truncated),
                "{list}"
            );
        }
        let many: Vec<String> = (0..=MAX_NAMES).map(|number| number.to_string()).collect();
        assert!(read(&many.join(",")).is_truncated());
    }
}
