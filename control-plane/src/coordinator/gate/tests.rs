//! Every gate both ways, and the catalogue.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use crossfade::{
    Access, Revision, Side,
    backend::{Backlog, ConnectedClient, DelayLevels, QueueBacklog, QueueId, TopicSettings},
    control::wire::{self, ConsumerState, Counters, Role, SideState, SyncRequest, Unreadable},
    stage::{Routing, TopicPlan, Weight},
};

use super::*;
use crate::coordinator::{GroupFacts, SideFacts, Timing};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const QUEUES: u32 = 4;

/// All that gates are decided from, in a state in which every gate of the step is open.
struct Cast {
    row: TopicRecord,
    request: SyncRequest,
    facts: Facts,
    /// Messages between the first two looks, and between the second and the third, by side.
    grown: [[u64; 2]; 2],
    limits: Limits,
}

impl Cast {
    fn new(stage: Stage) -> Self {
        let settings = TopicSettings {
            queues: QUEUES,
            saved: Value::Null,
        };
        let plan = TopicPlan {
            topic: TOPIC.into(),
            stage,
            weight: Weight::ZERO,
            routing: Routing::Unordered,
            moves: Vec::new(),
            revision: Revision(7),
            previous_revision: Revision(6),
        };
        let consumer = ConsumerState {
            group: GROUP.into(),
            sides: Side::BOTH
                .map(|side| SideState {
                    side,
                    queues: QUEUES,
                    queue_ids: queues().map(|queue| queue.to_string()).collect(),
                    unreadable: Vec::new(),
                })
                .into(),
        };
        Cast {
            row: TopicRecord::new(
                plan,
                Weight::ZERO,
                vec![GROUP.into()],
                [settings.clone(), settings],
            ),
            request: SyncRequest {
                version: wire::VERSION,
                instance: "orders-1".into(),
                incarnation: "1".into(),
                client_ids: vec!["app".into()],
                roles: vec![Role {
                    topic: TOPIC.into(),
                    produces: true,
                    consumes: vec![consumer],
                }],
                acks: [(TOPIC.into(), Revision(7))].into(),
                counters: vec![Counters {
                    topic: TOPIC.into(),
                    revision: Revision(7),
                    ..Counters::default()
                }],
                ..SyncRequest::default()
            },
            facts: Facts {
                begun: Duration::ZERO,
                sides: Side::BOTH.map(|side| side_facts(stage.access(side))),
            },
            grown: [[0; 2]; 2],
            limits: Limits::default(),
        }
    }

    fn side(&mut self, side: Side) -> &mut SideFacts {
        &mut self.facts.sides[side.index()]
    }

    fn group(&mut self, side: Side) -> &mut GroupFacts {
        self.side(side).groups.get_mut(GROUP).unwrap()
    }

    fn backlog(&mut self, side: Side) -> &mut Backlog {
        self.side(side).backlogs.get_mut(GROUP).unwrap()
    }

