//! `crossfade load` and `crossfade history check` as people run them: as processes.

mod check;
mod demo;
#[cfg(feature = "https")]
mod https;
mod live;
mod refused;
#[cfg(unix)]
mod signals;
mod support;
