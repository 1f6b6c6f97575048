//! Compares this project's template engine with Go's: for each template, the same bytes, or the same kind of error at
//! the same position.
//!
//! `SEALED_SECRETS_FUZZ_SECONDS=600 cargo test -p tests --test local templates::generated` compares generated
//! templates for ten minutes; `SEALED_SECRETS_FUZZ_SEED` sets the seed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::format_push_string,
    reason = "a test fails by panicking, in its helpers too"
)]

mod certificates;
mod corpus;
mod deviations;
mod examples;
mod fuzz;
mod generate;
mod rust_engine;
mod speed;
mod upstream;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use generate::RandomGenerator;
use upstream::{Upstream, Values, Verdict};

/// The maximum number of differences to report.
const MAX_SHOWN: usize = 60;

struct Comparison {
    upstream: Upstream,
    values: Values,
    differences: Vec<String>,
    compared_count: usize,
    over_budget_count: usize,
}

impl Comparison {
    fn new() -> Self {
        Self {
            upstream: Upstream::start(),
            values: corpus::values(),
            differences: Vec::new(),
            compared_count: 0,
            over_budget_count: 0,
        }
    }

    fn compare(&mut self, source: &str, template: &str) {
        let own_verdict = rust_engine::render(template, &self.values);
        if own_verdict == Verdict::OverBudget {
            self.over_budget_count += 1;
            return;
        }
        let go_verdict = self.upstream.render(template, &self.values);
        self.compared_count += 1;
        if !is_same_result(&own_verdict, &go_verdict)
            && deviations::reason(template, &own_verdict).is_none()
        {
            self.differences.push(format!(
                "{source}: {template}\n    this engine: {}\n    Go's:        {}",
                describe(&own_verdict),
                describe(&go_verdict)
            ));
        }
    }

    /// Fails if the results of a template differ. Returns the number of compared templates.
    fn assert_no_difference(self) -> usize {
        let count = self.differences.len();
        let listing = self
            .differences
            .iter()
            .take(MAX_SHOWN)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n");
        assert!(
            self.over_budget_count * 100 <= self.compared_count,
            "{} templates are over budget",
            self.over_budget_count
        );
        assert!(
            count == 0,
            "{count} of {} templates differ\n{listing}",
            self.compared_count
        );
        self.compared_count
    }
}

/// Returns whether the verdicts agree, including the position of an error where Go reports one.
fn is_same_result(own_verdict: &Verdict, go_verdict: &Verdict) -> bool {
    match (own_verdict, go_verdict) {
        (Verdict::RenderError(_), Verdict::RenderError(None)) => true,
        _ => own_verdict == go_verdict,
    }
}

fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Out(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        other => format!("{other:?}"),
    }
}

/// Attack: an author calls template functions that read the environment, files or DNS.
#[test]
fn has_exactly_the_functions_of_upstream() {
    let response = Upstream::start().ask(&serde_json::json!({ "functions": true }));
    let mut upstream_functions: BTreeSet<String> = response.functions.into_iter().collect();
    assert_eq!(upstream_functions.len(), 208);
    let builtins =
        "and call eq ge gt html index js le len lt ne not or print printf println urlquery";
    upstream_functions.extend(builtins.split(' ').map(str::to_owned));
    let own_functions: BTreeSet<String> = template::function_names().map(str::to_owned).collect();
    assert_eq!(own_functions, upstream_functions);
}

#[test]
fn every_deviation_still_exists_and_is_listed_on_the_page() {
    let page = include_str!("../../../../shared/template/README.md");
    let mut upstream = Upstream::start();
    for deviation in deviations::DEVIATIONS {
        let row = format!("\n| {} | ", deviation.title);
        assert!(page.contains(&row), "no row for: {}", deviation.title);
        if let Some(example) = deviation.example {
            let template = example();
            let own_verdict = rust_engine::render(&template, &Values::new());
            let go_verdict = upstream.render(&template, &Values::new());
            assert!(
                !is_same_result(&own_verdict, &go_verdict),
                "the deviation no longer exists: {template}"
            );
        }
    }
}

#[test]
fn the_corpus_renders_as_in_go() {
    let mut comparison = Comparison::new();
    for (source, template) in corpus::templates() {
        comparison.compare(&source, &template);
    }
    comparison.assert_no_difference();
}

#[test]
fn every_function_with_many_arguments_renders_as_in_go() {
    let mut comparison = Comparison::new();
    for template in generate::calls(template::function_names(), 40, 1) {
        comparison.compare("call", &template);
    }
    assert!(comparison.assert_no_difference() >= 1500);
}

#[test]
fn every_function_with_valid_arguments_renders_as_in_go() {
    let mut comparison = Comparison::new();
    for template in generate::fitting_calls(150, 2) {
        comparison.compare("call", &template);
    }
    assert!(comparison.assert_no_difference() >= 1500);
}

fn read_number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[test]
fn generated_templates_render_as_in_go() {
    let seconds = read_number("SEALED_SECRETS_FUZZ_SECONDS").unwrap_or(5);
    let end = Instant::now() + Duration::from_secs(seconds);
    let names: Vec<&str> = template::function_names().collect();
    let mut comparison = Comparison::new();
    let mut seed = read_number("SEALED_SECRETS_FUZZ_SEED").unwrap_or(1);
    while Instant::now() < end && comparison.differences.len() < MAX_SHOWN {
        let template = generate::template(&mut RandomGenerator::new(seed), &names);
        comparison.compare(&format!("seed {seed}"), &template);
        seed += 1;
    }
    assert!(comparison.assert_no_difference() > 100);
}
