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
                None => panic!("{arg}: expected --small or SIZE=NUMBER, as objects=100"),
            }
        }
        Self { small, overrides }
    }

    /// Returns the size with this name: that of the command line, or `small` with `--small`, or `full`. Prints it.
    pub fn size(&self, name: &str, small: usize, full: usize) -> usize {
        let usual = if self.small { small } else { full };
        let size = self.overrides.get(name).copied().unwrap_or(usual);
        println!("{name} = {size}");
        size
    }
}
