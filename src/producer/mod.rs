//! Sending to one topic, wherever its plan says.

mod active;
mod order;
mod random;
pub mod rules;
mod sides;
mod ticket;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use self::{
    order::Session,
    random::Draws,
    rules::{Failure, Next},
    sides::{Sides, Warmer},
    ticket::{Holder, Ticket},
};
use crate::{
    backend::{Backends, KEY_PROPERTY, Outgoing, REVISION_PROPERTY, Stored},
    control::{Contact, InUse, ProducerRole},
    error::{Error, ErrorKind, Persisted, Result},
    message::{IdempotencyKey, Message, SendReceipt},
    metrics::{Event, TopicMetrics},
    side::{Revision, Side},
    stage::Route,
};

/// How a producer sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerOptions {
    /// From the call of `send` to its end, all tries together. Default 10 s.
    pub send_timeout: Duration,
    /// One try; in lease mode `stop` never longer than what is left of the lease. Default 3 s, as RocketMQ's own client.
    pub try_timeout: Duration,
    /// Most tries of one send, 1 and more. Default 4.
    pub max_tries: u32,
    /// Whether the other side may take a send that failed for certain, in `DualWrite` and without an ordering key. Default true.
    pub fail_over: bool,
    /// The largest body that the sides are opened for, in bytes. Default 4 MiB, the brokers' own default.
    pub max_body_bytes: usize,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            send_timeout: Duration::from_secs(10),
            try_timeout: Duration::from_secs(3),
            max_tries: 4,
            fail_over: true,
            max_body_bytes: 4 << 20,
        }
    }
}

/// What a producer is made of.
#[derive(Debug)]
pub struct ProducerParts {
    /// The registration.
    pub role: ProducerRole,
    /// Both clusters.
    pub backends: Arc<dyn Backends>,
    /// Whether sends may go on.
    pub contact: Arc<Contact>,
    /// The topic's metrics.
    pub metrics: Arc<TopicMetrics>,
    /// How to send.
    pub options: ProducerOptions,
    /// Of the draws between the sides.
    pub seed: u64,
    /// Begins every idempotency key made here; no other producer has it.
    pub key_prefix: String,
}

/// Sends to one topic. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
}

/// What every routing decision reads comes first, so that it lies in one cache line.
#[derive(Debug)]
#[repr(C)]
struct Shared {
    role: ProducerRole,
    draws: Draws,
    contact: Arc<Contact>,
    metrics: Arc<TopicMetrics>,
    sides: Arc<Sides>,
    options: ProducerOptions,
    key_prefix: String,
    next_key: AtomicU64,
    holder: Holder,
    /// Ends with the last clone.
    _warmer: Warmer,
}

/// Where a send goes.
struct Routed {
    plan: Arc<InUse>,
    side: Side,
    /// Of a send that promises order.
    session: Option<Session>,
}

impl Producer {
    /// Starts a producer. Both sides are connected when the plan first needs them, or is one step away from it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(parts: ProducerParts) -> Producer {
        let cell = Arc::clone(parts.role.cell());
        let sides = Arc::new(Sides::new(Arc::clone(cell.topic()), parts.backends));
        let warmer = Warmer::start(Arc::clone(&cell), &sides);
        Producer {
            shared: Arc::new(Shared {
                role: parts.role,
                contact: parts.contact,
                metrics: parts.metrics,
                options: parts.options,
                sides,
                _warmer: warmer,
                draws: Draws::new(parts.seed),
                key_prefix: parts.key_prefix,
                next_key: AtomicU64::new(0),
                holder: Holder {
                    runtime: Handle::current(),
                    active: Arc::default(),
                    cell,
                },
            }),
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        self.shared.role.cell().topic()
    }

