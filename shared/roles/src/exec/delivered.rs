//! `seal exec --from`: values that the controller delivers to this Pod.

use agent::poll::Poll;
use anyhow::{Result, bail};
use deliver::{DeliveredObject, EntryBody, Request, RequestBody, Response};

use super::supervisor::{self, OnChange};
use super::{CommandArgs, DeliveryCommand, Values, become_command_after};
use crate::Variables;
use crate::agent::{connect, stop_on_signals};
use crate::failure::Failure;
use crate::report;

/// Waits for the values from the controller, and runs the command with them.
pub(super) fn run(args: &DeliveryCommand<'_>, variables: Variables) -> Result<()> {
    let command_args = args.command_args;
    if command_args.only.is_empty() && !command_args.all {
        bail!(
            Failure::new("choose the items to pass to the command")
                .hint("name the items with --only ITEM,VARIABLE=ITEM")
                .hint(
                    "or pass every item with --all; then the authors of the SealedSecrets choose the names of \
                     variables"
                )
        );
    }
    let on_change = args
        .on_change
        .map(|text| OnChange::parse(text, command_args.files));
    let on_change = on_change.transpose()?;
    let entries = entries(args)?;
    let client = connect(args.delivery, variables)?;
    let mut poll = Poll::new(client, entries, report::info_lines);
    if let Some(on_change) = on_change {
        return supervisor::run(command_args, on_change, poll, variables);
    }
    stop_on_signals()?;
    let response = poll.next_change();
    let values = values(command_args, &response)?;
    become_command_after(command_args, &values, variables, || {
        report_passed(&response.objects, Passed::AtStart);
    })
}

/// How the command receives the values of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// When it starts.
    AtStart,
    /// In files that it has open.
    InFiles,
}

impl Passed {
    fn outcome(self) -> &'static str {
        match self {
            Self::AtStart => "starting the command",
            Self::InFiles => "replaced the files of the command",
        }
    }
}

/// Logs the versions of the values that the command receives, for `seal pods`. Must be called before the command is
/// started or signaled, so that the output of the command follows the report.
pub(super) fn report_passed(objects: &[DeliveredObject], passed: Passed) {
    report::info(&deliver::report::line(objects, passed.outcome()));
}

/// Returns one entry for each object, each with a separate directory. For a single object without `--all`, requests
/// only the chosen items.
fn entries(args: &DeliveryCommand<'_>) -> Result<Vec<EntryBody>> {
    let chosen = || {
        args.command_args
            .only
            .iter()
            .map(|choice| choice.item.clone())
            .collect()
    };
    let items = (args.from.len() == 1 && !args.command_args.all).then(chosen);
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

/// Returns the values to choose from, by item. Fails if several objects have a chosen item, or none has it. Of other
/// items with the same name, the last value is kept.
pub(super) fn values(command_args: &CommandArgs, response: &Response) -> Result<Values> {
    let is_chosen =
        |item: &str| command_args.all || command_args.only.iter().any(|chosen| chosen.item == item);
    let mut values = Values::new();
    for file in &response.files {
        let item = file.path.components().last().unwrap_or_default();
        if is_chosen(item) && values.contains_key(item) {
            bail!(
                Failure::new(format!("several SealedSecrets contain an item {item}"))
                    .hint("run the command with only one of these SealedSecrets")
            );
        }
        values.insert(item.to_owned(), file.value.clone());
    }
    check_chosen(command_args, &values)?;
    Ok(values)
}

/// Checks that the chosen items exist. The error does not list other items, because the names of the items in `spec.data`
/// are secret.
fn check_chosen(command_args: &CommandArgs, values: &Values) -> Result<()> {
    let mut chosen = command_args.only.iter();
    if let Some(missing) = chosen.find(|chosen| !values.contains_key(&chosen.item)) {
        bail!(
            Failure::new(format!(
                "no SealedSecret contains the item {}",
                missing.item
            ))
            .hint("seal the item, or check its name")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a user who may read logs looks for the names of the items in `spec.data`.
    #[test]
    fn an_error_about_a_missing_item_lists_no_other_items() {
        let args = CommandArgs {
            only: vec!["nosuch".parse().unwrap()],
            ..CommandArgs::default()
        };
        let values = Values::from([("hidden-item-name".to_owned(), b"x".to_vec().into())]);
        let error = Failure::from(check_chosen(&args, &values).unwrap_err()).to_string();
        assert!(
            error.contains("nosuch") && !error.contains("hidden"),
            "{error}"
        );
    }

    /// Fault: `seal pods` cannot read the report of a command, and shows a version that the command has not received.
    #[test]
    fn a_report_names_the_versions_that_the_command_received() {
        let object = |name: &str, generation| DeliveredObject {
            name: name.to_owned(),
            generation,
            version: format!("{name}-version"),
        };
        let objects = vec![object("db", 3), object("web", 1)];
        for passed in [Passed::AtStart, Passed::InFiles] {
            let line = deliver::report::line(&objects, passed.outcome());
            assert_eq!(
                deliver::report::first(&line),
                Some(objects.clone()),
                "{line}"
            );
        }
    }
}
