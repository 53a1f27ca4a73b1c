//! A counter-example in plain words: what happens in each step, and what the control plane decides by it.

use crossfade::{Access, Side};

use crate::{
    engine::World as _,
    plane::{Brief, Decision, Task},
    state::{Act, Send, State},
    world::World,
};

/// The steps of a way through a world, one sentence each.
#[must_use]
pub fn tell(world: &mut World, way: &[Act]) -> Vec<String> {
    let mut state = world.start();
    let mut sentences = Vec::new();
    for act in way {
        let mut out = Vec::new();
        world.next(&state, &mut out);
        let Some((_, next)) = out.into_iter().find(|(other, _)| other == act) else {
            break;
        };
        let mut sentence = world.sentence(*act, &state, &next);
        let (before, after) = (world.brief(&state), world.brief(&next));
        for decided in consequences(&before, &after) {
            sentence.push_str("; ");
            sentence.push_str(&decided);
        }
        sentences.push(sentence);
        state = next;
    }
    sentences
}

/// What the control plane decided.
fn consequences(before: &Brief, after: &Brief) -> Vec<String> {
    let mut decided = Vec::new();
    if after.revision != before.revision {
        decided.push(format!(
            "the control plane publishes {} as revision {}",
            after.stage, after.revision
        ));
    }
    if after.task != before.task {
        match after.task {
            Task::Access(side, access) => {
                decided.push(format!("it wants the {side} {access}"));
            }
            Task::FirstOffsets => decided.push("it has the groups' first offsets committed".into()),
            Task::None | Task::Look(_) => {}
        }
    }
    if after.goal == after.stage && after.heading.is_some() && before.heading != after.heading {
        decided.push("it reopens the drain by itself".into());
    }
    if after.claims && !before.claims {
        decided.push(format!("it calls {} sealed and proved", after.stage));
    }
    if after.settled && !before.settled {
        decided.push(format!("it calls {} settled", after.stage));
    }
    decided
}

impl World {
    fn name(&self, slot: u8) -> String {
        let number = usize::from(slot);
        let life = self.scene.fleet.slots[number];
        let role = match (life.unmanaged, life.produces, life.group) {
            (Some(_), ..) => return format!("the unmanaged writer {slot}"),
            (None, true, None) => "producer",
            (None, false, Some(1)) => "second group's consumer",
            (None, false, _) => "consumer",
            (None, true, Some(_)) => "producer and consumer",
        };
        match self.scene.fleet.name(number) {
            name if name == number => format!("{role} {slot}"),
            name => format!("{role} {slot} (restart of {name})"),
        }
    }

    fn route(&self, state: &State, slot: u8) -> String {
        let one = match state.processes[usize::from(slot)].send {
            Send::Routed(one) | Send::Unanswered(one, _) | Send::Waits(one) => one,
            Send::None | Send::Half(..) => return "its send".into(),
        };
        format!("its send to the {} under {}", one.side, one.plan.stage)
    }

