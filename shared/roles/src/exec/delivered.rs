//! `seal exec --from`: values that the controller delivers to this Pod.

use agent::poll::Poll;
use anyhow::{Result, bail};
use deliver::{Answer, EntryBody, Request, RequestBody};

use super::supervisor::{self, OnChange};
use super::{Delivered, Passing, Values, become_command};
use crate::Variables;
use crate::agent::{connect, stop_on_signals};
use crate::failure::Failure;
use crate::report;

/// Waits for the values from the controller, and runs the command with them.
pub(super) fn run(args: &Delivered<'_>, variables: Variables) -> Result<()> {
    let passing = args.passing;
    if passing.only.is_empty() && !passing.all {
        bail!(
            Failure::new("choose the items to pass to the command")
                .hint("--only ITEM,VARIABLE=ITEM passes these items")
                .hint("--all passes every item; then the authors of the SealedSecrets choose the names of variables")
        );
    }
    let on_change = args
        .on_change
        .map(|text| OnChange::parse(text, passing.files));
    let on_change = on_change.transpose()?;
    let entries = entries(args)?;
    let client = connect(args.delivery, variables)?;
    let mut poll = Poll::new(client, entries, report::info_lines);
    if let Some(on_change) = on_change {
        return supervisor::run(passing, on_change, poll, variables);
    }
    stop_on_signals()?;
    let values = values(passing, &poll.next_change())?;
    become_command(passing, &values, variables)
}

/// Returns one entry for each object, each with a directory of its own. If there is a single object, only the
/// chosen items are requested.
fn entries(args: &Delivered<'_>) -> Result<Vec<EntryBody>> {
    let chosen = || {
        args.passing
            .only
            .iter()
            .map(|choice| choice.item.clone())
            .collect()
    };
    let items = (args.from.len() == 1 && !args.passing.all).then(chosen);
    let entry = |name: &String| EntryBody {
        sealed_secret: Some(name.clone()),
        items: items.clone(),
        path: Some(format!("{name}/")),
        ..EntryBody::default()
    };
    let objects: Vec<EntryBody> = args.from.iter().map(entry).collect();
    let body = RequestBody {
        objects: objects.clone(),
        ..RequestBody::default()
    };
    if let Err(error) = Request::try_from(body) {
        bail!(Failure::new(error.to_string()).hint(error.hint()));
    }
    Ok(objects)
}

/// Returns the values to choose from, by item. Fails if several objects have a chosen item. Of other items with the
/// same name, the last one is kept.
pub(super) fn values(passing: &Passing, answer: &Answer) -> Result<Values> {
    let is_chosen =
        |item: &str| passing.all || passing.only.iter().any(|chosen| chosen.item == item);
    let mut values = Values::new();
    for file in &answer.files {
        let item = file.path.components().last().unwrap_or_default();
        if is_chosen(item) && values.contains_key(item) {
            bail!(
                Failure::new(format!("several SealedSecrets contain an item {item}"))
                    .hint("run the command with one of them")
            );
        }
        values.insert(item.to_owned(), file.value.clone());
    }
    Ok(values)
}