    /// Where a send that begins now would go, and under which revision. Weighted messages without an ordering key are drawn anew at each call.
    ///
    /// # Errors
    /// `StageUnknown` when there is no plan for the topic; `Timeout` while the ordering key is changing sides: a send waits for the end of that.
    pub fn route(&self, ordering_key: Option<&str>) -> Result<(Side, Revision)> {
        let shared = &*self.shared;
        let decided = shared.role.cell().decide(|plan| {
            let route = shared.route(plan, ordering_key.map(str::as_bytes));
            (route, plan.plan().revision)
        });
        match decided.ok_or_else(|| shared.no_plan())? {
            (Route::To(side), revision) => Ok((side, revision)),
            (Route::Held, revision) => Err(order::held(self.topic(), revision)),
        }
    }

    /// Sends a message once, to one side, and returns when its broker has stored it.
    ///
    /// # Errors
    /// `InvalidMessage` before anything is sent; `Closed`, `StageUnknown`, `LeaseOver`, `Superseded`; else what the broker said last, with
    /// `persisted` telling whether some try may have been stored. A caller that sends again after `Persisted::Maybe` uses the same
    /// idempotency key. In an ordered topic, a message whose key is changing sides waits, and ends with `Timeout` and `Persisted::No` when that takes longer
    /// than the send timeout.
    ///
    /// # Cancellation
    /// The message may or may not be stored, as after `Persisted::Maybe`. The plan that routed it counts as in use until the broker's bound has
    /// passed.
    pub async fn send(&self, message: Message) -> Result<SendReceipt> {
        let shared = &*self.shared;
        check_properties(&message)?;
        shared.contact.check("send")?;
        let _active = shared.holder.active.enter()?;
        let begun = Instant::now();
        let key = match &message.idempotency_key {
            Some(key) => key.clone(),
            None => shared.new_key()?,
        };
        let ordering_key = message.ordering_key.as_deref().map(str::as_bytes);
        let deadline = begun + shared.options.send_timeout;
        let routed = shared.routed(ordering_key, deadline).await?;
        if routed.plan.is_ordered() {
            order::check(&message)?;
        }
        let (mut side, mut session) = (routed.side, routed.session);
        let mut ticket = Ticket::new(routed.plan, &shared.holder);
        let mut lane = match ordering_key {
            Some(key) => lane_of(key),
            None => shared.draws.next(),
        };
        let mut tries = 0;
        let mut persisted = Persisted::No;
        let mut sealed = [false; 2];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let revision = ticket.plan().plan().revision;
            let outgoing = Outgoing {
                message: &message,
                idempotency_key: &key,
                revision,
                lane,
            };
            let error = match shared.try_once(&mut ticket, side, outgoing, left).await {
                Ok(_) if session.is_some_and(|session| !session.stands(&shared.contact)) => {
                    // Stored, and perhaps behind the barrier of a move: no success before it is stored where the new plan says.
                    persisted = Persisted::Yes;
                    shared.metrics.event(Event::Rerouted, side);
                    let standing = shared.contact.check("send");
                    standing.map_err(|refused| refused.with_persisted(persisted))?;
                    drop(ticket);
                    let routed = shared.routed(ordering_key, deadline).await;
                    let routed = routed.map_err(|held| held.with_persisted(persisted))?;
                    (side, session) = (routed.side, routed.session);
                    ticket = Ticket::new(routed.plan, &shared.holder);
                    continue;
                }
                Ok(stored) => {
                    shared.metrics.sent(revision, side, begun.elapsed());
                    return Ok(SendReceipt {
                        message_id: stored.message_id,
                        side,
                        revision,
                        idempotency_key: key,
                    });
                }
                Err(error) => error,
            };
            tries += 1;
            persisted = at_least(persisted, error.persisted());
            sealed[side.index()] |= error.kind() == ErrorKind::Sealed;
            let left = deadline.saturating_duration_since(Instant::now());
            let next = rules::after(Failure {
                error: &error,
                tries,
                max_tries: if left.is_zero() {
                    0
                } else {
                    shared.options.max_tries
                },
                maybe_stored: persisted != Persisted::No,
                other_sealed: sealed[side.other().index()],
                ordered: ordering_key.is_some(),
                write_plan: ticket.plan().write_plan(),
                newer_plan: shared.newest() > revision,
                fail_over: shared.options.fail_over,
            });
            match next {
                Next::SameSide { same_lane, pause } if pause < left => {
                    shared.metrics.event(Event::Retry, side);
                    if !same_lane {
                        lane = shared.draws.next();
                    }
                    tokio::time::sleep(pause).await;
                }
                Next::FailOver { pause } if pause < left => {
                    shared.metrics.event(Event::FailedOver, side);
                    side = side.other();
                    tokio::time::sleep(pause).await;
                }
                Next::OtherSide => {
                    shared.metrics.event(Event::Rerouted, side);
                    side = side.other();
                }
                Next::Reroute | Next::AwaitPlan
                    if next == Next::Reroute || shared.newer_plan_within(revision, left).await =>
                {
                    shared.metrics.event(Event::Rerouted, side);
                    // Let go first: a send that is held waits for the plan after the one that waits for this send.
                    drop(ticket);
                    let routed = shared.routed(ordering_key, deadline).await;
                    let routed = routed.map_err(|held| held.with_persisted(persisted))?;
                    (side, session) = (routed.side, routed.session);
                    ticket = Ticket::new(routed.plan, &shared.holder);
                }
                _ => {
                    shared.metrics.send_failed(revision, side);
                    return Err(error.with_persisted(persisted).with_side(side));
                }
            }
            // In lease mode `stop` nothing goes out once the lease is over, a retry neither.
            let standing = shared.contact.check("send");
            standing.map_err(|refused| refused.with_persisted(persisted))?;
        }
    }

    /// Refuses new sends and waits until those under way have ended, and until the broker's bound has passed for those whose answer never
    /// came: after it, no message of this producer is stored any more.
    ///
    /// # Errors
    /// None; the result leaves room for backends that have something to flush.
    ///
    /// # Cancellation
    /// New sends stay refused; those under way go on.
    pub async fn close(&self) -> Result<()> {
        self.shared.holder.active.close().await;
        Ok(())
    }
}

