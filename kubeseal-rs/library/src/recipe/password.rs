//! Generates passwords from their length, character classes and excluded characters.

use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{CryptoRng, RngExt as _};
use shared::plain::Plain;

// The character classes. The symbols exclude spaces, quotes, backslash, dollar sign, backtick, brackets, `&`, `;`, `<`,
// `>` and `|`, which have a meaning in YAML or a shell.
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &[u8] = b"0123456789";
const SYMBOLS: &[u8] = b"!#%*+,-./:=?@^_~";

/// The options of a password to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    /// The number of characters.
    pub length: usize,
    /// The minimum number of characters of each class, in the order of [`Self::CLASSES`]. 0
    /// excludes the class.
    pub minimums: [usize; 4],
    /// Excluded characters, such as `0O1lI`.
    pub without: String,
}

impl Default for Password {
    /// Returns the options for 32 letters and digits, which give about 190 bits of entropy.
    fn default() -> Self {
        Self {
            length: 32,
            minimums: [1, 1, 1, 0],
            without: String::new(),
        }
    }
}

/// A character class that a password uses.
struct Class {
    name: &'static str,
    minimum: usize,
    /// The characters of the class that are not excluded.
    letters: Vec<u8>,
}

/// Why no password meets the options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The length is not between 8 and 4096.
    #[error("a password must have 8 to 4096 characters")]
    Length,
    /// The classes require more characters than the length.
    #[error(
        "the character classes require more characters than the length\nhint: increase the length"
    )]
    TooMany,
    /// All classes are excluded.
    #[error(
        "all character classes are excluded\nhint: set lower, upper, digits or symbols above 0"
    )]
    NoClass,
    /// All characters of the class with this name are excluded.
    #[error(
        "all characters of the class `{0}` are excluded\nhint: remove some of them from `without`, or set `{0}=0`"
    )]
    NoneLeft(&'static str),
}

impl Password {
    /// The names of the classes, as in a recipe.
    pub const CLASSES: [&'static str; 4] = ["lower", "upper", "digits", "symbols"];

    /// Checks whether a password can meet the options.
    ///
    /// # Errors
    ///
    /// Fails if no password can meet the options.
    pub fn check(&self) -> Result<(), PasswordError> {
        if !(8..=4096).contains(&self.length) {
            return Err(PasswordError::Length);
        }
        if self
            .minimums
            .iter()
            .try_fold(0_usize, |sum, n| sum.checked_add(*n))
            .is_none_or(|sum| sum > self.length)
        {
            return Err(PasswordError::TooMany);
        }
        let classes = self.classes();
        if classes.is_empty() {
            return Err(PasswordError::NoClass);
        }
        match classes.iter().find(|class| class.letters.is_empty()) {
            Some(class) => Err(PasswordError::NoneLeft(class.name)),
            None => Ok(()),
        }
    }

    /// Returns the classes that the password uses.
    fn classes(&self) -> Vec<Class> {
        let classes = Self::CLASSES
            .into_iter()
            .zip([LOWER, UPPER, DIGITS, SYMBOLS])
            .zip(self.minimums);
        let allowed = |letters: &[u8]| -> Vec<u8> {
            let without = self.without.as_bytes();
            letters
                .iter()
                .copied()
                .filter(|c| !without.contains(c))
                .collect()
        };
        classes
            .filter(|(_, minimum)| *minimum > 0)
            .map(|((name, letters), minimum)| Class {
                name,
                minimum,
                letters: allowed(letters),
            })
            .collect()
    }

    /// Generates a password: the minimum number of characters of each class and further characters of any of these
    /// classes, in random order. The result is unspecified for options that [`Self::check`] refuses.
    pub fn generate(&self, rng: &mut impl CryptoRng) -> Plain {
        let classes = self.classes();
        let alphabet: Vec<u8> = classes
            .iter()
            .flat_map(|class| class.letters.iter().copied())
            .collect();
        // Allocate the full length up front: a growing vector would leave copies in freed memory.
        let mut text = Vec::with_capacity(self.length);
        for class in &classes {
            text.extend((0..class.minimum).filter_map(|_| class.letters.choose(rng)));
        }
        while text.len() < self.length && !alphabet.is_empty() {
            text.push(alphabet[rng.random_range(0..alphabet.len())]);
        }
        text.shuffle(rng);
        Plain::from(text)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn refuses_rules_that_cannot_be_met() {
        let rules = |length, minimums, without: &str| Password {
            length,
            minimums,
            without: without.into(),
        };
        for (rules, want) in [
            (rules(7, [1, 0, 0, 0], ""), PasswordError::Length),
            (rules(5000, [1, 0, 0, 0], ""), PasswordError::Length),
            (rules(8, [3, 3, 3, 0], ""), PasswordError::TooMany),
            (rules(8, [usize::MAX, 1, 0, 0], ""), PasswordError::TooMany),
            (rules(8, [0, 0, 0, 0], ""), PasswordError::NoClass),
            (
                rules(8, [0, 0, 1, 0], "0123456789"),
                PasswordError::NoneLeft("digits"),
            ),
        ] {
            assert_eq!(rules.check(), Err(want));
        }
    }

    proptest::proptest! {
        #[test]
        fn meets_its_rules(length in 8_usize..60, minimums in [0_usize..3, 0_usize..3, 0_usize..3, 0_usize..2], seed: u64) {
            let rules = Password { length, minimums, without: "0O1lI".into() };
            proptest::prop_assume!(rules.check().is_ok());
            let generated = rules.generate(&mut StdRng::seed_from_u64(seed));
            let text = generated.expose();
            proptest::prop_assert_eq!(text.len(), length);
            proptest::prop_assert!(!text.iter().any(|c| b"0O1lI".contains(c)));
            for (class, minimum) in [LOWER, UPPER, DIGITS, SYMBOLS].into_iter().zip(minimums) {
                let count = text.iter().filter(|c| class.contains(c)).count();
                proptest::prop_assert!(count >= minimum && (minimum > 0 || count == 0));
            }
        }
    }

    #[test]
    fn draws_characters_uniformly() {
        let rules = Password {
            length: 4096,
            minimums: [1, 1, 1, 0],
            without: String::new(),
        };
        let generated = rules.generate(&mut StdRng::seed_from_u64(1));
        for letter in [LOWER, UPPER, DIGITS].concat() {
            let count = memchr::memchr_iter(letter, generated.expose()).count();
            assert!((25..120).contains(&count), "{count}");
        }
    }
}
