//! The size of an object with v2 values. A value for many recipients is larger than its v1 form.

use anyhow::{Result, bail};
use shared::resource::SealedSecret;

use crate::failure::Failure;
use crate::report;

/// The size in bytes above which a warning is printed: client-side apply copies the object into an annotation, and
/// fails above 256 KiB of annotations.
const LARGE: usize = 200 * 1024;
/// The maximum size, in bytes. An API server stores objects of at most about 1.5 MiB.
const MAX: usize = 1_000_000;

/// Fails if an object is larger than [`MAX`], and warns if it is larger than [`LARGE`].
pub(super) fn check(sealed: &SealedSecret) -> Result<()> {
    let len = sealed.to_document().to_string().len();
    let name = sealed.qualified_name();
    if len > MAX {
        let message = format!(
            "{name} would have {len} bytes, more than the limit of {MAX}: an API server could refuse the object"
        );
        bail!(Failure::new(message).hint("split the Secret, or seal it for fewer recipients"));
    }
    if len > LARGE {
        report::warn(&format!(
            "{name} has {len} bytes; `kubectl apply` without --server-side refuses objects of more than about {LARGE} bytes"
        ));
    }
    Ok(())
}
