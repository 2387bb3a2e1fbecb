//! Credits: whole micros, never floats. Every operation says when the result has no place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of credits in micros, a millionth of one; below zero: owed, or taken.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Credits(i64);

/// The result does not fit: a rejection, never a wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} credits, as many as can be counted", Credits::MAX)]
pub struct Overflow;

const MICROS: i64 = 1_000_000;

impl Credits {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// # Errors
    /// [`Overflow`].
    pub fn plus(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_add(other.0).map(Self).ok_or(Overflow)
    }

    /// # Errors
    /// [`Overflow`].
    pub fn minus(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_sub(other.0).map(Self).ok_or(Overflow)
    }

    /// # Errors
    /// [`Overflow`].
    pub fn sum(all: impl IntoIterator<Item = Self>) -> Result<Self, Overflow> {
        all.into_iter().try_fold(Self::ZERO, Self::plus)
    }

    /// `numerator / denominator` micros, half to even: how a quantity becomes an amount, once.
    ///
    /// # Errors
    /// [`Overflow`]; also when there is nothing to divide by.
    pub fn of_fraction(numerator: i128, denominator: i128) -> Result<Self, Overflow> {
        if denominator <= 0 {
            return Err(Overflow);
        }
        let whole = numerator.div_euclid(denominator);
        let rest = numerator.rem_euclid(denominator);
        // The rest is at least zero, so the nearest is `whole` or the one above it.
        let twice = rest.checked_mul(2).ok_or(Overflow)?;
        let is_up = twice > denominator || (twice == denominator && whole % 2 != 0);
        let nearest = whole.checked_add(i128::from(is_up)).ok_or(Overflow)?;
        i64::try_from(nearest).map(Self).map_err(|_| Overflow)
    }
}

/// With as many digits as it takes and at least two: `12.50`, `-0.000001`.
impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.unsigned_abs();
        let (whole, rest) = (
            micros / MICROS.unsigned_abs(),
            micros % MICROS.unsigned_abs(),
        );
        let digits = format!("{rest:06}");
        let digits = digits.trim_end_matches('0');
        let sign = if self.0 < 0 { "-" } else { "" };
        f.pad(&format!("{sign}{whole}.{digits:0<2}"))
    }
}

/// A text is no amount of credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an amount of credits with at most six decimals, for example 12.50")]
pub struct InvalidAmount;

/// `12`, `12.5`, `-0.000001`.
impl FromStr for Credits {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_sound = !whole.is_empty() && (1..=6).contains(&decimals.len());
        if !is_sound || !are_digits(whole) || !are_digits(decimals) {
            return Err(InvalidAmount);
        }
        let micros: i128 = format!("{whole}{decimals:0<6}")
            .parse()
            .map_err(|_| InvalidAmount)?;
        let micros = if is_negative { -micros } else { micros };
        i64::try_from(micros).map(Self).map_err(|_| InvalidAmount)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_look_like_amounts() {
        let shown = [
            0,
            1,
            -1,
            1_000_000,
            -1_500_000,
            12_340_000,
            i64::MIN,
            i64::MAX,
        ];
        let shown = shown.map(|micros| Credits::from_micros(micros).to_string());
        assert_eq!(
            shown,
            [
                "0.00",
                "0.000001",
                "-0.000001",
                "1.00",
                "-1.50",
                "12.34",
                "-9223372036854.775808",
                "9223372036854.775807"
            ]
        );
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let nearest = |numerator, denominator| {
            Credits::of_fraction(numerator, denominator).map(Credits::as_micros)
        };
        let halves = [-5, -3, -1, 1, 3, 5].map(|numerator| nearest(numerator, 2).unwrap());
        assert_eq!(halves, [-2, -2, 0, 0, 2, 2]);
        assert_eq!(
            [1, 2, 4, 5].map(|numerator| nearest(numerator, 3).unwrap()),
            [0, 1, 1, 2]
        );
        assert_eq!(nearest(1, 0), Err(Overflow));
        assert_eq!(nearest(1, -1), Err(Overflow));
        assert_eq!(nearest(i128::from(i64::MAX) * 2 + 1, 2), Err(Overflow));
        assert_eq!(nearest(i128::MAX, i128::MAX), Ok(1));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1.0000001",
            "1,5",
            "+1",
            "0x1",
            "1e3",
            "9223372036854.775808",
        ] {
            assert_eq!(text.parse::<Credits>(), Err(InvalidAmount), "{text}");
        }
        assert_eq!("12.5".parse(), Ok(Credits(12_500_000)));
    }

    proptest! {
        #[test]
        fn an_amount_is_read_as_it_is_shown(micros: i64) {
            let amount = Credits::from_micros(micros);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn nothing_wraps(one: i64, other: i64) {
            let (left, right) = (Credits::from_micros(one), Credits::from_micros(other));
            let sum = i128::from(one) + i128::from(other);
            prop_assert_eq!(left.plus(right).is_ok(), i64::try_from(sum).is_ok());
            prop_assert_eq!(left.plus(right).and_then(|sum| sum.minus(right)).unwrap_or(left), left);
        }

        #[test]
        fn the_nearest_is_at_most_half_away(numerator in -(1_i128 << 80)..(1_i128 << 80), denominator in 1_i128..1 << 40) {
            if let Ok(nearest) = Credits::of_fraction(numerator, denominator) {
                let away = (i128::from(nearest.as_micros()) * denominator - numerator).abs();
                prop_assert!(away * 2 <= denominator);
            }
        }
    }
}
