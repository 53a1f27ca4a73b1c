//! Ids in the shape of the Java client's (`MessageClientIDSetter.java`), so that the usual tools can read the time in them:
//! address(4) process(2) random(4) milliseconds since the month began(4) counter(2), in hexadecimal digits.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// What tells this process from others: random where Java has the host's address and a class loader's hash.
static PREFIX: LazyLock<[u8; 10]> = LazyLock::new(|| {
    let mut prefix: [u8; 10] = rand::random();
    prefix[4..6].copy_from_slice(&(std::process::id() as u16).to_be_bytes());
    prefix
});
static COUNTER: AtomicU16 = AtomicU16::new(0);

/// A new id, unlike any other: 32 digits.
#[must_use]
pub fn unique_id() -> String {
    let mut id = String::with_capacity(32);
    push_unique_id(&mut id);
    id
}

/// Appends a new one.
pub(super) fn push_unique_id(out: &mut String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis() as u64);
    let mut bytes = [0; 16];
    bytes[..10].copy_from_slice(&*PREFIX);
    bytes[10..14].copy_from_slice(&(since_month_began(now) as u32).to_be_bytes());
    bytes[14..].copy_from_slice(&COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    out.extend(bytes.into_iter().flat_map(hex).map(char::from));
}

/// Upper case digits, as brokers and clients write ids.
pub(super) fn hex(byte: u8) -> [u8; 2] {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// In UTC. Milliseconds of the proleptic Gregorian calendar, by the era arithmetic of Howard Hinnant's `civil_from_days`.
fn since_month_began(unix_ms: u64) -> u64 {
    const DAY_MS: u64 = 86_400_000;
    let days = unix_ms / DAY_MS + 719_468;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5;
    day * DAY_MS + unix_ms % DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_have_the_java_length() {
        let id = |_| {
            let mut id = String::new();
            push_unique_id(&mut id);
            id
        };
        let ids: std::collections::HashSet<_> = (0..10_000).map(id).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn the_month_is_found() {
        const DAY: u64 = 86_400_000;
        // 1970-01-01, 2024-02-29, 2024-03-01, 2026-11-21 12:00.
        assert_eq!(since_month_began(0), 0);
        assert_eq!(since_month_began(1_709_164_800_000), 28 * DAY);
        assert_eq!(since_month_began(1_709_251_200_000), 0);
        assert_eq!(since_month_began(1_795_262_400_000), 20 * DAY + DAY / 2);
    }
}
