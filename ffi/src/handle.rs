//! From C's pointers to Rust's references and back: the one place that knows how handles, strings and outputs are passed.

use std::{
    ffi::{CStr, c_char},
    ptr,
};

use crate::{
    error::{crossfade_code, crossfade_error},
    guard::Outcome,
};

/// The longest topic, group, key, value or path, in bytes.
pub(crate) const MAX_STRING_BYTES: usize = 64 * 1024;

/// Gives a value to C as a handle.
pub(crate) fn into_raw<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// Frees a handle.
///
/// # Safety
/// `handle` is NULL or came from [`into_raw`] or `Box::into_raw`, and is used by nobody now or later.
pub(crate) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// A handle that may be NULL.
///
/// # Safety
/// `pointer` is NULL or points to a live `T` that nobody changes during `'a`.
pub(crate) unsafe fn optional<'a, T>(pointer: *const T) -> Option<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }
}

/// A handle or struct that must not be NULL.
///
/// # Safety
/// As [`optional`].
pub(crate) unsafe fn borrowed<'a, T>(pointer: *const T, parameter: &str) -> Outcome<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { optional(pointer) }.ok_or_else(|| crossfade_error::null(parameter))
}

/// A handle that is changed.
///
/// # Safety
/// `pointer` is NULL or points to a live `T` that nobody else uses during `'a`.
pub(crate) unsafe fn borrowed_mut<'a, T>(pointer: *mut T, parameter: &str) -> Outcome<&'a mut T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| crossfade_error::null(parameter))
}

/// A string: NUL-terminated UTF-8 of at most [`MAX_STRING_BYTES`].
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string that nobody changes during `'a`.
pub(crate) unsafe fn string<'a>(text: *const c_char, parameter: &str) -> Outcome<&'a str> {
    if text.is_null() {
        return Err(crossfade_error::null(parameter));
    }
    // SAFETY: not NULL; the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    if text.count_bytes() > MAX_STRING_BYTES {
        return Err(invalid(format!(
            "{parameter} has {} bytes; at most {MAX_STRING_BYTES} are allowed",
            text.count_bytes()
        )));
    }
    text.to_str()
        .map_err(|error| invalid(format!("{parameter} is not UTF-8: {error}")))
}

/// Where a result goes; checked before the work, written after its success.
#[derive(Debug)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `pointer` is NULL or may be written as a `T` until this call ends.
    pub(crate) unsafe fn new(pointer: *mut T, parameter: &str) -> Outcome<Self> {
        if pointer.is_null() {
            return Err(crossfade_error::null(parameter));
        }
        Ok(Out(pointer))
    }

    pub(crate) fn write(self, value: T) {
        // SAFETY: checked for NULL; the rest was promised to `new`. What was there is plain data of C's.
        unsafe { self.0.write(value) }
    }
}

/// A struct of the header whose first field is `uint32_t struct_size`, so that fields can be added at its end.
///
/// # Safety
/// The type is `repr(C)`, begins with a `u32` called `struct_size`, and is valid when all its bytes are zero.
pub(crate) unsafe trait Sized32: Copy {
    /// Its size in the first release: a smaller one is no such struct.
    const FIRST_SIZE: usize;
    /// For messages.
    const NAME: &'static str;
}

/// Reads a struct of the size the caller was compiled with; fields that the caller does not have are zero.
///
/// # Safety
/// `pointer` is NULL or points to as many readable bytes as its `struct_size` says.
pub(crate) unsafe fn read_sized<T: Sized32>(pointer: *const T, parameter: &str) -> Outcome<T> {
    // SAFETY: the caller's promise.
    let size = unsafe { checked_size(pointer, parameter)? };
    let known = size_of::<T>();
    if size > known {
        // SAFETY: the caller's promise covers `size` bytes; `known` is less.
        let rest =
            unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
        if rest.iter().any(|byte| *byte != 0) {
            return Err(crossfade_error::new(
                crossfade_code::CrossfadeAbiMismatch,
                format!(
                    "{parameter} uses fields of {} that this library does not have: it is older than the header",
                    T::NAME
                ),
            ));
        }
    }
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: both have `min(size, known)` bytes and do not overlap; all zero is valid by the trait, and C wrote the rest as this type.
    unsafe {
        ptr::copy_nonoverlapping(
            pointer.cast::<u8>(),
            value.as_mut_ptr().cast::<u8>(),
            size.min(known),
        );
        Ok(value.assume_init())
    }
}

/// Where a struct goes that the caller sized.
#[derive(Debug)]
pub(crate) struct SizedOut<T> {
    pointer: *mut T,
    size: usize,
}

