//! Tests the page with a keyboard, assistive technology, and on different displays.

use serde_json::Value;
use tests::browser::Browser;
use tests::sealing::KEYS;

use super::{Form, certificate_of, object, unsealed};

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const SPACE: &str = " ";
const DOWN: &str = "\u{e015}";

#[test]
fn seals_by_keyboard_alone() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    let press = |keys: &[&str]| form.browser.press(&keys.concat());
    press(&[TAB, TAB, "shop", TAB, "db", TAB, DOWN, TAB]);
    assert_eq!(form.value("document.activeElement.id"), "type");
    press(&[TAB, "password", TAB, TAB, SPACE, TAB, "correct horse"]);
    assert_eq!(
        form.value("document.querySelector('.reveal').getAttribute('aria-pressed')"),
        "true"
    );
    press(&[TAB]);
    assert_eq!(form.value("document.activeElement.id"), "add");
    press(&[ENTER, "user", TAB, TAB, TAB, TAB, "ann"]);
    form.browser
        .call("async () => document.getElementById('seal').focus()", &[]);
    press(&[SPACE]);
    form.value("await new Promise(resolve => setTimeout(resolve, 500))");
    assert_eq!(
        form.value("document.activeElement.id"),
        "result",
        "the result is focused"
    );
    let text = form.value("$('output').value");
    let sealed = object(text.as_str().unwrap());
    let annotations = sealed.metadata.annotations.as_ref();
    let scope = shared::scope::Scope::from_annotations(annotations);
    assert_eq!(
        scope,
        shared::scope::Scope::NamespaceWide,
        "the arrow key chose the second scope"
    );
    let values = unsealed(&sealed);
    assert_eq!(values["password"], b"correct horse");
    assert_eq!(values["user"], b"ann");
}

#[test]
fn every_control_has_a_label_and_its_messages_are_connected() {
    let form = Form::open(None);
    let unnamed = form.value(
        "[...document.querySelectorAll('input, select, textarea')].filter(field => field.labels.length !== 1).length",
    );
    assert_eq!(unnamed, 0);
    form.seal();
    let unconnected = form.value(
        "[...document.querySelectorAll('[aria-invalid]')].filter(field => !field.getAttribute('aria-describedby') \
         .split(' ').some(id => document.getElementById(id).textContent !== '')).length",
    );
    assert_eq!(unconnected, 0);
    let ids = form.value("[...document.querySelectorAll('[id]')].map(field => field.id)");
    let ids = ids.as_array().unwrap();
    let distinct: std::collections::BTreeSet<_> = ids.iter().map(Value::to_string).collect();
    assert_eq!(ids.len(), distinct.len());
}

#[test]
fn fits_every_display_in_light_and_dark() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    form.fill("password", "hunter2");
    form.set_item(1, "key", "token");
    form.set_item(1, "source", "random");
    for (state, height) in [("form", 1500), ("sealed", 1900), ("problems", 1600)] {
        match state {
            "sealed" => drop(form.sealed()),
            "problems" => {
                form.reopen(None);
                form.set("certificate", "hello");
                form.seal();
            }
            _ => {}
        }
        for (display, width, height) in [("wide", 1200, height), ("narrow", 360, height + 900)] {
            for (design, is_dark) in [("light", false), ("dark", true)] {
                form.browser.set_display(width, height, is_dark);
                let overflow = form.value(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth",
                );
                assert_eq!(overflow, 0, "{state} on a {display} display");
                form.browser
                    .screenshot(&format!("page-{state}-{display}-{design}"));
            }
        }
    }
}

#[test]
#[ignore = "needs npm; `.ci/extra browser` runs it"]
fn axe_finds_no_serious_problem() {
    let source = tests::axe::source();
    let form = Form::open(None);
    form.browser
        .call("async () => $('name').labels[0].remove()", &[]);
    let problems = serious_problems(&form.browser, &source);
    assert_eq!(
        problems.len(),
        1,
        "axe-core finds a field without a label: {problems:#?}"
    );
    for is_dark in [false, true] {
        form.browser.set_display(1200, 1500, is_dark);
        form.reopen(None);
        assert_no_serious_problem(&form.browser, &source, "empty");
        form.seal();
        assert_no_serious_problem(&form.browser, &source, "with messages");
        form.choose("purpose", "merge");
        assert_no_serious_problem(&form.browser, &source, "with an existing object");
        form.reopen(Some(&certificate_of(&KEYS[0])));
        form.fill("password", "hunter2");
        form.set_item(1, "source", "random");
        form.set_item(1, "key", "b");
        form.set_item(2, "source", "file");
        assert_no_serious_problem(&form.browser, &source, "filled");
        form.browser.call("async () => allItems()[2].remove()", &[]);
        form.sealed();
        assert_no_serious_problem(&form.browser, &source, "sealed");
    }
}

/// Returns the problems of the open page that axe-core rates as serious or critical.
fn serious_problems(browser: &Browser, source: &str) -> Vec<Value> {
    let function = format!(
        "async () => {{ {source}; const found = await axe.run(document); return found.violations.map(problem => \
         [problem.impact, problem.id, problem.nodes.map(node => node.html)]); }}"
    );
    let problems = browser.call(&function, &[]);
    let mut problems = problems.as_array().unwrap().clone();
    problems.retain(|problem| {
        ["serious", "critical"].contains(&problem[0].as_str().unwrap_or_default())
    });
    problems
}

fn assert_no_serious_problem(browser: &Browser, source: &str, state: &str) {
    let problems = serious_problems(browser, source);
    assert!(problems.is_empty(), "{state}: {problems:#?}");
}
