//! Owned errors and their stable numbers.

use std::ffi::{CString, c_char};

use sdk::{ErrorKind, Persisted, Retry, Side};

use crate::{
    guard::infallible,
    handle::{self, free},
};

/// What went wrong, as a stable number: never reused, never renumbered. 0 success, 1xx this library, 2xx brokers, 3xx the control plane.
/// Expect numbers that this header does not name yet.
///
/// cbindgen:rename-all=ScreamingSnakeCase
#[allow(
    clippy::enum_variant_names,
    reason = "C has one name space for them all"
)]
#[repr(i32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum crossfade_code {
    /// No error.
    CrossfadeOk = 0,
    /// A pointer that must not be NULL is NULL; the message names it.
    CrossfadeNullParameter = 100,
    /// A bug in this library: it panicked. Nothing is known of what the call did.
    CrossfadePanic = 101,
    /// A configuration key, a value or an argument that cannot be used.
    CrossfadeInvalidConfig = 102,
    /// A message that no broker may be given.
    CrossfadeInvalidMessage = 103,
    /// The producer, the consumer or the client was shut down.
    CrossfadeClosed = 104,
    /// Header and library differ.
    CrossfadeAbiMismatch = 105,
    /// The backend cannot do this.
    CrossfadeUnsupported = 106,
    /// A delivery that this consumer no longer owns: acked before, or its queue went to another member.
    CrossfadeStaleDelivery = 107,
    /// A broken invariant or an answer that makes no sense.
    CrossfadeUnexpected = 199,
    /// No answer in time.
    CrossfadeTimeout = 200,
    /// The cluster cannot be reached.
    CrossfadeUnavailable = 201,
    /// The broker is busy.
    CrossfadeThrottled = 202,
    /// A topic, group or broker that does not exist.
    CrossfadeNotFound = 203,
    /// Wrong credentials, or none, or not enough rights.
    CrossfadePermissionDenied = 204,
    /// The topic takes no sends on this side.
    CrossfadeSealed = 205,
    /// No plan is known for the topic.
    CrossfadeStageUnknown = 300,
    /// The lease is over and the lease mode is `stop`.
    CrossfadeLeaseOver = 301,
    /// A newer process runs under this instance name.
    CrossfadeSuperseded = 302,
    /// A plan that breaks a rule.
    CrossfadeInvalidPlan = 303,
    /// A stage change that the stage table does not have.
    CrossfadeIllegalTransition = 304,
}

use crossfade_code as code;

/// Which of the two clusters.
///
/// cbindgen:rename-all=QualifiedScreamingSnakeCase
#[repr(i32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum crossfade_side {
    /// Neither, or it is not known.
    None = -1,
    /// The cluster that topics leave.
    Source = 0,
    /// The cluster that topics move to.
    Target = 1,
}

impl From<Side> for crossfade_side {
    fn from(side: Side) -> Self {
        match side {
            Side::Source => crossfade_side::Source,
            Side::Target => crossfade_side::Target,
        }
    }
}

/// Whether the broker kept the message of a failed send.
///
/// cbindgen:rename-all=QualifiedScreamingSnakeCase
#[repr(i32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum crossfade_persisted {
    /// It did not: the failure is definite.
    No = 0,
    /// Nobody can tell: the failure is ambiguous. Send again with the same idempotency key only.
    Maybe = 1,
    /// It did; something after the storing failed.
    Yes = 2,
}

impl From<Persisted> for crossfade_persisted {
    fn from(persisted: Persisted) -> Self {
        match persisted {
            Persisted::No => crossfade_persisted::No,
            Persisted::Maybe => crossfade_persisted::Maybe,
            Persisted::Yes => crossfade_persisted::Yes,
        }
    }
}

/// An error. Owned by the caller of the function that returned it; freed with crossfade_error_free().
///
/// Thread safety: immutable, any thread may read and free it. It needs no other handle to be alive.
#[derive(Debug)]
pub struct crossfade_error {
    code: i32,
    message: CString,
    retry: Retry,
    fatal: bool,
    persisted: crossfade_persisted,
    side: crossfade_side,
}

