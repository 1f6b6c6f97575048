use clap::Args;

use super::create::Like;
use super::{Destination, Sealing};

/// `seal generate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Recipes:
  password[:LENGTH]   letters and digits, 32 if not said; options upper=N lower=N digits=N symbols=N
                      (fewest of each, 0 for none) and without=CHARS
  hex[:BYTES]         random bytes in hexadecimal, 32 if not said
  base64[:BYTES]      the same in base64
  uuid                version 4
  rsa[:BITS]          key pair, PKCS#8 in PEM; its public half stands in clear as KEY.pub
  ed25519             the same
  ecdsa[:p384]        the same; P-256 if not said
  tls:HOST[,HOST…]    KEY.key, and KEY.crt in clear, self-signed; days=N for other than 365
  htpasswd:USER       a line with bcrypt, and the password as KEY.password
  docker:SERVER,USER  config.json for a registry; call the key .dockerconfigjson

Examples:
  seal generate db password=password:24,symbols=2 -n shop -w db.yaml
  seal generate web tls=tls:shop.example.com session=hex -n shop -w web.yaml
  seal generate pull .dockerconfigjson=docker:r.example,ci -n shop --password-stdin < password.txt")]
pub struct Generate {
    /// Name of the Secret
    pub name: String,
    /// What to make, for each item
    #[arg(required = true, value_name = "KEY=RECIPE")]
    pub items: Vec<String>,
    /// The password of htpasswd and docker comes from stdin
    #[arg(long)]
    pub password_stdin: bool,
    /// The password of htpasswd and docker comes from a prompt that shows nothing
    #[arg(long, conflicts_with = "password_stdin")]
    pub password_prompt: bool,
    /// What the Secret is like.
    #[command(flatten)]
    pub like: Like,
    /// Where it goes.
    #[command(flatten)]
    pub destination: Destination,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
}
