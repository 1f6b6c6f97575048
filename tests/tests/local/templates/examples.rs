//! Runs the examples of the template crate's README.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use template::{Budget, Context, Data, Template};

const README: &str = include_str!("../../../../shared/template/README.md");

/// Returns the blocks of the page: the kind after the fence, and the content without the last line break.
fn blocks() -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((kind.to_owned(), body.join("\n")));
        }
    }
    blocks
}

/// Parses lines of the form `key = value`, where `\n` in a value is a line break.
fn values(text: &str) -> Data {
    let pairs = text
        .lines()
        .map(|line| line.split_once(" = ").expect("key = value"));
    Data::new(pairs.map(|(key, value)| (key, value.replace("\\n", "\n"))))
}

fn render(template: &str, values: &Data) -> String {
    let template = Template::parse("example", template).expect("the template parses");
    let mut rng = shared::random::system();
    let mut context = Context {
        budget: Budget::default(),
        now: jiff::Timestamp::now(),
        rng: &mut rng,
    };
    String::from_utf8(
        template
            .render(values, &mut context)
            .expect("the template renders"),
    )
    .expect("UTF-8")
}

#[test]
fn every_example_of_the_page_renders_as_stated() {
    let blocks = blocks();
    let examples: Vec<_> = blocks.chunks(3).collect();
    assert_eq!(examples.len(), 6);
    for example in examples {
        let [(first, template), (second, data), (third, expected)] = example else {
            panic!("an example has three blocks");
        };
        assert_eq!((&**first, &**second), ("template", "values"));
        let result = render(template, &values(data));
        match &**third {
            "result" => assert_eq!(result, *expected),
            "result-pattern" => {
                let pattern_match = format!("{{{{ regexMatch {expected:?} .result }}}}");
                assert_eq!(
                    render(&pattern_match, &Data::new([("result", result)])),
                    "true"
                );
            }
            other => panic!("an unknown block: {other}"),
        }
    }
}