    fn sentence(&self, act: Act, before: &State, after: &State) -> String {
        let name = |slot: u8| self.name(slot);
        let stage = |slot: u8| {
            let plan = after.processes[usize::from(slot)].plan;
            plan.map_or("no plan".to_owned(), |plan| plan.stage.to_string())
        };
        let brief = self.brief(before);
        let change = match (brief.task, before.late) {
            (Task::Access(side, access), _) | (_, Some((side, access))) => {
                format!("{} of the {side}", verb(access))
            }
            _ => "change".into(),
        };
        let late = before.late.map_or_else(String::new, |(side, access)| {
            format!("{} of the {side}", verb(access))
        });
        match act {
            Act::Decide(Decision::Advance) => "an operator decides to go on".into(),
            Act::Decide(Decision::Rollback) => "an operator decides to go back".into(),
            Act::Decide(Decision::Cancel) => "an operator cancels".into(),
            Act::Gone(slot) => format!("an operator says that {} is gone", name(slot)),
            Act::Look(0) => {
                format!(
                    "a look begins and reads the topic{}",
                    asked(after.seen.map(|seen| seen.0))
                )
            }
            Act::Look(1) => "the look reads the retry topics".into(),
            Act::Look(2) => "the look reads what is delayed or half, and is over".into(),
            Act::Look(_) => "a look at both sides".into(),
            Act::Silent(side) => format!("the {side} does not answer a look"),
            Act::AccessMade => format!("the {change} is made"),
            Act::AccessAnswered => format!("the {change} is answered"),
            Act::AccessUnanswered => format!("the {change} gets no answer"),
            Act::LateAccess => format!("the late {late} is made"),
            Act::BoundPasses => "the time of a change without an answer is over".into(),
            Act::LeasePasses => "a lease passes".into(),
            Act::FirstOffsets => "the first offsets on the target are committed".into(),
            Act::PlaneCrashes => "the control plane dies".into(),
            Act::PlaneRestarts => "the control plane starts again".into(),
            Act::Starts(slot) => {
                format!("{} starts and registers, with {}", name(slot), stage(slot))
            }
            Act::StartsFromDisk(slot) => {
                format!("{} starts from disk, with {}", name(slot), stage(slot))
            }
            Act::StartsFromDiskForGood(slot) => format!(
                "{} starts from disk, with {}, cut off for ever",
                name(slot),
                stage(slot)
            ),
            Act::Syncs(slot) => {
                let acked = after.processes[usize::from(slot)].acked;
                let acked =
                    acked.map_or_else(String::new, |acked| format!(", has applied {acked}"));
                format!("{} asks{acked}, is told {}", name(slot), stage(slot))
            }
            Act::SyncsUnanswered(slot) => format!(
                "{} registers, and the control plane dies before it answers",
                name(slot)
            ),
            Act::Crashes(slot) => format!("{} dies", name(slot)),
            Act::Freezes(slot) => format!("{} freezes", name(slot)),
            Act::Wakes(slot) => format!("{} wakes", name(slot)),
            Act::IsCutOff(slot) => format!("{} is cut off for ever", name(slot)),
            Act::Subscribes(slot, side) => format!("{} is subscribed on the {side}", name(slot)),
            Act::Unsubscribes(slot, side) => format!("{} has left the {side}", name(slot)),
            Act::IsGiven(slot, number) => format!("{} is given message {number}", name(slot)),
            Act::Handles(slot, number) => format!("{} handles message {number}", name(slot)),
            Act::Fails(slot, number) => format!("{} fails on message {number}", name(slot)),
            Act::TakenBack(slot) => {
                format!("the brokers deliver again what {} had", name(slot))
            }
            Act::Routes(slot, side) => format!("{} routes a send to the {side}", name(slot)),
            Act::Arrives(slot) => {
                format!("{}: {} is stored", name(slot), self.route(before, slot))
            }
            Act::ArrivesDelayed(slot) => {
                format!(
                    "{}: {} is stored, delayed",
                    name(slot),
                    self.route(before, slot)
                )
            }
            Act::ArrivesUnanswered(slot) => format!(
                "{}: {} is stored, and the answer is lost",
                name(slot),
                self.route(before, slot)
            ),
            Act::ArrivesHalf(slot) => {
                format!(
                    "{}: {} is stored, half",
                    name(slot),
                    self.route(before, slot)
                )
            }
            Act::IsRefused(slot) => {
                let then = match after.processes[usize::from(slot)].send {
                    Send::Routed(one) => format!("and goes to the {}", one.side),
                    Send::Waits(_) => "and waits for a newer plan".into(),
                    _ => "and fails".into(),
                };
                format!(
                    "{}: {} is refused by the seal, {then}",
                    name(slot),
                    self.route(before, slot)
                )
            }
            Act::IsRerouted(slot, side) => format!(
                "{}: {} is refused by the seal, and goes to the {side} under {}",
                name(slot),
                self.route(before, slot),
                stage(slot)
            ),
            Act::TriesAgain(slot) => {
                format!("{} tries again: {}", name(slot), self.route(after, slot))
            }
            Act::Commits(slot) => format!("{} commits its transaction", name(slot)),
            Act::GoesOn(slot) => {
                format!(
                    "{} sends under the newer plan: {}",
                    name(slot),
                    self.route(after, slot)
                )
            }
            Act::GivesUp(slot) => format!("{}: {} fails", name(slot), self.route(before, slot)),
            Act::FallsDue(number) => format!("message {number} falls due"),
            Act::Dispatched(number) => format!("the broker has dispatched message {number}"),
            Act::TransactionGivenUp(number) => {
                format!("the broker gives the transaction of message {number} up")
            }
        }
    }
}

fn verb(access: Access) -> &'static str {
    match access {
        Access::Open => "opening",
        Access::Closed => "closing",
        Access::Sealed => "sealing",
    }
}

fn asked(side: Option<Side>) -> String {
    side.map_or_else(String::new, |side| format!(" on the {side}"))
}
