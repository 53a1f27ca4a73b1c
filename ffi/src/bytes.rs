//! Byte ranges and properties that cross the border.

use std::{ptr, slice};

use crate::{
    error::{crossfade_code, crossfade_error},
    guard::Outcome,
};

/// Borrowed bytes: not NUL-terminated. As an output: valid as long as the object they came from. As an input: read before the call
/// returns. All zero (data NULL, len 0): absent.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct crossfade_bytes {
    /// The first byte.
    pub data: *const u8,
    /// How many.
    pub len: usize,
}

/// A property of a message; both are UTF-8.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct crossfade_property {
    /// Not empty.
    pub name: crossfade_bytes,
    /// May be empty.
    pub value: crossfade_bytes,
}

impl crossfade_bytes {
    pub(crate) const ABSENT: crossfade_bytes = crossfade_bytes {
        data: ptr::null(),
        len: 0,
    };

    pub(crate) fn of(bytes: &[u8]) -> Self {
        crossfade_bytes {
            data: bytes.as_ptr(),
            len: bytes.len(),
        }
    }

    pub(crate) fn of_optional(text: Option<&str>) -> Self {
        text.map_or(Self::ABSENT, |text| Self::of(text.as_bytes()))
    }

    /// # Safety
    /// `data` is NULL or points to `len` bytes that nobody changes during `'a`.
    pub(crate) unsafe fn bytes<'a>(self, parameter: &str) -> Outcome<Option<&'a [u8]>> {
        match (self.data.is_null(), self.len) {
            (true, 0) => Ok(None),
            (true, len) => Err(crossfade_error::new(
                crossfade_code::CrossfadeNullParameter,
                format!("{parameter}.data is NULL but {parameter}.len is {len}"),
            )),
            (false, len) if len > isize::MAX as usize => Err(unusable(format!(
                "{parameter}.len is {len}: no memory is that large"
            ))),
            // SAFETY: not NULL, a possible length; the rest is the caller's promise.
            (false, len) => Ok(Some(unsafe { slice::from_raw_parts(self.data, len) })),
        }
    }

    /// # Safety
    /// As [`Self::bytes`].
    pub(crate) unsafe fn text<'a>(self, parameter: &str) -> Outcome<Option<&'a str>> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.bytes(parameter)? };
        bytes
            .map(str::from_utf8)
            .transpose()
            .map_err(|error| unusable(format!("{parameter} is not UTF-8: {error}")))
    }
}

/// A part of a message that cannot be used.
pub(crate) fn unusable(message: String) -> Box<crossfade_error> {
    crossfade_error::new(crossfade_code::CrossfadeInvalidMessage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_empty_wrong_and_good_bytes_are_told_apart() {
        let bytes = |data: &'static [u8]| crossfade_bytes::of(data);
        let dangling = |len| crossfade_bytes {
            data: ptr::null(),
            len,
        };
        let huge = crossfade_bytes {
            data: ptr::NonNull::dangling().as_ptr(),
            len: usize::MAX,
        };
        // SAFETY: NULL or static bytes; the huge one is refused before it is read.
        unsafe {
            assert_eq!(crossfade_bytes::ABSENT.text("key").unwrap(), None);
            assert_eq!(bytes(b"").text("key").unwrap(), Some(""));
            assert_eq!(bytes("é".as_bytes()).text("key").unwrap(), Some("é"));
            assert_eq!(bytes(b"\xff").text("key").unwrap_err().number(), 103);
            assert_eq!(dangling(1).bytes("key").unwrap_err().number(), 100);
            assert_eq!(huge.bytes("key").unwrap_err().number(), 103);
        }
    }
}
