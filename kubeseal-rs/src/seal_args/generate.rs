use clap::Args;

use super::create::Like;
use super::{Destination, Sealing};

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
    /// Read the password of htpasswd and docker from stdin
    #[arg(long)]
    pub password_stdin: bool,
    /// Prompt for the password of htpasswd and docker without showing it
    #[arg(long, conflicts_with = "password_stdin")]
    pub password_prompt: bool,
    /// Properties of the Secret besides its values.
    #[command(flatten)]
    pub like: Like,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}
