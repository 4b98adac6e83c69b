//! How do rotations spread? A keyring comes due before the end of its period by an amount that its name determines, the
//! same in every sidecar and every version of keyward.

use std::time::Duration;

/// A version comes due within the last tenth of its period, and at most so long before its end.
pub fn early(name: &str, period: Duration) -> Duration {
    part_of((period / EARLY_PART).min(EARLIEST), mixed(hash(name.as_bytes())))
}

/// The part of a time that a number says, evenly over all numbers.
pub fn part_of(whole: Duration, of: u64) -> Duration {
    let nanos = whole.as_nanos().saturating_mul(u128::from(of >> 32)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// FNV-1a: the same in every sidecar and every version; nothing secret hangs on it.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads what differs in a few bits over all of them (the finaliser of SplitMix64).
pub const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

const EARLY_PART: u32 = 10;
/// No keyring comes due longer before its end.
pub const EARLIEST: Duration = Duration::from_secs(10 * 86_400);
