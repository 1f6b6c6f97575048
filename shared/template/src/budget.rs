//! What renderings may cost, so that one object cannot stall its neighbours.

use crate::error::{Fault, Limit};

/// Upper bounds for the renderings that share a [`Context`](crate::Context). The default suits one Secret: files of a
/// mebibyte together, which is the most that Kubernetes takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Work done, roughly one per action, argument and 64 bytes touched.
    pub steps: u64,
    /// Bytes of the results. Kubernetes refuses Secrets of more than a mebibyte.
    pub output: usize,
    /// Bytes of one value in between; for lists and maps 32 per item.
    pub value: usize,
    /// Bytes of all values made, counting those already dropped.
    pub memory: usize,
    /// Nesting of templates, blocks, parentheses and values. Bounds the stack: 100 levels stay below a mebibyte
    /// even in a debug build.
    pub depth: usize,
    /// Keys generated: up to seconds of one core each.
    pub keys: u32,
    /// Slow password hashes (bcrypt, scrypt): about a tenth of a second each.
    pub hashes: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            steps: 2_000_000,
            output: 1 << 20,
            value: 4 << 20,
            memory: 64 << 20,
            depth: 100,
            keys: 8,
            hashes: 32,
        }
    }
}

/// What is left of a budget.
pub(crate) struct Gauge {
    left: Budget,
}

impl Gauge {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { left: budget }
    }

    /// What later renderings may cost.
    pub(crate) fn left(&self) -> Budget {
        self.left
    }

    /// The largest value allowed.
    pub(crate) fn value(&self) -> usize {
        self.left.value
    }

    pub(crate) fn depth(&self) -> usize {
        self.left.depth
    }

    pub(crate) fn steps(&mut self, count: usize) -> Result<(), Fault> {
        take(&mut self.left.steps, count as u64, Limit::Steps)
    }

    /// Work on so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<(), Fault> {
        self.steps(1 + count / 64)
    }

    /// A new value of so many bytes.
    pub(crate) fn memory(&mut self, size: usize) -> Result<(), Fault> {
        if size > self.left.value {
            return Err(Fault::limit(Limit::Value));
        }
        match self.left.memory.checked_sub(size) {
            Some(left) => self.left.memory = left,
            None => return Err(Fault::limit(Limit::Memory)),
        }
        self.bytes(size)
    }

    pub(crate) fn key(&mut self) -> Result<(), Fault> {
        take_one(&mut self.left.keys, Limit::Keys)
    }

    pub(crate) fn hash(&mut self) -> Result<(), Fault> {
        take_one(&mut self.left.hashes, Limit::Hashes)
    }
}

fn take(left: &mut u64, count: u64, limit: Limit) -> Result<(), Fault> {
    *left = left.checked_sub(count).ok_or(Fault::limit(limit))?;
    Ok(())
}

fn take_one(left: &mut u32, limit: Limit) -> Result<(), Fault> {
    *left = left.checked_sub(1).ok_or(Fault::limit(limit))?;
    Ok(())
}
