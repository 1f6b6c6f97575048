//! The failure of a `seal` command, with hints for the user.

pub use roles::failure::Failure;

#[cfg(test)]
mod tests {
    use kubeseal_library::files;

    use super::*;

    #[test]
    fn a_missing_file_has_a_next_step() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let read = anyhow::Error::from(files::read(&missing).unwrap_err());
        let failure = Failure::from(read.context("cannot use the certificate"));
        assert!(
            failure
                .to_string()
                .ends_with("\nhint: check the path and the current directory")
        );
        let write = files::replace(&missing.join("x"), b"").unwrap_err();
        let failure = Failure::from(anyhow::Error::from(write));
        assert!(
            failure
                .to_string()
                .ends_with("\nhint: create the directory first")
        );
    }
}
