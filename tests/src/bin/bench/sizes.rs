//! Sizes of the benchmarks.

use std::collections::BTreeMap;

/// Sizes from the command line.
pub struct Sizes {
    small: bool,
    given: BTreeMap<String, usize>,
}

impl Sizes {
    /// Parses `--small` and `SIZE=NUMBER`.
    pub fn read(args: impl Iterator<Item = String>) -> Self {
        let (mut small, mut given) = (false, BTreeMap::new());
        for word in args {
            let size = word.split_once('=');
            match size.and_then(|(name, number)| Some((name, number.parse().ok()?))) {
                Some((name, number)) => drop(given.insert(name.to_owned(), number)),
                None if word == "--small" => small = true,
                None => panic!("{word}: expected --small or SIZE=NUMBER, as objects=100"),
            }
        }
        Self { small, given }
    }

    /// Returns the size with this name: that of the command line, or `small` with `--small`, or `full`. Prints it.
    pub fn size(&self, name: &str, small: usize, full: usize) -> usize {
        let usual = if self.small { small } else { full };
        let size = self.given.get(name).copied().unwrap_or(usual);
        println!("{name} = {size}");
        size
    }
}
