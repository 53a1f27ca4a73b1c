//! Time as a parameter.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// Tells the time. Leases count on [`boot_time`](Clock::boot_time).
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Time since some fixed moment; never goes back, and keeps counting while the machine is suspended.
    fn boot_time(&self) -> Duration;

    /// The wall clock, for what people read. It may jump.
    fn wall_time(&self) -> SystemTime;
}

/// The machine's clocks: `CLOCK_BOOTTIME` on Linux; elsewhere what `std::time::Instant` counts, which may stop during a suspend.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn boot_time(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(
            u64::try_from(now.tv_sec).unwrap_or(0),
            u32::try_from(now.tv_nsec).unwrap_or(0),
        )
    }

    #[cfg(not(target_os = "linux"))]
    fn boot_time(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }

    fn wall_time(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Follows tokio's clock, which tests pause and advance. Counts from the moment it was made; the wall clock counts from the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: tokio::time::Instant,
}

impl Default for TokioClock {
    fn default() -> Self {
        TokioClock {
            start: tokio::time::Instant::now(),
        }
    }
}

impl Clock for TokioClock {
    fn boot_time(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_never_goes_back() {
        let clock: &dyn Clock = &SystemClock;
        let first = clock.boot_time();
        assert!(clock.boot_time() >= first);
    }

    #[tokio::test(start_paused = true)]
    async fn tokio_clock_follows_the_paused_time() {
        let clock = TokioClock::default();
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.boot_time(), Duration::from_secs(90));
    }
}
