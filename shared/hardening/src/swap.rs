//! Detects whether this process can be swapped out at all.

use std::fs;
use std::path::Path;

/// Returns whether the process can be swapped out. Returns false only if that is certain: a file that
/// cannot be read proves nothing.
pub(crate) fn has_swap() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "this crate reads limits of its own process"
    )]
    let read = |path: &Path| fs::read_to_string(path).ok();
    let group = read(Path::new("/proc/self/cgroup"));
    let maximum = group.as_deref().and_then(group_path).and_then(|path| {
        let directory = Path::new("/sys/fs/cgroup").join(path);
        read(&directory.join("memory.swap.max"))
    });
    is_possible(
        read(Path::new("/proc/swaps")).as_deref(),
        maximum.as_deref(),
    )
}

/// Returns whether the process can be swapped out, from the kernel's list of swap areas and the limit of the control
/// group.
fn is_possible(areas: Option<&str>, maximum: Option<&str>) -> bool {
    let has_area = areas.is_none_or(|areas| areas.lines().count() > 1);
    let is_allowed = maximum.is_none_or(|maximum| maximum.trim() != "0");
    has_area && is_allowed
}

/// Returns the path of the process in the control-group hierarchy, version 2.
fn group_path(groups: &str) -> Option<&str> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Filename\tType\tSize\tUsed\tPriority\n";

    #[test]
    fn reports_no_swap_only_if_certain() {
        let area = format!("{HEADER}/dev/sda2 partition 1 0 -2\n");
        for (why, areas, maximum, want) in [
            ("an area", Some(area.as_str()), None, true),
            ("an area and no limit", Some(&area), Some("max\n"), true),
            (
                "an area and a limit of zero",
                Some(&area),
                Some("0\n"),
                false,
            ),
            ("no area", Some(HEADER), None, false),
            ("unreadable files", None, None, true),
        ] {
            assert_eq!(is_possible(areas, maximum), want, "{why}");
        }
    }

    #[test]
    fn finds_the_control_group() {
        for (text, want) in [
            ("0::/\n", Some("")),
            ("12:pids:/x\n0::/a/b\n", Some("a/b")),
            ("12:pids:/x\n", None),
        ] {
            assert_eq!(group_path(text), want);
        }
    }
}