impl<T: Sized32> SizedOut<T> {
    /// # Safety
    /// `pointer` is NULL or may be written for as many bytes as its `struct_size` says, until this call ends.
    pub(crate) unsafe fn new(pointer: *mut T, parameter: &str) -> Outcome<Self> {
        // SAFETY: the caller's promise.
        let size = unsafe { checked_size(pointer, parameter)? };
        Ok(SizedOut { pointer, size })
    }

    /// Writes what the caller has room for, except `struct_size`, which stays the caller's.
    pub(crate) fn write(self, value: &T) {
        let skip = size_of::<u32>();
        let bytes = self.size.min(size_of::<T>()) - skip;
        // SAFETY: promised to `new`; `checked_size` saw that both are larger than `skip`.
        unsafe {
            ptr::copy_nonoverlapping(
                ptr::from_ref(value).cast::<u8>().add(skip),
                self.pointer.cast::<u8>().add(skip),
                bytes,
            );
        }
    }
}

/// # Safety
/// `pointer` is NULL or points to a readable `u32`.
unsafe fn checked_size<T: Sized32>(pointer: *const T, parameter: &str) -> Outcome<usize> {
    /// No struct of this header will ever be as large: an uninitialised size is noticed.
    const LARGEST: usize = 4096;
    if pointer.is_null() {
        return Err(crossfade_error::null(parameter));
    }
    // SAFETY: not NULL; the caller's promise.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    if (T::FIRST_SIZE..=LARGEST).contains(&size) {
        return Ok(size);
    }
    Err(crossfade_error::new(
        crossfade_code::CrossfadeAbiMismatch,
        format!(
            "{parameter}: struct_size is {size}; zero the struct and set struct_size = sizeof({}), here {}",
            T::NAME,
            size_of::<T>()
        ),
    ))
}

/// An argument out of its range.
pub(crate) fn invalid(message: impl Into<String>) -> Box<crossfade_error> {
    crossfade_error::new(crossfade_code::CrossfadeInvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Now {
        struct_size: u32,
        first: u32,
        added: u64,
    }

    // SAFETY: repr(C), struct_size first, numbers only.
    unsafe impl Sized32 for Now {
        const FIRST_SIZE: usize = 8;
        const NAME: &'static str = "now";
    }

    #[repr(C)]
    struct Later {
        now: Now,
        unknown: u64,
    }

    fn number<T>(outcome: Outcome<T>) -> i32 {
        outcome.err().map_or(0, |error| error.number())
    }

    #[test]
    fn struct_of_an_older_caller_is_filled_with_zeros() {
        let old = [8_u32, 7];
        // SAFETY: 8 bytes, as struct_size says.
        let read = unsafe { read_sized(old.as_ptr().cast::<Now>(), "now") }.unwrap();
        assert_eq!((read.first, read.added), (7, 0));
        let mut old = [8_u32, 0, 99, 99];
        // SAFETY: more than 8 bytes.
        let out = unsafe { SizedOut::new(old.as_mut_ptr().cast::<Now>(), "now") }.unwrap();
        out.write(&Now {
            struct_size: 0,
            first: 5,
            added: u64::MAX,
        });
        assert_eq!(old, [8, 5, 99, 99]);
    }

    #[test]
    fn struct_of_a_newer_caller_works_until_it_uses_what_is_unknown() {
        let mut later = Later {
            now: Now {
                struct_size: 24,
                first: 7,
                added: 8,
            },
            unknown: 0,
        };
        // SAFETY: 24 bytes, as struct_size says.
        let read = unsafe { read_sized(ptr::from_ref(&later).cast::<Now>(), "now") }.unwrap();
        assert_eq!((read.first, read.added), (7, 8));
        later.unknown = 1;
        // SAFETY: as before.
        let refused = unsafe { read_sized(ptr::from_ref(&later).cast::<Now>(), "now") };
        assert_eq!(number(refused), 105);
    }

    #[test]
    fn size_that_no_struct_has_is_refused() {
        for size in [0, 7, 5000, u32::MAX] {
            let now = Now {
                struct_size: size,
                first: 0,
                added: 0,
            };
            // SAFETY: only struct_size is read.
            assert_eq!(number(unsafe { read_sized(&raw const now, "now") }), 105);
        }
        // SAFETY: NULL is checked.
        let nothing = unsafe { read_sized::<Now>(ptr::null(), "now") };
        assert_eq!(number(nothing), 100);
    }

    #[test]
    fn string_is_checked() {
        let long = std::ffi::CString::new(vec![b'a'; MAX_STRING_BYTES + 1]).unwrap();
        // SAFETY: NULL, or NUL-terminated.
        unsafe {
            assert_eq!(string(c"grüezi".as_ptr(), "text").unwrap(), "grüezi");
            assert_eq!(number(string(ptr::null(), "text")), 100);
            assert_eq!(number(string(c"\xff".as_ptr(), "text")), 102);
            assert_eq!(number(string(long.as_ptr(), "text")), 102);
        }
    }
}