/// Closes a producer without keeping it alive.
#[derive(Debug)]
pub(crate) struct ProducerCloser(Arc<active::Active>);

impl Producer {
    pub(crate) fn closer(&self) -> ProducerCloser {
        ProducerCloser(Arc::clone(&self.shared.holder.active))
    }
}

impl ProducerCloser {
    /// Whether there is a clone of the producer, or a send without a definite end.
    pub(crate) fn is_needed(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// As [`Producer::close`]; also waits for what a dropped producer has left behind.
    pub(crate) async fn close(self) -> Result<()> {
        self.0.close().await;
        Ok(())
    }
}

impl Shared {
    fn plan(&self) -> Result<Arc<InUse>> {
        self.role.cell().load().ok_or_else(|| self.no_plan())
    }

    fn no_plan(&self) -> Error {
        Error::new(
            ErrorKind::StageUnknown,
            "send",
            format!(
                "no plan for topic {}: the control plane does not manage it (`crossfade topic add {0} --group ...`)",
                self.role.cell().topic()
            ),
        )
    }

    fn route(&self, plan: &InUse, ordering_key: Option<&[u8]>) -> Route {
        plan.route(ordering_key, || (self.draws.next() >> 32) as u32)
    }

    /// A plan that lets the message go, and where to. One whose ordering key is changing sides is held, and holds no plan in use meanwhile.
    async fn routed(&self, ordering_key: Option<&[u8]>, deadline: Instant) -> Result<Routed> {
        loop {
            // Before the plan: one that comes with a new session is not taken for the old one's.
            let session = Session::of(&self.contact);
            let plan = self.plan()?;
            let session = (plan.is_ordered() && ordering_key.is_some()).then_some(session);
            if session.is_some_and(Session::is_none) {
                drop(plan);
                order::await_contact(&self.contact, deadline).await?;
                continue;
            }
            if let Route::To(side) = self.route(&plan, ordering_key) {
                return Ok(Routed {
                    plan,
                    side,
                    session,
                });
            }
            let revision = plan.plan().revision;
            drop(plan);
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.newer_plan_within(revision, left).await {
                return Err(order::held(self.role.cell().topic(), revision));
            }
            self.contact.check("send")?;
        }
    }