impl crossfade_error {
    pub(crate) fn new(code: crossfade_code, message: impl Into<String>) -> Box<Self> {
        Box::new(crossfade_error {
            code: code as i32,
            message: c_string(message.into()),
            retry: Retry::Never,
            fatal: false,
            persisted: crossfade_persisted::No,
            side: crossfade_side::None,
        })
    }

    pub(crate) fn null(parameter: &str) -> Box<Self> {
        Self::new(
            code::CrossfadeNullParameter,
            format!("{parameter} is NULL: it must point to a value"),
        )
    }

    #[cfg(test)]
    pub(crate) fn number(&self) -> i32 {
        self.code
    }
}

impl From<sdk::Error> for Box<crossfade_error> {
    fn from(error: sdk::Error) -> Self {
        Box::new(crossfade_error {
            code: error.kind().code(),
            message: c_string(error.to_string()),
            retry: error.retry(),
            fatal: matches!(error.kind(), ErrorKind::Closed | ErrorKind::Superseded),
            persisted: error.persisted().into(),
            side: error.side().map_or(crossfade_side::None, Into::into),
        })
    }
}

/// A NUL in the middle would end the text for C: it is shown instead.
fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let shown = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\\0");
        CString::new(shown).unwrap_or_default()
    })
}

/// The error's number, one of crossfade_code or a newer one; 0 (CROSSFADE_OK) for NULL.
///
/// Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_error_code(error: *const crossfade_error) -> i32 {
    infallible(code::CrossfadePanic as i32, || {
        // SAFETY: the header's contract.
        unsafe { handle::optional(error) }.map_or(code::CrossfadeOk as i32, |error| error.code)
    })
}

/// What went wrong, where, and what to do: UTF-8, NUL-terminated; "" for NULL. Not for programs to compare: use the number.
///
/// The text belongs to the error and is valid until crossfade_error_free(). Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_error_message(error: *const crossfade_error) -> *const c_char {
    infallible(c"".as_ptr(), || {
        // SAFETY: the header's contract.
        unsafe { handle::optional(error) }.map_or(c"".as_ptr(), |error| error.message.as_ptr())
    })
}

/// Whether the same call can succeed later; false for NULL.
///
/// Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_error_is_retriable(error: *const crossfade_error) -> bool {
    infallible(false, || {
        // SAFETY: the header's contract.
        unsafe { handle::optional(error) }.is_some_and(|error| error.retry != Retry::Never)
    })
}

/// Whether the handle is of no further use (it was closed, or a newer process took its instance name): free it. False for NULL.
///
/// Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_error_is_fatal(error: *const crossfade_error) -> bool {
    infallible(false, || {
        // SAFETY: the header's contract.
        unsafe { handle::optional(error) }.is_some_and(|error| error.fatal)
    })
}

/// Whether the broker kept the message of a failed send; CROSSFADE_PERSISTED_NO for NULL and for calls that send nothing.
///
/// Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_error_persisted(
    error: *const crossfade_error,
) -> crossfade_persisted {
    infallible(crossfade_persisted::Maybe, || {
        // SAFETY: the header's contract.
        unsafe { handle::optional(error) }.map_or(crossfade_persisted::No, |error| error.persisted)
    })
}

/// The side it happened on; CROSSFADE_SIDE_NONE for NULL and where there is none.
///
/// Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_error_side(error: *const crossfade_error) -> crossfade_side {
    infallible(crossfade_side::None, || {
        // SAFETY: the header's contract.
        unsafe { handle::optional(error) }.map_or(crossfade_side::None, |error| error.side)
    })
}

