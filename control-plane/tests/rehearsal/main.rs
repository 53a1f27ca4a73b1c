//! `crossfade load` and `crossfade history check` as people run them: as processes.

mod check;
mod live;
mod refused;
#[cfg(unix)]
mod signals;
mod support;
