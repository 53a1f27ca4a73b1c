//! What stands between every export and its body: no panic crosses into C.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

use crate::error::{crossfade_code, crossfade_error};

/// What the body of an export returns.
pub(crate) type Outcome<T = ()> = Result<T, Box<crossfade_error>>;

/// Runs a fallible export: NULL for success, an owned error else.
pub(crate) fn fallible(
    export: &'static str,
    body: impl FnOnce() -> Outcome,
) -> *mut crossfade_error {
    // Unwind safety: a handle that a panic went through stays memory-safe, its state being behind locks of the library; the caller
    // learns of the panic by its code.
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        Err(crossfade_error::new(
            crossfade_code::CrossfadePanic,
            format!("{export}: a bug in the library: {}", said(payload)),
        ))
    });
    match outcome {
        Ok(()) => ptr::null_mut(),
        Err(error) => Box::into_raw(error),
    }
}

/// Runs an export that cannot fail; `otherwise` stands in after a panic.
pub(crate) fn infallible<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        said(payload);
        otherwise
    })
}

fn said(payload: Box<dyn Any + Send>) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).into();
    }
    if let Some(text) = payload.downcast_ref::<String>() {
        return text.clone();
    }
    // Its destructor is unknown and might panic again.
    std::mem::forget(payload);
    "panic without a message".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{crossfade_error_code, crossfade_error_free};

    #[test]
    fn panic_becomes_an_owned_error() {
        let error = fallible("crossfade_test", || panic!("with {}", "words"));
        // SAFETY: `error` was made just now and is freed once.
        unsafe {
            assert_eq!(
                crossfade_error_code(error),
                crossfade_code::CrossfadePanic as i32
            );
            crossfade_error_free(error);
        }
        assert_eq!(
            infallible(7, || std::panic::panic_any(Box::new(1_u8))),
            7,
            "a payload that is no text"
        );
    }
}
