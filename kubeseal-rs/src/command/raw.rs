//! Seals one value to base64 ciphertext.

use std::ffi::OsString;
use std::path::Path;

use clap_lex::OsStrExt as _;
use kubeseal_library::bounded::Kind;
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use shared::key::Certificate;
use shared::scope::Scope;
use shared::{base64, envelope};
use zeroize::Zeroizing;

use super::{CommandError, SealOptions, default_namespace};
use crate::report;

/// Seals the bytes of stdin or of the file of `--from-file` unchanged, including a line break at the end. Returns the
/// ciphertext in base64.
pub(super) fn seal(
    certificate: &Certificate,
    options: &SealOptions,
    from_files: &[OsString],
    environment: &Environment,
) -> Result<String, CommandError> {
    let scope = options.scope.unwrap_or_default();
    let missing_flag = |flag| CommandError::RawNeeds { flag, scope };
    let namespace = match scope {
        Scope::ClusterWide => String::new(),
        _ => default_namespace(options, environment)?.ok_or_else(|| missing_flag("namespace"))?,
    };
    let name = match (scope, &options.name) {
        (Scope::Strict, None) => return Err(missing_flag("name")),
        (_, name) => name.clone().unwrap_or_default(),
    };
    let seal_error = |problem| CommandError::Seal {
        prefix: String::new(),
        problem,
    };
    let label = scope.label_for_sealing(&namespace, &name);
    let label = label.map_err(|error| seal_error(error.into()))?;
    let value = read_value(from_files, environment)?;
    let mut rng = shared::random::system();
    let sealed = envelope::seal(certificate.public_key(), &label, &value, &mut rng)
        .map_err(|error| seal_error(error.into()))?;
    Ok(base64::encode(&sealed))
}

fn read_value(
    from_files: &[OsString],
    environment: &Environment,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    match from_files {
        [] => {
            if environment.stdin_is_terminal {
                report::info("(tty detected: expecting a secret to encrypt in stdin)");
            }
            Ok(files::read_stdin_as(Kind::Value)?)
        }
        [file] => {
            let path = file
                .split_once("=")
                .map_or(file.as_os_str(), |(_, path)| path);
            Ok(files::read_as(Path::new(path), Kind::Value)?)
        }
        _ => Err(CommandError::RawFiles),
    }
}
