//! `seal generate`: creates a SealedSecret with random values that are never shown.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kubeseal_library::environment::Environment;
use kubeseal_library::recipe::{GenerationContext, Recipe};
use shared::plain::Plain;
use shared::rotate_by::RotateBy;
use shared::secret::Secret;

use super::create::{self, Items};
use super::sealing::{Empty, Parts, Templates};
use super::session::Session;
use super::values::{self, Stdin};
use super::{Outcome, names, sealing};
use crate::failure::Failure;
use crate::report;
use crate::seal_args::{Destination, Sealing, SecretProperties};

/// Arguments of `seal generate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Recipes:
  password[:LENGTH]   letters and digits, 32 by default; options upper=N lower=N digits=N symbols=N
                      (minimum number, 0 for none) and without=CHARS
  hex[:BYTES]         random bytes in hexadecimal, 32 by default
  base64[:BYTES]      random bytes in base64, 32 by default
  uuid                version 4
  rsa[:BITS]          key pair, PKCS#8 in PEM; the public key is added in plain text as KEY.pub
  ed25519             key pair, like rsa
  ecdsa[:p384]        key pair, like rsa; P-256 by default
  tls:HOST[,HOST…]    KEY.key, and a self-signed certificate in plain text as KEY.crt; days=N, 365 by default
  htpasswd:USER       a line with a bcrypt hash, and the password as KEY.password
  docker:SERVER,USER  config.json for a registry; name the key .dockerconfigjson

Examples:
  seal generate db password=password:24,symbols=2 -n shop -w db.yaml
  seal generate web tls=tls:shop.example.com session=hex -n shop -w web.yaml
  seal generate pull .dockerconfigjson=docker:r.example,ci -n shop --password-stdin < password.txt")]
pub struct Generate {
    /// Name of the Secret
    pub name: String,
    /// Items to generate
    #[arg(required = true, value_name = "KEY=RECIPE")]
    pub items: Vec<String>,
    /// Read from stdin the password that the recipes htpasswd and docker use; a line break at its end is removed
    #[arg(long)]
    pub password_stdin: bool,
    /// Prompt for the password that the recipes htpasswd and docker use, without showing it
    #[arg(long, conflicts_with = "password_stdin")]
    pub password_prompt: bool,
    /// When to change these values: after a number of days such as 90d, on a date such as 2027-03-01, or never;
    /// recorded in an annotation, see `seal due`
    #[arg(long, value_name = "DAYS|DATE")]
    pub rotate_by: Option<RotateBy>,
    /// Properties of the Secret besides its values.
    #[command(flatten)]
    pub properties: SecretProperties,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Creates a SealedSecret with random values that are never shown.
///
/// # Errors
///
/// Fails if an argument is not valid, the password cannot be read, or the result cannot be sealed or written.
pub fn run(args: &Generate, environment: &Environment) -> Result<Outcome> {
    names::check_object(&args.name)?;
    args.destination.check()?;
    let recipes = recipes(&args.items)?;
    let session = Session::new(&args.sealing, environment).with_rotate_by(args.rotate_by);
    let settings = session.settings(&args.destination.path(&args.name))?;
    let delivery = args.properties.delivery();
    delivery.check_format(settings.format.value)?;
    let password = read_password(args, &recipes, environment)?;
    let (items, public) = generate(&recipes, password.as_ref(), environment)?;
    let mut secret = create::secret(&args.name, &args.properties, items)?;
    set_type(&mut secret, &public);
    for key in public.keys() {
        report::info(&format!(
            "{key} is public, and is stored in plaintext in spec.template.data"
        ));
    }
    let templates: Templates = public
        .into_iter()
        .map(|(key, text)| (key, Some(text)))
        .collect();
    let parts = Parts {
        templates: Some(&templates).filter(|templates| !templates.is_empty()),
        delivery,
    };
    let sealed = sealing::seal_with_parts(&session, &settings, secret, parts, Empty::Refused)?;
    args.destination.write_new(&[sealed])
}

fn recipes(args: &[String]) -> Result<Vec<(String, Recipe)>> {
    let read = |arg: &String| -> Result<(String, Recipe)> {
        let (key, recipe) = arg.split_once('=').ok_or_else(malformed_item)?;
        names::check_item(key)?;
        let recipe = recipe
            .parse()
            .with_context(|| format!("the item {key:?}"))?;
        Ok((key.to_owned(), recipe))
    };
    args.iter().map(read).collect()
}

/// Returns the error for an argument without a recipe. It does not quote the argument, which may be a value.
fn malformed_item() -> Failure {
    Failure::new("invalid item: expected KEY=RECIPE, such as password=password:24")
        .hint("`seal generate --help` lists the recipes")
}

/// Generates the items to seal, and the public items. Refuses two values for one item, because a sealed value would
/// replace a public value of the same name.
fn generate(
    recipes: &[(String, Recipe)],
    password: Option<&Plain>,
    environment: &Environment,
) -> Result<(Items, BTreeMap<String, String>)> {
    let mut context = GenerationContext {
        rng: &mut shared::random::system(),
        now: environment.now,
    };
    let (mut items, mut public) = (Items::default(), BTreeMap::new());
    for (key, recipe) in recipes {
        let generated = recipe
            .generate(key, password, &mut context)
            .with_context(|| format!("the item {key:?}"))?;
        for (key, value) in generated.secret {
            items.add(&key, value)?;
        }
        public.extend(generated.public);
    }
    for key in public.keys() {
        names::check_item(key)?;
        if items.0.contains_key(key) {
            bail!("duplicate item {key:?}");
        }
    }
    Ok((items, public))
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
        bail!(
            Failure::new("no recipe uses a password")
                .hint("omit --password-stdin and --password-prompt, which only the recipes htpasswd and docker use")
        );
    }
    let password = if args.password_prompt {
        values::prompt("the password")?
    } else {
        values::without_line_break(Stdin::new(environment).read("the password")?)
    };
    if password.expose().is_empty() {
        bail!(
            Failure::new("the password is empty")
                .hint("omit the flag to generate a random password")
        );
    }
    values::warn_about_byte_order_mark("", "the password", &password);
    Ok(Some(password))
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
