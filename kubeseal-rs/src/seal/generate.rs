//! `seal generate`: creates a SealedSecret of random values that are never shown.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use kubeseal_library::environment::Environment;
use kubeseal_library::recipe::{Random, Recipe};
use shared::plain::Plain;
use shared::secret::Secret;

use super::create::{self, Items};
use super::session::Session;
use super::values::{self, Stdin};
use super::{Outcome, names, sealing};
use crate::report;
use crate::seal_args::Generate;

/// The arguments are not valid.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// An argument has no recipe. The message does not quote it, since it may be a value.
    #[error(
        "invalid item: expected KEY=RECIPE, such as password=password:24\nhint: `seal generate --help` lists the \
         recipes"
    )]
    Form,
    /// A password is passed, but no recipe uses it.
    #[error(
        "no recipe uses a password\nhint: --password-stdin and --password-prompt are for htpasswd and docker"
    )]
    UnusedPassword,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if a recipe or name is not valid, or the result cannot be sealed.
pub fn run(args: &Generate, environment: &Environment) -> Result<Outcome> {
    names::check_object(&args.name)?;
    args.destination.check()?;
    let recipes = recipes(&args.items)?;
    let session = Session::new(&args.sealing, environment);
    let settings = session.settings(&args.destination.path(&args.name))?;
    let password = read_password(args, &recipes, environment)?;
    let mut random = Random {
        rng: &mut shared::random::system(),
        now: environment.now,
    };
    let (mut items, mut public) = (Items::default(), BTreeMap::new());
    for (key, recipe) in &recipes {
        let generated = recipe
            .generate(key, password.as_ref(), &mut random)
            .with_context(|| format!("the item {key:?}"))?;
        for (key, value) in generated.sealed {
            items.add(&key, value)?;
        }
        public.extend(generated.public);
    }
    let mut secret = create::secret(&args.name, &args.like, items)?;
    set_type(&mut secret, &public);
    let mut sealed = sealing::seal_secret(&session, &settings, secret, sealing::Empty::Refused)?;
    for key in public.keys() {
        report::info(&format!(
            "{key} is public, and is stored in plaintext in spec.template.data"
        ));
    }
    if !public.is_empty() {
        let data = public.into_iter().map(|(key, text)| (key, Some(text)));
        sealed.object.spec.template.data = Some(data.collect());
    }
    args.destination.put(&[sealed])
}

fn recipes(args: &[String]) -> Result<Vec<(String, Recipe)>> {
    let read = |arg: &String| -> Result<(String, Recipe)> {
        let (key, recipe) = arg.split_once('=').ok_or(GenerateError::Form)?;
        names::check_item(key)?;
        let recipe = recipe
            .parse()
            .with_context(|| format!("the item {key:?}"))?;
        Ok((key.to_owned(), recipe))
    };
    args.iter().map(read).collect()
}

fn read_password(
    args: &Generate,
    recipes: &[(String, Recipe)],
    environment: &Environment,
) -> Result<Option<Plain>> {
    if !args.password_stdin && !args.password_prompt {
        return Ok(None);
    }
    if !recipes.iter().any(|(_, recipe)| recipe.accepts_password()) {
        return Err(GenerateError::UnusedPassword.into());
    }
    if args.password_prompt {
        return values::prompt("the password").map(Some);
    }
    Stdin::new(environment).read("the password").map(Some)
}

/// Sets the type that Kubernetes defines for these items, unless the user sets one.
fn set_type(secret: &mut Secret, public: &BTreeMap<String, String>) {
    let keys: Vec<&str> = secret
        .data
        .keys()
        .chain(public.keys())
        .map(String::as_str)
        .collect();
    let type_ = match keys.as_slice() {
        ["tls.key", "tls.crt"] => "kubernetes.io/tls",
        [".dockerconfigjson"] => "kubernetes.io/dockerconfigjson",
        _ => return,
    };
    secret.type_.get_or_insert_with(|| type_.to_owned());
}
