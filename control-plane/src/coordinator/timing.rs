//! How long things last.

use std::time::Duration;

/// How long things last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// An instance counts as alive for so long after its last request. Default 30 s.
    pub lease: Duration,
    /// Added on this side. In mode `stop` no request is at a broker after the lease, but a broker may still store what it has: RocketMQ's for up to
    /// 5 s. Less than that is for rehearsals. Default 6 s.
    pub margin: Duration,
    /// Between two looks at the brokers for a topic that is on its way. Default 500 ms.
    pub inspect_moving: Duration,
    /// Between two looks for a topic that rests. Default 10 s.
    pub inspect_resting: Duration,
    /// A change of access without an answer may still land for so long. Default 10 s, twice the longest wait of a request.
    pub change_bound: Duration,
    /// A living client whose connection was cut, by a restart of its broker say, is listed again within so long: the brokers' silence about one proves
    /// that it is gone when it has lasted that long. Default 20 s, more than the 15 s between two heartbeats.
    pub relist: Duration,
    /// An instance whose request has failed asks again within so long, or within a quarter of a lease. Default 5 s, the longest pause of the library.
    pub reconnect: Duration,
    /// A harmless instance is forgotten after so long. Default 1 h.
    pub forget: Duration,
    /// Ordering keys are frozen for so long at most: until then every instance has applied that, and the brokers have told the ends of the side being left, or
    /// the freeze is called off. Half of the time that a send may take by default, because sends wait for it. Default 5 s.
    pub freeze: Duration,
    /// The first pause after a freeze that was called off; it doubles each time, up to thirty times as long. Default 1 s.
    pub freeze_again: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            lease: Duration::from_secs(30),
            margin: Duration::from_secs(6),
            inspect_moving: Duration::from_millis(500),
            inspect_resting: Duration::from_secs(10),
            change_bound: Duration::from_secs(10),
            relist: Duration::from_secs(20),
            reconnect: Duration::from_secs(5),
            forget: Duration::from_secs(3600),
            freeze: Duration::from_secs(5),
            freeze_again: Duration::from_secs(1),
        }
    }
}
