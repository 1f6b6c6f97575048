//! The control groups of a node.

use std::process::{Command, Stdio};

use crate::sweeper::Sweeper;

/// A control group with the same name in every hierarchy. The groups and their descendants are removed once this value
/// is dropped or this process has ended, and all holders of a lease have ended.
pub(super) struct ControlGroups {
    hierarchies: Vec<String>,
    sweeper: Sweeper,
}

impl ControlGroups {
    /// Creates the groups.
    ///
    /// # Panics
    /// Panics with instructions if control groups are not writable.
    pub(super) fn create(name: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.arg(super::script("groups.sh")).arg(name);
        let (sweeper, hierarchies) = Sweeper::start(&mut command);
        let hierarchies: Vec<_> = hierarchies.split(' ').map(str::to_owned).collect();
        assert!(
            !hierarchies[0].is_empty(),
            "cannot create control groups for a node; see the message above. In a container, run the tests with \
             `--privileged --cgroupns=private`"
        );
        Self {
            hierarchies,
            sweeper,
        }
    }

    /// Returns the mount points of the hierarchies.
    pub(super) fn hierarchies(&self) -> &[String] {
        &self.hierarchies
    }

    /// See [`Sweeper::lease`].
    pub(super) fn lease(&self) -> Stdio {
        self.sweeper.lease()
    }
}