/// Frees an error; NULL is allowed.
///
/// Does not block. From any thread, once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_error_free(error: *mut crossfade_error) {
    // SAFETY: the header's contract.
    infallible((), || unsafe { free(error) });
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    /// What the C enum calls a kind. A new kind does not get past this without a number in the header.
    fn in_c(kind: ErrorKind) -> Option<code> {
        Some(match kind {
            ErrorKind::Unexpected => code::CrossfadeUnexpected,
            ErrorKind::InvalidConfig => code::CrossfadeInvalidConfig,
            ErrorKind::InvalidMessage => code::CrossfadeInvalidMessage,
            ErrorKind::Closed => code::CrossfadeClosed,
            ErrorKind::Unsupported => code::CrossfadeUnsupported,
            ErrorKind::StaleDelivery => code::CrossfadeStaleDelivery,
            ErrorKind::Timeout => code::CrossfadeTimeout,
            ErrorKind::Unavailable => code::CrossfadeUnavailable,
            ErrorKind::Throttled => code::CrossfadeThrottled,
            ErrorKind::NotFound => code::CrossfadeNotFound,
            ErrorKind::PermissionDenied => code::CrossfadePermissionDenied,
            ErrorKind::Sealed => code::CrossfadeSealed,
            ErrorKind::StageUnknown => code::CrossfadeStageUnknown,
            ErrorKind::LeaseOver => code::CrossfadeLeaseOver,
            ErrorKind::Superseded => code::CrossfadeSuperseded,
            ErrorKind::InvalidPlan => code::CrossfadeInvalidPlan,
            ErrorKind::IllegalTransition => code::CrossfadeIllegalTransition,
            _ => return None,
        })
    }

    /// The kinds by name, read from the SDK's own source, so that one added there and forgotten here is noticed.
    fn kinds_in_the_sdk() -> usize {
        let source = include_str!("../../src/error.rs");
        let (_, after) = source.split_once("pub enum ErrorKind {").unwrap();
        let (body, _) = after.split_once("\n}").unwrap();
        body.lines()
            .map(str::trim)
            .filter(|line| line.ends_with(',') && !line.starts_with("//"))
            .count()
    }

    #[test]
    fn every_kind_has_its_number_in_the_header() {
        let kinds = [
            ErrorKind::Unexpected,
            ErrorKind::InvalidConfig,
            ErrorKind::InvalidMessage,
            ErrorKind::Closed,
            ErrorKind::Unsupported,
            ErrorKind::StaleDelivery,
            ErrorKind::Timeout,
            ErrorKind::Unavailable,
            ErrorKind::Throttled,
            ErrorKind::NotFound,
            ErrorKind::PermissionDenied,
            ErrorKind::Sealed,
            ErrorKind::StageUnknown,
            ErrorKind::LeaseOver,
            ErrorKind::Superseded,
            ErrorKind::InvalidPlan,
            ErrorKind::IllegalTransition,
        ];
        assert_eq!(kinds.len(), kinds_in_the_sdk());
        let own = [
            code::CrossfadeOk,
            code::CrossfadeNullParameter,
            code::CrossfadePanic,
            code::CrossfadeAbiMismatch,
        ];
        let mut numbers: Vec<i32> = own.iter().map(|code| *code as i32).collect();
        for kind in kinds {
            assert_eq!(Some(kind.code()), in_c(kind).map(|code| code as i32));
            numbers.push(kind.code());
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(
            numbers.len(),
            kinds.len() + own.len(),
            "a number is used twice"
        );
    }

    #[test]
    fn error_of_the_sdk_keeps_all_that_callers_branch_on() {
        let error = sdk::Error::new(ErrorKind::Timeout, "send", "no answer\0 in time")
            .with_persisted(Persisted::Maybe)
            .with_side(Side::Target);
        let error = Box::into_raw(Box::<crossfade_error>::from(error));
        // SAFETY: `error` was made just now and is freed once.
        unsafe {
            assert_eq!(crossfade_error_code(error), 200);
            assert!(crossfade_error_is_retriable(error));
            assert!(!crossfade_error_is_fatal(error));
            assert_eq!(crossfade_error_persisted(error), crossfade_persisted::Maybe);
            assert_eq!(crossfade_error_side(error), crossfade_side::Target);
            let message = CStr::from_ptr(crossfade_error_message(error));
            assert!(message.to_str().unwrap().ends_with("no answer\\0 in time"));
            crossfade_error_free(error);
        }
    }

    #[test]
    fn null_is_no_error() {
        let none: *mut crossfade_error = std::ptr::null_mut();
        // SAFETY: NULL is allowed everywhere.
        unsafe {
            assert_eq!(crossfade_error_code(none), 0);
            assert_eq!(CStr::from_ptr(crossfade_error_message(none)), c"");
            assert!(!crossfade_error_is_retriable(none));
            assert!(!crossfade_error_is_fatal(none));
            assert_eq!(crossfade_error_persisted(none), crossfade_persisted::No);
            assert_eq!(crossfade_error_side(none), crossfade_side::None);
            crossfade_error_free(none);
        }
    }
}
