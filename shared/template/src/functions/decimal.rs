//! Decimal arithmetic behind `addf` and related functions (shopspring/decimal): exact except for division,
//! and rounded to a float at the end.

use num_bigint::{BigInt, Sign};

use crate::error::Fault;
use crate::fmt;

/// Number of digits after the point that a division keeps.
const DIVISION_DIGITS: i64 = 16;

/// The number `digits` × 10^`exponent`.
pub(super) struct Decimal {
    digits: BigInt,
    exponent: i64,
}

impl Decimal {
    pub(super) fn from_float(float: f64) -> Result<Self, Fault> {
        if !float.is_finite() {
            return Err(Fault::failed("infinity and NaN have no decimal form"));
        }
        let shortest = fmt::shortest_digits(float.abs());
        let digits: BigInt = shortest.digits.parse().unwrap_or_default();
        let places = i64::try_from(shortest.digits.len()).unwrap_or(0) - 1;
        let digits = if float < 0.0 { -digits } else { digits };
        Ok(Self {
            digits,
            exponent: i64::from(shortest.exponent) - places,
        })
    }

    pub(super) fn to_float(&self) -> f64 {
        format!("{}e{}", self.digits, self.exponent)
            .parse()
            .unwrap_or(0.0)
    }

    /// Returns the number of steps of a calculation with this number, which may grow by hundreds of digits
    /// with each argument.
    pub(super) fn cost(&self) -> usize {
        4 + usize::try_from(self.digits.bits() / 64).unwrap_or(usize::MAX)
    }

    /// Returns the digits for a smaller exponent.
    fn digits_at(&self, exponent: i64) -> BigInt {
        &self.digits * ten_to(self.exponent - exponent)
    }

    pub(super) fn add(&self, other: &Self) -> Self {
        let exponent = self.exponent.min(other.exponent);
        Self {
            digits: self.digits_at(exponent) + other.digits_at(exponent),
            exponent,
        }
    }

    pub(super) fn sub(&self, other: &Self) -> Self {
        let exponent = self.exponent.min(other.exponent);
        Self {
            digits: self.digits_at(exponent) - other.digits_at(exponent),
            exponent,
        }
    }

    pub(super) fn mul(&self, other: &Self) -> Self {
        Self {
            digits: &self.digits * &other.digits,
            exponent: self.exponent + other.exponent,
        }
    }

    /// Divides; rounds half away from zero at the sixteenth digit after the point.
    pub(super) fn div(&self, other: &Self) -> Result<Self, Fault> {
        if other.digits.sign() == Sign::NoSign {
            return Err(Fault::failed("division by zero"));
        }
        let shift = self.exponent - other.exponent + DIVISION_DIGITS;
        let numerator = &self.digits * ten_to(shift);
        let denominator = &other.digits * ten_to(-shift);
        let quotient = &numerator / &denominator;
        let remainder = &numerator - &quotient * &denominator;
        let mut digits = quotient;
        if remainder.magnitude() * 2_u32 >= *denominator.magnitude() {
            digits += if numerator.sign() == denominator.sign() {
                1
            } else {
                -1
            };
        }
        Ok(Self {
            digits,
            exponent: -DIVISION_DIGITS,
        })
    }
}

/// Returns 10^exponent, or 1 for a negative exponent.
fn ten_to(exponent: i64) -> BigInt {
    BigInt::from(10_u8).pow(u32::try_from(exponent.max(0)).unwrap_or(0))
}
