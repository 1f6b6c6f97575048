//! Sizes of the benchmarks.

use std::collections::BTreeMap;

/// Sizes from the command line.
pub struct Sizes {
    small: bool,
    overrides: BTreeMap<String, usize>,
}

impl Sizes {
    /// Parses `--small` and `SIZE=NUMBER`.
    pub fn read(args: impl Iterator<Item = String>) -> Self {
        let (mut small, mut overrides) = (false, BTreeMap::new());
        for arg in args {
            let size = arg.split_once('=');
            match size.and_then(|(name, number)| Some((name, number.parse().ok()?))) {
                Some((name, number)) => drop(overrides.insert(name.to_owned(), number)),
                None if arg == "--small" => small = true,
                None => panic!("{arg}: expected --small or SIZE=NUMBER, such as objects=100"),
            }
        }
        Self { small, overrides }
    }

    /// Prints and returns the size with this name: from the command line, or else `small` if `--small` is set, or else
    /// `full`.
    pub fn size(&self, name: &str, small: usize, full: usize) -> usize {
        let default = if self.small { small } else { full };
        let size = self.overrides.get(name).copied().unwrap_or(default);
        println!("{name} = {size}");
        size
    }
}
