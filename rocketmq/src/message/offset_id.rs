//! The brokers' own ids: the address that a message was stored at and its place in the commit log, in hexadecimal digits (`MessageDecoder.createMessageId`).

use std::{fmt, ops::Deref};

use super::unique_id::hex;

/// With an IPv6 address: 16 bytes, a port of 4, an offset of 8.
const LONGEST: usize = 2 * 28;

/// A broker's own id of a message, as text: 32 digits, or 56 where the broker's address is an IPv6 one. Empty where a broker named none.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct OffsetMessageId {
    text: [u8; LONGEST],
    length: u8,
}

impl OffsetMessageId {
    /// Of what a broker answered: empty where that is longer than any broker's id.
    pub(crate) fn new(text: &str) -> OffsetMessageId {
        OffsetMessageId::collect(text.bytes())
    }

    /// Of a store host, which is an address and a port, and a place in its commit log.
    pub(super) fn of(store_host: &[u8], commit_log_offset: u64) -> OffsetMessageId {
        let place = commit_log_offset.to_be_bytes();
        OffsetMessageId::collect(store_host.iter().chain(&place).flat_map(|&byte| hex(byte)))
    }

    fn collect(digits: impl Iterator<Item = u8>) -> OffsetMessageId {
        let mut id = OffsetMessageId::default();
        for digit in digits {
            let Some(place) = id.text.get_mut(usize::from(id.length)) else {
                return OffsetMessageId::default();
            };
            *place = digit;
            id.length += 1;
        }
        id
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // It was text when it was read.
        std::str::from_utf8(&self.text[..usize::from(self.length)]).unwrap_or_default()
    }

    /// Where the message lies in the commit log of its broker (`MessageDecoder.decodeMessageId`); none where this is no such id.
    #[must_use]
    pub fn commit_log_offset(&self) -> Option<u64> {
        let start = self.len().checked_sub(16)?;
        u64::from_str_radix(self.get(start..)?, 16).ok()
    }
}

impl Default for OffsetMessageId {
    fn default() -> Self {
        OffsetMessageId {
            text: [0; LONGEST],
            length: 0,
        }
    }
}

impl Deref for OffsetMessageId {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for OffsetMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for OffsetMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_both_address_families_are_written_as_brokers_write_them() {
        let v4 = OffsetMessageId::of(&[127, 0, 0, 1, 0, 0, 0x2a, 0x9f], 4096);
        assert_eq!(&*v4, "7F00000100002A9F0000000000001000");
        let mut host = [0; 20];
        host[15] = 1;
        let v6 = OffsetMessageId::of(&host, u64::MAX);
        assert_eq!((v6.len(), v6.ends_with("FFFFFFFFFFFFFFFF")), (56, true));
        assert_eq!(OffsetMessageId::new(&v6), v6);
    }

    #[test]
    fn offset_is_read_from_ids_of_both_address_families() {
        for (id, offset) in [
            ("7F00000100002A9F0000000000001000", Some(4096)),
            (
                "0000000000000000000000000000000100002A9F00000000000000FF",
                Some(255),
            ),
            ("1000", None),
            ("", None),
            ("not the digits of any id at all", None),
            ("ééééééééééééééééé", None),
        ] {
            let read = OffsetMessageId::new(id);
            assert_eq!((&*read, read.commit_log_offset()), (id, offset));
        }
        assert_eq!(&*OffsetMessageId::new(&"0".repeat(57)), "");
    }
}