    /// The revision in force.
    fn newest(&self) -> Revision {
        self.role
            .cell()
            .read_plan()
            .map_or(Revision::default(), |(revision, _)| revision)
    }

    async fn newer_plan_within(&self, revision: Revision, wait: Duration) -> bool {
        let mut changes = self.role.cell().changes();
        let newer = changes.wait_for(|current| current.is_some_and(|current| current > revision));
        matches!(tokio::time::timeout(wait, newer).await, Ok(Ok(_)))
    }

    /// One request to one side.
    #[tracing::instrument(
        name = "send", level = "debug", skip_all,
        fields(topic = %self.role.cell().topic(), %side, revision = %outgoing.revision),
    )]
    async fn try_once(
        &self,
        ticket: &mut Ticket<'_>,
        side: Side,
        outgoing: Outgoing<'_>,
        left: Duration,
    ) -> Result<Stored> {
        // The control plane counts on the end of the lease: after it, a broker may store what it has, but is asked nothing.
        let timeout = self.options.try_timeout.min(left);
        let timeout = self.contact.within_lease("send", timeout)?;
        let (producer, timeout) = match self.sides.connected(side) {
            Some(producer) => (producer, timeout),
            None => {
                let begun = Instant::now();
                let connected = tokio::time::timeout(timeout, self.sides.connect(side)).await;
                let producer = connected.map_err(|_| {
                    Error::new(
                        ErrorKind::Unavailable,
                        "send",
                        format!(
                            "no connection to the {side} within {} ms",
                            timeout.as_millis()
                        ),
                    )
                })??;
                self.contact.check("send")?;
                (producer, timeout.saturating_sub(begun.elapsed()))
            }
        };
        ticket.begin(producer.ambiguity_bound());
        let result = producer.send(outgoing, timeout).await;
        match &result {
            Err(error) if error.persisted() == Persisted::Maybe => ticket.leave(),
            _ => ticket.settle(),
        }
        result
    }

    fn new_key(&self) -> Result<IdempotencyKey> {
        let number = self.next_key.fetch_add(1, Ordering::Relaxed);
        IdempotencyKey::new(format!("{}-{number:x}", self.key_prefix))
    }
}

/// What is known of the message after another try.
fn at_least(before: Persisted, now: Persisted) -> Persisted {
    match (before, now) {
        (Persisted::Yes, _) | (_, Persisted::Yes) => Persisted::Yes,
        (Persisted::Maybe, _) | (_, Persisted::Maybe) => Persisted::Maybe,
        (Persisted::No, Persisted::No) => Persisted::No,
    }
}

/// The same ordering key is the same lane, in every process.
fn lane_of(ordering_key: &[u8]) -> u64 {
    u64::from(crate::stage::bucket_of(ordering_key))
}

fn check_properties(message: &Message) -> Result<()> {
    let reserved = [KEY_PROPERTY, REVISION_PROPERTY];
    match message
        .properties
        .iter()
        .find(|(name, _)| reserved.contains(&name.as_str()))
    {
        Some((name, _)) => Err(Error::new(
            ErrorKind::InvalidMessage,
            "send",
            format!("the property {name} is the library's own: rename yours"),
        )),
        None => Ok(()),
    }
}

#[cfg(all(test, feature = "memory"))]
mod order_tests;
#[cfg(all(test, feature = "memory"))]
mod tests;
