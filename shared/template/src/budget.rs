//! Limits on the cost of a rendering, so that no object delays the others.

use crate::error::{Fault, Limit};
use crate::lex::{self, Token};

/// Upper bounds for the renderings that share a [`Context`](crate::Context). The default suits one Secret:
/// files of one mebibyte in total, the most that Kubernetes accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Number of steps: roughly one per action, per argument and per 64 processed bytes.
    pub steps: u64,
    /// Bytes of the results. Kubernetes rejects Secrets of more than a mebibyte.
    pub output: usize,
    /// Bytes of one intermediate value; lists count 32 bytes for each item, maps 64 bytes for each entry.
    pub value: usize,
    /// Bytes of all values created, including those already dropped.
    pub memory: usize,
    /// Nesting of templates, blocks, parentheses and values. Bounds the stack: 100 levels take less than a
    /// mebibyte even in a debug build.
    pub depth: usize,
    /// Number of generated keys, of all types.
    pub keys: u32,
    /// Number of slow password hashes (bcrypt and scrypt).
    pub hashes: u32,
    /// Total cost of keys and hashes, in microseconds as in [`cost`]. The default allows five RSA-4096 keys and five
    /// password hashes, or all keys and hashes of other kinds that the two limits above allow.
    pub work: u64,
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
            work: 9_000_000,
        }
    }
}

/// Cost of slow operations on one core, in microseconds: medians of an optimized build on a server of 2023.
/// All use one unit, so that a caller can add them up and compare them with private-key operations.
pub mod cost {
    /// Cost of generating an RSA key of 4096 bits.
    pub const RSA_4096: u64 = 1_500_000;
    /// Cost of generating an RSA key of 2048 bits.
    pub const RSA_2048: u64 = 150_000;
    /// Cost of generating an ECDSA or Ed25519 key.
    pub const CURVE_KEY: u64 = 200;
    /// Cost of one bcrypt hash with the cost parameter 10.
    pub const BCRYPT: u64 = 60_000;
    /// Cost of one scrypt hash with the parameters of `derivePassword`.
    pub const SCRYPT: u64 = 150_000;
    /// Number of template steps that take one microsecond.
    pub const STEPS_PER_MICROSECOND: u64 = 10;
    /// Cost of parsing a template, in addition to that of its tokens and bytes.
    pub(crate) const TEMPLATE: u64 = 5;
    /// Number of tokens that are parsed in one microsecond.
    pub(crate) const TOKENS_PER_MICROSECOND: u64 = 2;
    /// Number of bytes that are split into tokens in one microsecond.
    pub(crate) const BYTES_PER_MICROSECOND: u64 = 128;
}

/// Receives the cost of the work. A meter may delay the work, and may end it.
pub trait Meter {
    /// Records work by its [`cost`]: slow functions before they begin, template steps and parsing in parts.
    ///
    /// # Errors
    ///
    /// Returns [`Interrupted`] if the work must end.
    fn spend(&mut self, microseconds: u64) -> Result<(), Interrupted>;
}

/// The meter ended the work. Only the owner of the meter can report the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work was interrupted")]
pub struct Interrupted;

/// A meter that allows everything, for programs that serve one user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmetered;

impl Meter for Unmetered {
    fn spend(&mut self, _microseconds: u64) -> Result<(), Interrupted> {
        Ok(())
    }
}

/// Maximum number of tokens in the templates of one object, enough for thousands of actions. Parsing them takes up to
/// 15 milliseconds, and the trees take up to 15 mebibytes.
pub(crate) const MAX_TOKENS: usize = 30_000;

/// The limits on parsing the templates of one object.
pub struct ParseBudget<'m> {
    tokens: usize,
    meter: &'m mut dyn Meter,
}

impl<'m> ParseBudget<'m> {
    /// Creates the budget for one object. The meter receives the cost of each template.
    pub fn new(meter: &'m mut dyn Meter) -> Self {
        Self {
            tokens: MAX_TOKENS,
            meter,
        }
    }

    /// Returns whether no tokens are left for further templates of the object.
    pub fn is_used_up(&self) -> bool {
        self.tokens == 0
    }

