//! The configuration, key by key.

use std::{ffi::c_char, path::Path};

use sdk::config::Config;

use crate::{
    error::crossfade_error,
    guard::{fallible, infallible},
    handle::{borrowed_mut, free, into_raw, string},
};

/// A configuration on its way to crossfade_client_start(). Owned by the caller; freed with crossfade_config_free().
///
/// Thread safety: one thread at a time.
#[derive(Debug)]
pub struct crossfade_config {
    pub(crate) config: Config,
}

/// An empty configuration: every key has its default. Never NULL, except after a panic inside.
///
/// The caller owns it. Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn crossfade_config_new() -> *mut crossfade_config {
    infallible(std::ptr::null_mut(), || {
        into_raw(crossfade_config {
            config: Config::default(),
        })
    })
}

/// Sets one key of CONFIGURATION.md ("control.url", "source.address", ...); a later value replaces an earlier one. Both strings are copied.
///
/// CROSSFADE_INVALID_CONFIG for an unknown key or a value out of its range, named in the message; the configuration is as before.
/// Does not block. The configuration must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_config_set(
    config: *mut crossfade_config,
    key: *const c_char,
    value: *const c_char,
) -> *mut crossfade_error {
    fallible("crossfade_config_set", || {
        // SAFETY: the header's contract.
        let (config, key, value) = unsafe {
            (
                borrowed_mut(config, "config")?,
                string(key, "key")?,
                string(value, "value")?,
            )
        };
        config.config.set(key, value)?;
        Ok(())
    })
}

/// Reads a file of `key = value` lines (# begins a comment) and sets each key. The path is UTF-8.
///
/// CROSSFADE_INVALID_CONFIG names file, line and key; the configuration is as before. Blocks for as long as the file system does.
/// The configuration must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_config_load_file(
    config: *mut crossfade_config,
    path: *const c_char,
) -> *mut crossfade_error {
    fallible("crossfade_config_load_file", || {
        // SAFETY: the header's contract.
        let (config, path) = unsafe { (borrowed_mut(config, "config")?, string(path, "path")?) };
        config.config.set_file(Path::new(path))?;
        Ok(())
    })
}

/// Frees a configuration; NULL is allowed. Clients started from it are not affected.
///
/// Does not block. From any thread, once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_config_free(config: *mut crossfade_config) {
    // SAFETY: the header's contract.
    infallible((), || unsafe { free(config) });
}
