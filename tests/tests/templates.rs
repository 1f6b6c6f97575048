//! Compares our template engine with Go's: for each template, the same bytes, or the same kind of error at the
//! same position.
//!
//! `SEALED_SECRETS_FUZZ_SECONDS=600 cargo test -p tests --test templates generated` compares generated
//! templates for ten minutes; `SEALED_SECRETS_FUZZ_SEED` sets the seed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::format_push_string,
    reason = "in helpers of tests too"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[path = "../templates/corpus.rs"]
mod corpus;
#[path = "../templates/deviations.rs"]
mod deviations;
#[path = "../templates/generate.rs"]
mod generate;
#[path = "../templates/ours.rs"]
mod ours;
#[path = "../templates/upstream.rs"]
mod upstream;

use generate::Dice;
use upstream::{Upstream, Values, Verdict};

/// The maximum number of differences to report.
const MAX_SHOWN: usize = 60;

struct Comparison {
    upstream: Upstream,
    values: Values,
    differences: Vec<String>,
    compared: usize,
    over_budget: usize,
}

impl Comparison {
    fn new() -> Self {
        Self {
            upstream: Upstream::start(),
            values: corpus::values(),
            differences: Vec::new(),
            compared: 0,
            over_budget: 0,
        }
    }

    fn compare(&mut self, place: &str, template: &str) {
        let ours = ours::render(template, &self.values);
        if ours == Verdict::OverBudget {
            self.over_budget += 1;
            return;
        }
        let theirs = self.upstream.render(template, &self.values);
        self.compared += 1;
        if !agree(&ours, &theirs) && deviations::reason(template, &ours).is_none() {
            self.differences.push(format!(
                "{place}: {template}\n    ours {}\n    Go's {}",
                shown(&ours),
                shown(&theirs)
            ));
        }
    }

    fn finish(self) -> usize {
        let count = self.differences.len();
        let shown = self
            .differences
            .iter()
            .take(MAX_SHOWN)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n");
        assert!(
            self.over_budget * 100 <= self.compared,
            "{} templates are over budget",
            self.over_budget
        );
        assert!(
            count == 0,
            "{count} of {} templates differ\n{shown}",
            self.compared
        );
        self.compared
    }
}

/// Returns whether the verdicts agree, including the position of an error where Go reports one.
fn agree(ours: &Verdict, theirs: &Verdict) -> bool {
    match (ours, theirs) {
        (Verdict::RenderError(_), Verdict::RenderError(None)) => true,
        _ => ours == theirs,
    }
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Out(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        other => format!("{other:?}"),
    }
}

/// Attack: calls template functions that read the environment, files or DNS.
#[test]
fn has_exactly_the_functions_of_upstream() {
    let answer = Upstream::start().ask(&serde_json::json!({ "functions": true }));
    let mut theirs: BTreeSet<String> = answer.functions.into_iter().collect();
    assert_eq!(theirs.len(), 208);
    let builtins =
        "and call eq ge gt html index js le len lt ne not or print printf println urlquery";
    theirs.extend(builtins.split(' ').map(str::to_owned));
    let ours: BTreeSet<String> = template::function_names().map(str::to_owned).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn every_deviation_still_exists_and_is_listed_on_the_page() {
    let page = include_str!("../../shared/template/README.md");
    let mut upstream = Upstream::start();
    for deviation in deviations::DEVIATIONS {
        let row = format!("\n| {} | ", deviation.what);
        assert!(page.contains(&row), "no row for: {}", deviation.what);
        if let Some(example) = deviation.example {
            let template = example();
            let ours = ours::render(&template, &Values::new());
            let theirs = upstream.render(&template, &Values::new());
            assert!(
                !agree(&ours, &theirs),
                "the deviation no longer exists: {template}"
            );
        }
    }
}

#[test]
fn the_corpus_renders_like_in_go() {
    let mut comparison = Comparison::new();
    for (place, template) in corpus::templates() {
        comparison.compare(&place, &template);
    }
    comparison.finish();
}

#[test]
fn every_function_with_many_arguments_renders_like_in_go() {
    let mut comparison = Comparison::new();
    for template in generate::calls(template::function_names(), 40, 1) {
        comparison.compare("call", &template);
    }
    assert!(comparison.finish() >= 1500);
}

#[test]
fn every_function_with_valid_arguments_renders_like_in_go() {
    let mut comparison = Comparison::new();
    for template in generate::fitting_calls(150, 2) {
        comparison.compare("call", &template);
    }
    assert!(comparison.finish() >= 1500);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[test]
fn generated_templates_render_like_in_go() {
    let seconds = number("SEALED_SECRETS_FUZZ_SECONDS").unwrap_or(5);
    let end = Instant::now() + Duration::from_secs(seconds);
    let names: Vec<&str> = template::function_names().collect();
    let mut comparison = Comparison::new();
    let mut seed = number("SEALED_SECRETS_FUZZ_SEED").unwrap_or(1);
    while Instant::now() < end && comparison.differences.len() < MAX_SHOWN {
        let template = generate::template(&mut Dice::new(seed), &names);
        comparison.compare(&format!("seed {seed}"), &template);
        seed += 1;
    }
    assert!(comparison.finish() > 100);
}