    /// Splits a template into tokens. Charges for its bytes before, and for parsing the tokens after.
    pub(crate) fn tokens<'t>(&mut self, text: &'t str) -> Result<Vec<Token<'t>>, Interrupted> {
        let bytes = text.len() as u64;
        self.meter
            .spend(cost::TEMPLATE + bytes / cost::BYTES_PER_MICROSECOND)?;
        let tokens = lex::tokens(text, self.tokens);
        self.tokens = self.tokens.saturating_sub(tokens.len());
        self.meter
            .spend(tokens.len() as u64 / cost::TOKENS_PER_MICROSECOND)?;
        Ok(tokens)
    }
}

/// Steps charged for each template before it is rendered.
pub(crate) const STEPS_PER_TEMPLATE: usize = 50;
/// Number of steps in one report to the meter. They take two milliseconds.
const STEPS_PER_REPORT: u64 = 20_000;

/// The unused part of a budget.
pub(crate) struct Gauge<'m> {
    remaining: Budget,
    meter: &'m mut dyn Meter,
    /// Steps not reported to the meter yet.
    unreported: u64,
}

impl<'m> Gauge<'m> {
    pub(crate) fn new(budget: Budget, meter: &'m mut dyn Meter) -> Self {
        Self {
            remaining: budget,
            meter,
            unreported: 0,
        }
    }

    /// Returns the budget for later renderings.
    pub(crate) fn remaining(&self) -> Budget {
        self.remaining
    }

    /// Returns the size of the largest allowed value.
    pub(crate) fn max_value_size(&self) -> usize {
        self.remaining.value
    }

    pub(crate) fn max_depth(&self) -> usize {
        self.remaining.depth
    }

    pub(crate) fn charge_steps(&mut self, count: usize) -> Result<(), Fault> {
        deduct(&mut self.remaining.steps, count as u64, Limit::Steps)?;
        self.unreported += count as u64;
        if self.unreported < STEPS_PER_REPORT {
            return Ok(());
        }
        self.report_steps()
    }

    /// Reports the steps that the meter has not received yet. Needed at the end of each rendering: an author can write
    /// thousands of templates with few steps each.
    pub(crate) fn report_steps(&mut self) -> Result<(), Fault> {
        let cost = std::mem::take(&mut self.unreported) / cost::STEPS_PER_MICROSECOND;
        self.spend(cost)
    }

    /// Charges for work on this many bytes.
    pub(crate) fn charge_bytes(&mut self, count: usize) -> Result<(), Fault> {
        self.charge_steps(1 + count / 64)
    }

    /// Charges for a new value of this many bytes.
    pub(crate) fn charge_memory(&mut self, size: usize) -> Result<(), Fault> {
        if size > self.remaining.value {
            return Err(Fault::limit(Limit::Value));
        }
        match self.remaining.memory.checked_sub(size) {
            Some(remaining) => self.remaining.memory = remaining,
            None => return Err(Fault::limit(Limit::Memory)),
        }
        self.charge_bytes(size)
    }

    /// Charges for generating a key that takes this many microseconds.
    pub(crate) fn charge_key(&mut self, cost: u64) -> Result<(), Fault> {
        deduct_one(&mut self.remaining.keys, Limit::Keys)?;
        self.charge_work(cost)
    }

    /// Charges for a slow hash that takes this many microseconds.
    pub(crate) fn charge_hash(&mut self, cost: u64) -> Result<(), Fault> {
        deduct_one(&mut self.remaining.hashes, Limit::Hashes)?;
        self.charge_work(cost)
    }

    fn charge_work(&mut self, cost: u64) -> Result<(), Fault> {
        deduct(&mut self.remaining.work, cost, Limit::Work)?;
        self.spend(cost)
    }

    fn spend(&mut self, cost: u64) -> Result<(), Fault> {
        let outcome = self.meter.spend(cost);
        outcome.map_err(|Interrupted| Fault::limit(Limit::Interrupted))
    }
}

fn deduct(remaining: &mut u64, count: u64, limit: Limit) -> Result<(), Fault> {
    *remaining = remaining.checked_sub(count).ok_or(Fault::limit(limit))?;
    Ok(())
}

fn deduct_one(remaining: &mut u32, limit: Limit) -> Result<(), Fault> {
    *remaining = remaining.checked_sub(1).ok_or(Fault::limit(limit))?;
    Ok(())
}
