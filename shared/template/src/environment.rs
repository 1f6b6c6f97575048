//! The state that functions use: budget, time, randomness, and the maps that they create.

use std::collections::HashMap;
use std::rc::Rc;

use rand::CryptoRng;

use crate::budget::{Budget, Gauge, Meter};
use crate::error::{Fault, Limit};
use crate::regexes::Pattern;
use crate::text::{Text, Writer};
use crate::value::{Entries, Map, MapKind};

/// Maximum number of compiled patterns that are kept: each may take several mebibytes.
const MAX_PATTERNS: usize = 32;

/// The caller's inputs for one rendering, or for several in a row.
pub struct Context<'a> {
    /// The budget. Each rendering deducts its cost.
    pub budget: Budget,
    /// The time that `now` and related functions return; the zone is UTC, as in Bitnami's container.
    pub now: jiff::Timestamp,
    /// The random source of `rand*`, `shuffle`, `uuidv4`, `encryptAES`, Ed25519 keys, salts and serial numbers. RSA and
    /// ECDSA keys take their randomness from aws-lc-rs.
    pub rng: &'a mut dyn CryptoRng,
}

/// The state of one rendering that functions see.
pub(crate) struct Environment<'c> {
    pub(crate) gauge: Gauge<'c>,
    pub(crate) now: jiff::Timestamp,
    pub(crate) rng: &'c mut dyn CryptoRng,
    /// Whether a function changed a map of strings, such as the dot of the template.
    pub(crate) changed_text_map: bool,
    maps: Vec<Map>,
    patterns: HashMap<Text, Rc<Pattern>>,
}

impl<'c> Environment<'c> {
    pub(crate) fn new(context: &'c mut Context<'_>, meter: &'c mut dyn Meter) -> Self {
        Self {
            gauge: Gauge::new(context.budget, meter),
            now: context.now,
            rng: &mut *context.rng,
            changed_text_map: false,
            maps: Vec::new(),
            patterns: HashMap::new(),
        }
    }

    /// Returns a writer for one value.
    pub(crate) fn writer(&self) -> Writer {
        Writer::new(self.gauge.max_value_size(), Limit::Value)
    }

    /// Creates a mutable map. The map lives until the end of the rendering, so that maps that contain each
    /// other neither leak nor recurse while they are dropped.
    pub(crate) fn new_map(&mut self, entries: Entries) -> Result<Map, Fault> {
        self.gauge.charge_memory(64 + 64 * entries.len())?;
        let map = Map::unregistered(MapKind::Any, entries);
        self.maps.push(map.clone());
        Ok(map)
    }

    /// Returns a compiled pattern. Compiles each pattern once per rendering, unless there are more than
    /// [`MAX_PATTERNS`].
    pub(crate) fn pattern(&mut self, source: &Text) -> Result<Rc<Pattern>, Fault> {
        if let Some(pattern) = self.patterns.get(source) {
            return Ok(Rc::clone(pattern));
        }
        let pattern = Rc::new(Pattern::new(source, &mut self.gauge)?);
        if self.patterns.len() >= MAX_PATTERNS {
            self.patterns.clear();
        }
        self.patterns.insert(source.clone(), Rc::clone(&pattern));
        Ok(pattern)
    }
}

impl Drop for Environment<'_> {
    /// Empties every map before the first one is dropped, because maps may contain each other.
    fn drop(&mut self) {
        let contents: Vec<Entries> = self.maps.iter().map(Map::take_entries).collect();
        drop(contents);
    }
}
