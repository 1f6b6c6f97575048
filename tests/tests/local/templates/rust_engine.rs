//! The Rust side of the differential tests.

use template::{Budget, Context, Data, ErrorKind, RenderError, Template};

use super::upstream::{Values, Verdict};

pub(crate) fn render(text: &str, values: &Values) -> Verdict {
    let Ok(template) = Template::parse("t", text) else {
        return Verdict::ParseError;
    };
    let data = Data::new(values.iter().map(|(key, value)| (key, value.clone())));
    let mut rng = shared::random::system();
    let mut context = Context {
        budget: Budget::default(),
        now: jiff::Timestamp::now(),
        rng: &mut rng,
    };
    match template.render(&data, &mut context) {
        Ok(out) => Verdict::Out(out),
        Err(RenderError {
            kind: ErrorKind::Limit(_),
            ..
        }) => Verdict::OverBudget,
        Err(error) => Verdict::RenderError(Some((error.line, error.column))),
    }
}
