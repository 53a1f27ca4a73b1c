//! The share of writes that goes to the target.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// How many buckets the ordering keys hash into: one for each basis point of weight.
pub const BUCKETS: u16 = 10_000;

/// Share of writes that go to the target in `DualWrite`, in basis points: 0 to 10 000.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u16);

impl Weight {
    /// Nothing goes to the target.
    pub const ZERO: Weight = Weight(0);
    /// Everything goes to the target.
    pub const FULL: Weight = Weight(BUCKETS);

    /// # Errors
    /// [`ErrorKind::InvalidPlan`] above 10 000.
    pub fn from_basis_points(basis_points: u32) -> Result<Self> {
        match u16::try_from(basis_points) {
            Ok(value) if value <= BUCKETS => Ok(Weight(value)),
            _ => Err(Error::new(
                ErrorKind::InvalidPlan,
                "weight",
                format!("{basis_points} basis points; a weight is 0 to 10000 (100 %)"),
            )),
        }
    }

    /// 0 to 10 000.
    #[must_use]
    pub fn basis_points(self) -> u16 {
        self.0
    }

    /// Whether a uniformly random number falls into the target's share.
    #[must_use]
    pub fn covers_draw(self, draw: u32) -> bool {
        self.covers_bucket(scale(draw))
    }

    /// Whether a key's bucket falls into the target's share. A growing weight moves each key once and never back.
    #[must_use]
    pub fn covers_bucket(self, bucket: u16) -> bool {
        bucket < self.0
    }
}

impl TryFrom<u32> for Weight {
    type Error = Error;

    fn try_from(basis_points: u32) -> Result<Self> {
        Weight::from_basis_points(basis_points)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> u32 {
        u32::from(weight.0)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} %", self.0 / 100, self.0 % 100)
    }
}

/// The bucket of an ordering key, 0 to 9 999; the same in every release and every language.
///
/// FNV-1a, 64 bits (offset basis 0xcbf29ce484222325, prime 0x100000001b3; draft-eastlake-fnv), then the 64-bit
/// finalizer of MurmurHash3, then the upper 32 bits scaled to the buckets. `tests/spec/buckets.json` has vectors.
#[must_use]
pub fn bucket_of(ordering_key: &[u8]) -> u16 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in ordering_key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    scale((hash >> 32) as u32)
}

/// Maps the whole range of `u32` to 0..10 000 without a division.
fn scale(number: u32) -> u16 {
    ((u64::from(number) * u64::from(BUCKETS)) >> 32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_above_all_is_refused() {
        assert_eq!(Weight::from_basis_points(10_000).unwrap(), Weight::FULL);
        assert_eq!(
            Weight::from_basis_points(10_001).unwrap_err().kind(),
            ErrorKind::InvalidPlan
        );
        assert_eq!(
            Weight::from_basis_points(70_000).unwrap_err().kind(),
            ErrorKind::InvalidPlan
        );
    }

    #[test]
    fn ends_of_the_weight_are_exact() {
        for draw in [0, 1, u32::MAX / 2, u32::MAX] {
            assert!(!Weight::ZERO.covers_draw(draw));
            assert!(Weight::FULL.covers_draw(draw));
        }
    }

    #[test]
    fn growing_weight_moves_a_key_once_and_never_back() {
        for key in 0..200_u32 {
            let bucket = bucket_of(&key.to_le_bytes());
            let sides: Vec<bool> = (0..=10_000)
                .map(|bp| Weight::from_basis_points(bp).unwrap().covers_bucket(bucket))
                .collect();
            assert_eq!(
                sides.windows(2).filter(|pair| pair[0] != pair[1]).count(),
                1
            );
            assert!(sides[10_000]);
        }
    }
}
