//! Which library this is.

use std::ffi::{CStr, c_char};

use crate::{
    error::{crossfade_code, crossfade_error},
    guard::fallible,
};

/// The release this header belongs to.
pub const CROSSFADE_VERSION_MAJOR: u32 = 0;
/// The release this header belongs to.
pub const CROSSFADE_VERSION_MINOR: u32 = 1;
/// The release this header belongs to.
pub const CROSSFADE_VERSION_PATCH: u32 = 0;
/// 0xMMmmpp00, as crossfade_version_number() returns it.
pub const CROSSFADE_VERSION_NUMBER: u32 = (CROSSFADE_VERSION_MAJOR << 24)
    | (CROSSFADE_VERSION_MINOR << 16)
    | (CROSSFADE_VERSION_PATCH << 8);
/// Changes only when a caller compiled against an older header may break.
pub const CROSSFADE_ABI_VERSION: u32 = 1;

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the version has a NUL"),
    };

/// The library's version as 0xMMmmpp00; compare with CROSSFADE_VERSION_NUMBER of the header.
///
/// Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn crossfade_version_number() -> u32 {
    CROSSFADE_VERSION_NUMBER
}

/// The library's version, "major.minor.patch". Static: never freed.
///
/// Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn crossfade_version() -> *const c_char {
    VERSION.as_ptr()
}

/// Call it first, with CROSSFADE_ABI_VERSION: CROSSFADE_ABI_MISMATCH when header and library do not fit together.
///
/// Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn crossfade_check_abi(abi_version: u32) -> *mut crossfade_error {
    fallible("crossfade_check_abi", || {
        if abi_version == CROSSFADE_ABI_VERSION {
            return Ok(());
        }
        Err(crossfade_error::new(
            crossfade_code::CrossfadeAbiMismatch,
            format!(
                "the header has ABI version {abi_version}, the library (release {}) has {CROSSFADE_ABI_VERSION}: compile against the library's own crossfade.h",
                env!("CARGO_PKG_VERSION")
            ),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{crossfade_error_code, crossfade_error_free};

    #[test]
    fn packed_number_is_cargos_version() {
        let part = |text: &str| text.parse::<u32>().unwrap();
        let number = crossfade_version_number();
        assert_eq!(number >> 24, part(env!("CARGO_PKG_VERSION_MAJOR")));
        assert_eq!(number >> 16 & 0xff, part(env!("CARGO_PKG_VERSION_MINOR")));
        assert_eq!(number >> 8 & 0xff, part(env!("CARGO_PKG_VERSION_PATCH")));
        assert_eq!(number & 0xff, 0);
        // SAFETY: static and NUL-terminated.
        let text = unsafe { CStr::from_ptr(crossfade_version()) };
        assert_eq!(text.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn other_abi_version_is_an_error() {
        assert!(crossfade_check_abi(CROSSFADE_ABI_VERSION).is_null());
        let error = crossfade_check_abi(CROSSFADE_ABI_VERSION + 1);
        // SAFETY: `error` was made just now and is freed once.
        unsafe {
            assert_eq!(crossfade_error_code(error), 105);
            crossfade_error_free(error);
        }
    }
}
