//! The C ABI of Crossfade: `include/crossfade.h` is generated from this crate, `README.md` has its conventions.
//!
//! What every export may rely on, and what each `SAFETY` line calls "the header's contract": a pointer is NULL or points to a live, aligned
//! object of its type; a handle was made by this library, is freed once, and is in no other call while it is freed; a C string ends with
//! NUL; bytes are readable for their whole length for as long as the call runs. The rest is checked: NULL, UTF-8, lengths, ranges, versions.
#![deny(unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks)]
#![allow(
    non_camel_case_types,
    reason = "a C type has one name, in C and in here"
)]
#![allow(
    clippy::missing_safety_doc,
    reason = "all exports have one contract, above; the header and README.md state it"
)]

#[cfg(panic = "abort")]
compile_error!("the panic guard needs unwinding: build crossfade-ffi without `panic = \"abort\"`");

pub mod bytes;
pub mod client;
pub mod config;
pub mod consumer;
pub mod error;
mod guard;
mod handle;
pub mod producer;
pub mod runtime;
pub mod version;