    fn judge<T>(&self, look: impl FnOnce(&Scene<'_>) -> T) -> T {
        let mut members = Membership::restore(Timing::default(), Vec::new(), Duration::ZERO);
        let mut request = self.request.clone();
        let errors = std::mem::take(&mut request.counters[0].send_errors);
        members.sync(&request, Duration::ZERO);
        let mut writes = Accounting::new(Duration::from_secs(5));
        let mut now = Duration::ZERO;
        let mut facts = self.facts.clone();
        for index in 0..3 {
            now = Duration::from_secs(10 * index);
            facts.begun = now;
            if index > 0 {
                request.counters[0].send_errors = errors;
                let grown = self.grown[index as usize - 1];
                for (side, grown) in facts.sides.iter_mut().zip(grown) {
                    *side.ends.values_mut().next().unwrap() += grown;
                }
            }
            writes.asked(members.reports(TOPIC, now));
            members.sync(&request, now);
            writes.looked(&facts, &members.reports(TOPIC, now), now);
        }
        look(&Scene {
            row: &self.row,
            members: &members,
            facts: &facts,
            writes: &writes,
            limits: &self.limits,
            now,
        })
    }

    fn gates(&self, next: Stage) -> Vec<Gate> {
        self.judge(|scene| {
            let mut gates = of_instances(scene.row, scene.members, scene.now);
            assert_eq!(applied(scene.row, scene.members, scene.now), passed(&gates));
            let step = of_step(scene, next);
            assert_eq!(is_open(scene, next), passed(&step));
            gates.extend(step);
            gates
        })
    }

    fn closed(&self, next: Stage) -> Vec<String> {
        let gates = self.gates(next).into_iter();
        gates
            .filter(|gate| !gate.passed)
            .map(|gate| gate.code)
            .collect()
    }

    fn blocking(&self, next: Stage) -> Vec<String> {
        let gates = self.gates(next).into_iter();
        gates.filter(Gate::blocks).map(|gate| gate.code).collect()
    }
}

fn queues() -> impl Iterator<Item = QueueId> {
    (0..QUEUES).map(|queue| QueueId {
        broker: "b".into(),
        queue,
    })
}

fn side_facts(access: Access) -> SideFacts {
    let managed = client("app");
    SideFacts {
        access: Some(access),
        queues: queues().filter(|_| access != Access::Sealed).collect(),
        ends: queues().map(|queue| (queue, 50)).collect(),
        groups: [(Arc::from(GROUP), group(vec![managed.clone()]))].into(),
        backlogs: [(Arc::from(GROUP), backlog(0))].into(),
        producers: Some(vec![managed]),
        ..SideFacts::default()
    }
}

fn group(clients: Vec<ConnectedClient>) -> GroupFacts {
    let mut group = GroupFacts {
        exists: true,
        ..GroupFacts::default()
    };
    group.members.clients = clients;
    group
}

fn client(client_id: &str) -> ConnectedClient {
    ConnectedClient {
        client_id: client_id.into(),
        address: "10.0.0.1:1".into(),
        group: GROUP.into(),
        language: "JAVA".into(),
        version: "4.9.7".into(),
        last_seen_ms: None,
    }
}

fn backlog(waiting: u64) -> Backlog {
    let line = QueueBacklog {
        queue: queues().next().unwrap(),
        min: 0,
        end: 50,
        committed: Some(50 - waiting),
    };
    Backlog {
        queues: vec![line],
        retry: Vec::new(),
        retry_of_others: 0,
        delayed: Some(0),
        half: Some(0),
        dead_letters: Some(0),
    }
}

/// A broker with two delays: 1 s and this one.
fn ladder(broker: &str, seconds: u64) -> BTreeMap<String, DelayLevels> {
    let levels = [1, seconds].map(Duration::from_secs).to_vec();
    [(broker.to_owned(), DelayLevels(levels))].into()
}

fn retry(owed: u64) -> Vec<QueueBacklog> {
    backlog(owed).queues
}

const FORWARD: [(Stage, Stage); 4] = [
    (Stage::SourceOnly, Stage::DualRead),
    (Stage::DualRead, Stage::DualWrite),
    (Stage::DualWrite, Stage::Draining),
    (Stage::Draining, Stage::TargetOnly),
];

#[test]
fn backlog_behind_a_message_that_cannot_be_read_says_so_and_where() {
    for (stage, next, side) in [
        (Stage::Draining, Stage::TargetOnly, Side::Source),
        (Stage::DualRead, Stage::SourceOnly, Side::Target),
        (Stage::DualWrite, Stage::Draining, Side::Target),
    ] {
        let mut cast = Cast::new(stage);
        cast.limits.target_lag = 9;
        *cast.backlog(side) = backlog(10);
        let closed = |cast: &Cast| cast.gates(next).into_iter().find(Gate::blocks).unwrap();
        assert!(closed(&cast).numbers.get("unreadable").is_none());
        let states = &mut cast.request.roles[0].consumes[0].sides;
        let state = states.iter_mut().find(|state| state.side == side).unwrap();
        state.unreadable = vec![Unreadable::new("b:2".into(), 41, "compressed by LZ4")];
        let gate = closed(&cast);
        for word in [GROUP, "b:2", "41", "LZ4", "orders-1"] {
            assert!(gate.message.contains(word), "{}", gate.message);
        }
        assert_eq!(gate.numbers["unreadable"][0]["offset"], 41);
    }
}

#[test]
fn in_good_order_no_gate_of_any_step_blocks() {
    let back = FORWARD.map(|(stage, next)| (next, stage));
    for (stage, next) in FORWARD.into_iter().chain(back) {
        let cast = Cast::new(stage);
        assert_eq!(
            cast.blocking(next),
            Vec::<String>::new(),
            "{stage} to {next}"
        );
    }
}

/// What closes each gate: the step, the code, the change.
type Closing = (usize, &'static str, fn(&mut Cast));

const CLOSING: &[Closing] = &[
    (0, "instances_acked", |cast| cast.request.acks.clear()),
    (0, "plans_refused", |cast| {
        cast.request.refused.push(wire::Refused {
            topic: TOPIC.into(),
            revision: Revision(7),
            reason: "ordered".into(),
        });
    }),
    (0, "clusters_answer", |cast| {
        cast.side(Side::Target).unknown.push("no answer".into());
    }),
    (0, "topic_on_source", |cast| {
        cast.side(Side::Source).access = None
    }),
    (0, "topic_on_target", |cast| {
        cast.side(Side::Target).access = None
    }),
    (1, "topic_on_target", |cast| cast.row.settings[1].queues = 0),
    (0, "groups_on_source", |cast| {
        cast.group(Side::Source).exists = false
    }),
    (0, "groups_on_target", |cast| {
        cast.group(Side::Target).exists = false
    }),
    (0, "group_count", |cast| {
        let other = (Arc::from("audit"), group(Vec::new()));
        cast.side(Side::Target).groups.extend([other]);
    }),
    (0, "groups_known", |cast| {
        for side in Side::BOTH {
            let other = (Arc::from("audit"), backlog(0));
            cast.side(side).backlogs.extend([other]);
        }
    }),
    (1, "groups_known", |cast| {
        let other = (Arc::from("audit"), backlog(0));
        cast.side(Side::Source).backlogs.extend([other]);
    }),
    (0, "message_type", |cast| {
        cast.side(Side::Source).message_type = Some("NORMAL".into());
        cast.side(Side::Target).message_type = Some("FIFO".into());
    }),
    (0, "message_type", |cast| {
        cast.side(Side::Target).message_type = Some("TRANSACTION".into());
    }),
    (0, "delay_levels", |cast| {
        for (side, delay) in Side::BOTH.into_iter().zip([5, 6]) {
            cast.side(side).delays = ladder("b", delay).into();
        }
    }),
    (0, "delay_levels", |cast| {
        let mut mixed = ladder("a", 5);
        mixed.append(&mut ladder("b", 6));
        cast.side(Side::Target).delays = mixed.into();
        let other = QueueId {
            broker: "a".into(),
            queue: 0,
        };
        cast.side(Side::Target).ends.insert(other, 0);
    }),
    (0, "delay_levels", |cast| {
        cast.side(Side::Target).delays_unknown = Some(Arc::new("not readable".into()));
    }),
    (0, "queues_on_target", |cast| {
        cast.row.settings[1].queues = QUEUES - 1
    }),
    (0, "permissions", |cast| {
        cast.side(Side::Source).access = Some(Access::Closed)
    }),
    (1, "permissions", |cast| {
        cast.side(Side::Source).disagreement = Some("a: open, b: sealed".into());
    }),
    (1, "permissions", |cast| {
        cast.side(Side::Source).access = Some(Access::Sealed)
    }),
    (0, "roles_registered", |cast| {
        cast.request.roles[0].consumes.clear()
    }),
    (0, "consumers_on_target", |cast| {
        cast.group(Side::Target)
            .members
            .clients
            .push(client("stranger"));
    }),
    (1, "consumers_on_target", |cast| {
        cast.group(Side::Target)
            .members
            .clients
            .push(client("stranger"));
    }),
    (0, "unmanaged_consumers", |cast| {
        cast.group(Side::Source)
            .members
            .clients
            .push(client("stranger"));
    }),
    (3, "unmanaged_consumers", |cast| {
        cast.group(Side::Source)
            .members
            .clients
            .push(client("stranger"));
    }),
    (0, "unmanaged_producers", |cast| cast.grown[0][0] = 5),
    (0, "broadcast_groups", |cast| {
        cast.group(Side::Source).members.broadcasting = true;
    }),
    (0, "pop_groups", |cast| {
        cast.group(Side::Source).members.pop = true
    }),
    (3, "pop_groups", |cast| {
        cast.group(Side::Source).members.pop = true
    }),
    (0, "target_quiet", |cast| cast.grown[1][1] = 1),
    (1, "target_quiet", |cast| cast.grown[1][1] = 1),
    (3, "source_quiet", |cast| cast.grown[1][0] = 1),
    (1, "groups_subscribed_target", |cast| {
        let sides = &mut cast.request.roles[0].consumes[0].sides;
        // As many queues as there are, one of them twice.
        sides[1].queue_ids[0] = sides[1].queue_ids[1].clone();
    }),
    (2, "target_write_errors", |cast| {
        cast.request.counters[0].send_errors = [0, 2];
    }),
    (2, "target_lag", |cast| {
        cast.limits.target_lag = 9;
        *cast.backlog(Side::Target) = backlog(10);
    }),
    (3, "source_drained", |cast| {
        *cast.backlog(Side::Source) = backlog(1)
    }),
    (3, "source_drained", |cast| {
        cast.backlog(Side::Source).retry = retry(1)
    }),
    (3, "source_drained", |cast| {
        cast.backlog(Side::Source).delayed = Some(1)
    }),
    (3, "source_drained", |cast| {
        cast.backlog(Side::Source).half = Some(1)
    }),
    (3, "source_backlog_known", |cast| {
        cast.side(Side::Source).backlogs.clear()
    }),
    (3, "source_backlog_known", |cast| {
        cast.backlog(Side::Source).delayed = None
    }),
    (3, "source_backlog_known", |cast| {
        cast.backlog(Side::Source).half = None
    }),
    (3, "source_backlog_known", |cast| {
        cast.backlog(Side::Source).queues[0].committed = Some(51)
    }),
];

/// From a stage, to the one before it: a gate, and what closes it.
type ClosingStep = (Stage, Stage, &'static str, fn(&mut Cast));

const CLOSING_BACK: &[ClosingStep] = &[
    (
        Stage::DualRead,
        Stage::SourceOnly,
        "target_drained",
        |cast| *cast.backlog(Side::Target) = backlog(1),
    ),
    (
        Stage::DualRead,
        Stage::SourceOnly,
        "target_backlog_known",
        |cast| cast.side(Side::Target).backlogs.clear(),
    ),
    (Stage::DualRead, Stage::SourceOnly, "target_quiet", |cast| {
        cast.grown[1][1] = 1
    }),
    (Stage::DualRead, Stage::SourceOnly, "pop_groups", |cast| {
        cast.group(Side::Target).members.pop = true;
    }),
    (
        Stage::TargetOnly,
        Stage::Draining,
        "topic_on_source",
        |cast| cast.row.settings[0].queues = 0,
    ),
    (
        Stage::TargetOnly,
        Stage::Draining,
        "groups_on_source",
        |cast| cast.group(Side::Source).exists = false,
    ),
];

fn closings() -> impl Iterator<Item = ClosingStep> {
    let forward = CLOSING.iter();
    let forward =
        forward.map(|(step, code, close)| (FORWARD[*step].0, FORWARD[*step].1, *code, *close));
    forward.chain(CLOSING_BACK.iter().copied())
}

#[test]
fn each_gate_is_closed_by_what_it_asks_about_and_says_by_what() {
    for (stage, next, code, close) in closings() {
        let mut cast = Cast::new(stage);
        close(&mut cast);
        assert!(
            cast.blocking(next).contains(&code.to_owned()),
            "{stage} to {next}: {code}: {:?}",
            cast.closed(next)
        );
        let gates = cast.gates(next);
        let gate = gates.iter().find(|gate| gate.code == code).unwrap();
        assert!(!gate.message.is_empty());
        let overridable = Code::from_name(code).unwrap().entry().policy == Policy::Override;
        assert!(
            !overridable || !gate.closed_by.is_empty(),
            "{code} says by what it is closed"
        );
    }
}

#[test]
fn each_gate_that_may_be_overridden_is_and_the_others_are_not() {
    for (stage, next, code, close) in closings() {
        let mut cast = Cast::new(stage);
        close(&mut cast);
        let gates = cast.gates(next);
        cast.row.overrides = gates
            .iter()
            .filter(|gate| gate.blocks())
            .map(accept)
            .collect();
        let may = |code: &str| Code::from_name(code).unwrap().entry().policy == Policy::Override;
        // Those that may not are refused before they come into a row: here only the others.
        cast.row.overrides.retain(|one| may(&one.gate));
        let left = cast.blocking(next);
        assert!(
            !left.iter().any(|code| may(code)),
            "{stage} {code}: {left:?}"
        );
        assert_eq!(left.contains(&code.to_owned()), !may(code));
    }
}

fn accept(gate: &Gate) -> Override {
    Override {
        gate: gate.code.clone(),
        reason: "known".into(),
        by: "ann".into(),
        accepted: gate.closed_by.clone(),
    }
}

#[test]
fn override_of_a_drain_covers_no_more_than_was_seen() {
    let mut cast = Cast::new(Stage::Draining);
    let next = Stage::TargetOnly;
    *cast.backlog(Side::Source) = backlog(3);
    let gates = cast.gates(next);
    let gate = gates.iter().find(|gate| gate.blocks()).unwrap();
    assert_eq!(gate.closed_by, [(GROUP.to_owned(), 3)].into());
    cast.row.overrides = vec![accept(gate)];
    for (owed, closed) in [(3, false), (2, false), (4, true)] {
        *cast.backlog(Side::Source) = backlog(owed);
        assert_eq!(!cast.blocking(next).is_empty(), closed, "{owed}");
        let beyond = beyond(&cast.row, Side::Source, cast.facts.side(Side::Source));
        assert_eq!(beyond, u64::from(closed));
    }
    // Nor another group's.
    *cast.backlog(Side::Source) = backlog(1);
    let other = (Arc::from("audit"), backlog(1));
    cast.side(Side::Source).backlogs.extend([other]);
    assert_eq!(cast.blocking(next), ["source_drained"]);
}

#[test]
fn override_of_broadcast_groups_is_not_accepted_for_an_ordered_topic() {
    for (routing, blocks) in [(Routing::Unordered, false), (Routing::Ordered, true)] {
        let mut cast = Cast::new(Stage::SourceOnly);
        cast.row.plan.routing = routing;
        cast.group(Side::Source).members.broadcasting = true;
        let gates = cast.gates(Stage::DualRead);
        cast.row.overrides = gates
            .iter()
            .filter(|gate| gate.blocks())
            .map(accept)
            .collect();
        assert_eq!(!cast.blocking(Stage::DualRead).is_empty(), blocks);
    }
}

#[test]
fn type_of_a_topic_has_to_fit_its_routing() {
    use Routing::{Ordered, Unordered};
    for (routing, source, target, passes) in [
        (Unordered, None, None, true),
        (Unordered, Some("DELAY"), Some("DELAY"), true),
        (Unordered, Some("TRANSACTION"), Some("TRANSACTION"), true),
        (Unordered, Some("FIFO"), Some("FIFO"), false),
        (Unordered, None, Some("FIFO"), false),
        (Unordered, Some("BatchCQ"), Some("BatchCQ"), false),
        (
            Unordered,
            Some("FIFO and NORMAL"),
            Some("FIFO and NORMAL"),
            false,
        ),
        (Ordered, Some("BatchCQ"), None, false),
        (Ordered, Some("FIFO"), Some("FIFO"), true),
        (Ordered, None, Some("FIFO"), true),
        (Ordered, None, Some("NORMAL"), true),
        (Ordered, Some("DELAY"), Some("DELAY"), false),
        (Ordered, Some("TRANSACTION"), Some("TRANSACTION"), false),
        (Ordered, Some("NORMAL"), Some("FIFO"), false),
    ] {
        let mut cast = Cast::new(Stage::SourceOnly);
        cast.row.plan.routing = routing;
        for (side, kind) in Side::BOTH.into_iter().zip([source, target]) {
            cast.side(side).message_type = kind.map(Into::into);
        }
        let blocking = cast.blocking(Stage::DualRead);
        let closed = blocking.iter().any(|code| code == "message_type");
        assert_eq!(!closed, passes, "{routing:?} {source:?} {target:?}");
    }
}

#[test]
fn delays_that_differ_are_named_with_their_brokers_and_accepted_for_these_times_alone() {
    let gate = delay_gate;
    let mut cast = Cast::new(Stage::SourceOnly);
    assert!(gate(&cast).passed, "no broker has numbered delays");
    for side in Side::BOTH {
        cast.side(side).delays = ladder("b", 5).into();
    }
    let same = gate(&cast);
    assert!(same.passed && same.message.contains("`1s 5s`"), "{same:?}");

    cast.side(Side::Target).delays = ladder("b", 7200).into();
    let differs = gate(&cast);
    for words in [
        "`1s 5s` on b of the source",
        "`1s 2h` on b of the target",
        "messageDelayLevel",
    ] {
        assert!(differs.message.contains(words), "{differs:?}");
    }
    assert_eq!(differs.numbers["target"]["b"], "1s 2h");
    cast.row.overrides = vec![accept(&differs)];
    assert!(!gate(&cast).blocks());
    cast.side(Side::Target).delays = ladder("b", 60).into();
    assert!(gate(&cast).blocks(), "what was accepted were other times");
}

fn delay_gate(cast: &Cast) -> Gate {
    let mut gates = cast.gates(Stage::DualRead).into_iter();
    gates.find(|gate| gate.code == "delay_levels").unwrap()
}

#[test]
fn delays_that_are_not_known_close_their_gate_alone_and_are_accepted_until_they_are_known() {
    let mut cast = Cast::new(Stage::SourceOnly);
    cast.side(Side::Source).delays = ladder("b", 5).into();
    cast.side(Side::Target).delays_unknown = Some(Arc::new("it is \"soon\"".into()));
    assert_eq!(cast.blocking(Stage::DualRead), ["delay_levels"]);
    let unknown = delay_gate(&cast);
    assert!(
        unknown.message.contains("target: it is \"soon\""),
        "{unknown:?}"
    );
    cast.row.overrides = vec![accept(&unknown)];
    assert!(!delay_gate(&cast).blocks());
    cast.side(Side::Target).delays_unknown = None;
    cast.side(Side::Target).delays = ladder("b", 6).into();
    assert!(delay_gate(&cast).blocks(), "they are known, and others");

    for (stage, next) in FORWARD.into_iter().skip(1) {
        let mut cast = Cast::new(stage);
        for side in Side::BOTH {
            cast.side(side).delays_unknown = Some(Arc::new("nobody asked".into()));
        }
        assert_eq!(cast.blocking(next), Vec::<String>::new(), "{stage}");
    }
}

#[test]
fn delays_of_brokers_without_the_topic_do_not_count() {
    let mut cast = Cast::new(Stage::SourceOnly);
    for (side, other) in Side::BOTH.into_iter().zip([5, 6]) {
        let mut delays = ladder("b", 5);
        delays.append(&mut ladder("a", other));
        cast.side(side).delays = delays.into();
    }
    let open = delay_gate(&cast);
    assert!(open.passed, "{open:?}");
    assert_eq!(open.numbers["target"], serde_json::json!({"b": "1s 5s"}));

    // One that has the topic and did not tell: then all that did count.
    cast.side(Side::Target).delays = ladder("a", 6).into();
    assert!(delay_gate(&cast).blocks());
    cast.side(Side::Target).delays = ladder("a", 5).into();
    assert!(delay_gate(&cast).passed);
}

#[test]
fn delays_do_not_count_in_an_ordered_topic() {
    let mut cast = Cast::new(Stage::SourceOnly);
    for (side, delay) in Side::BOTH.into_iter().zip([5, 6]) {
        cast.side(side).delays = ladder("b", delay).into();
    }
    cast.side(Side::Target).delays_unknown = Some(Arc::new("nobody asked".into()));
    assert!(delay_gate(&cast).blocks() && delays::asked_for(&cast.row));
    cast.row.plan.routing = Routing::Ordered;
    let gate = delay_gate(&cast);
    assert!(gate.passed && gate.message.contains("ordered"), "{gate:?}");
    assert!(!delays::asked_for(&cast.row));
    cast.row.plan.routing = Routing::Unordered;
    cast.row.plan.stage = Stage::DualRead;
    assert!(!delays::asked_for(&cast.row));
}

/// The gates of a move from the source to half of the keys.
fn blocking_a_move(cast: &Cast) -> Vec<String> {
    let gates = cast.judge(|scene| of_move(scene, Side::Source));
    let blocking = gates.into_iter().filter(Gate::blocks);
    blocking.map(|gate| gate.code).collect()
}

#[test]
fn each_gate_of_a_move_of_keys_is_closed_by_what_it_asks_about() {
    type Close = fn(&mut Cast);
    let cases: [(&[&str], Close); 6] = [
        (&[], |_| {}),
        (&["moving_lag"], |cast| {
            cast.limits.moving_lag = 2;
            *cast.backlog(Side::Source) = backlog(3);
        }),
        // The other side is not left.
        (&[], |cast| {
            cast.limits.moving_lag = 2;
            *cast.backlog(Side::Target) = backlog(3);
        }),
        (&["moving_retries"], |cast| {
            cast.backlog(Side::Source).delayed = Some(1)
        }),
        (&["moving_retries"], |cast| {
            cast.backlog(Side::Source).delayed = None
        }),
        (&["moving_retries", "moving_lag"], |cast| {
            cast.side(Side::Source).backlogs.clear()
        }),
    ];
    for (index, (codes, close)) in cases.into_iter().enumerate() {
        let mut cast = Cast::new(Stage::DualWrite);
        cast.row.plan.routing = Routing::Ordered;
        close(&mut cast);
        assert_eq!(blocking_a_move(&cast), codes, "case {index}");
    }
    let mut cast = Cast::new(Stage::DualWrite);
    cast.row.plan.routing = Routing::Ordered;
    cast.side(Side::Source).unknown.push("no answer".into());
    assert!(blocking_a_move(&cast).contains(&"clusters_answer".to_owned()));
}

#[test]
fn notes_tell_and_never_block() {
    for (step, code, side) in [
        (0, "source_idle", Some(Side::Source)),
        (2, "target_idle", Some(Side::Target)),
        (0, "producers_registered", None),
    ] {
        let (stage, next) = FORWARD[step];
        let mut cast = Cast::new(stage);
        if side.is_none() {
            cast.request.roles[0].produces = false;
        }
        assert!(cast.closed(next).contains(&code.to_owned()), "{code}");
        assert!(!cast.blocking(next).contains(&code.to_owned()), "{code}");
        match side {
            Some(side) => cast.grown[1][side.index()] = 1,
            None => cast.request.roles[0].produces = true,
        }
        assert!(!cast.closed(next).contains(&code.to_owned()), "{code}");
    }
}

#[test]
fn without_accounting_unmanaged_writes_block_nothing_and_say_so() {
    let mut cast = Cast::new(Stage::SourceOnly);
    cast.limits.accounting = false;
    cast.grown = [[5; 2]; 2];
    let next = Stage::DualRead;
    assert_eq!(cast.blocking(next), Vec::<String>::new());
    assert!(
        cast.closed(next)
            .contains(&"unmanaged_producers".to_owned())
    );
}

#[test]
fn seal_is_passed_under_two_looks_and_no_sooner() {
    for (access, looks, passed) in [
        (Some(Access::Sealed), 2, true),
        (Some(Access::Sealed), 1, false),
        (Some(Access::Closed), 2, false),
        (None, 0, false),
    ] {
        assert_eq!(of_seal(Side::Source, access, looks, 2).passed, passed);
    }
}

#[test]
fn every_code_of_a_step_is_closed_by_some_case_above() {
    let tested: BTreeSet<&str> = closings().map(|(_, _, code, _)| code).collect();
    for (stage, next) in FORWARD.into_iter().chain(FORWARD.map(|(a, b)| (b, a))) {
        for code in Code::of_step(stage, next) {
            let entry = code.entry();
            assert!(
                tested.contains(entry.text) || entry.policy == Policy::Note,
                "{}",
                entry.text
            );
        }
    }
}

/// The codes as they were published first: scripts and dashboards know them. This list only grows.
const PUBLISHED: [&str; 38] = [
    "instances_acked",
    "instances_lost",
    "plans_refused",
    "clusters_answer",
    "topic_managed",
    "topic_on_source",
    "topic_on_target",
    "groups_on_source",
    "groups_on_target",
    "group_count",
    "groups_known",
    "message_type",
    "queues_on_target",
    "permissions",
    "roles_registered",
    "producers_registered",
    "consumers_on_target",
    "unmanaged_consumers",
    "unmanaged_producers",
    "broadcast_groups",
    "pop_groups",
    "source_quiet",
    "target_quiet",
    "source_idle",
    "target_idle",
    "groups_subscribed_target",
    "target_write_errors",
    "target_lag",
    "source_drained",
    "target_drained",
    "source_backlog_known",
    "target_backlog_known",
    "source_sealed",
    "target_sealed",
    "moves_passed",
    "moving_retries",
    "moving_lag",
    "delay_levels",
];

#[test]
fn codes_are_never_renamed() {
    let codes: Vec<&str> = Code::ALL.into_iter().map(Code::as_str).collect();
    assert_eq!(codes[..PUBLISHED.len()], PUBLISHED);
    let distinct: BTreeSet<&str> = codes.iter().copied().collect();
    assert_eq!(distinct.len(), codes.len());
    for code in Code::ALL {
        assert_eq!(Code::from_name(code.as_str()), Some(code));
        assert!(!code.entry().chinese.is_empty());
    }
}

/// The table in `src/docs/gates.md`.
fn table() -> String {
    let mut table = String::from(
        "| code | 检查项 | asked before | what must hold | override |\n|---|---|---|---|---|\n",
    );
    let steps = FORWARD.into_iter().chain(FORWARD.map(|(a, b)| (b, a)));
    let steps: Vec<(Stage, Stage)> = steps.collect();
    for code in Code::ALL {
        let entry = code.entry();
        let asked: Vec<String> = steps
            .iter()
            .filter(|(stage, next)| Code::of_step(*stage, *next).contains(&code))
            .map(|(stage, next)| format!("`{stage}` → `{next}`"))
            .collect();
        let asked = match code {
            Code::TopicManaged => "every command".to_owned(),
            Code::SourceSealed => "`target_only` is published and settled".to_owned(),
            Code::TargetSealed => "`source_only` is published and settled".to_owned(),
            Code::MovesPassed | Code::MovingRetries | Code::MovingLag => {
                "keys of an ordered topic change sides".to_owned()
            }
            _ if asked.is_empty() || asked.len() == steps.len() => "every step".to_owned(),
            _ => asked.join(", "),
        };
        let policy = match entry.policy {
            Policy::Override => "with a reason".to_owned(),
            Policy::Never(why) => format!("no: {why}"),
            Policy::Note => "a note: it never blocks".to_owned(),
        };
        let _ = writeln!(
            table,
            "| `{}` | {} | {asked} | {} | {policy} |",
            entry.text, entry.chinese, entry.about
        );
    }
    table
}

#[test]
fn docs_have_the_catalogue() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/docs/gates.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (begin, end) = ("<!-- catalogue -->\n", "<!-- end -->");
    let (before, rest) = text.split_once(begin).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    let wanted = format!("\n{}\n", table());
    if std::env::var_os("CROSSFADE_WRITE_GATES").is_some() {
        std::fs::write(file, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(
        found, wanted,
        "CROSSFADE_WRITE_GATES=1 cargo test -p crossfade-control-plane docs_have"
    );
}
