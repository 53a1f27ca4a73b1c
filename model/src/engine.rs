//! Explores every state that can be reached, breadth first, so that the first counter-example is a shortest one.
//!
//! Safety: [`World::broken`] names what a state breaks. Liveness: from every state some continuation made of steps that [`World::helps`] allows
//! reaches a state that [`World::is_rest`] accepts; decided backwards from those, once everything is explored.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
};

use foldhash::quality::FixedState;

/// What is explored.
pub trait World {
    /// All that decides what may happen next.
    type State: Clone + Eq + Hash;
    /// What happens.
    type Act: Copy + Debug;

    /// Where it begins.
    fn start(&mut self) -> Self::State;
    /// Everything that can happen next.
    fn next(&mut self, state: &Self::State, out: &mut Vec<(Self::Act, Self::State)>);
    /// The property that a state breaks.
    fn broken(&mut self, state: &Self::State) -> Option<&'static str>;
    /// Nothing is left to be done.
    fn is_rest(&mut self, state: &Self::State) -> bool;
    /// Whether the way to rest may depend on this step.
    fn helps(&self, act: Self::Act) -> bool;
}

/// The property of a state from which no rest is reached.
pub const STUCK: &str = "LIVE: nothing that can still happen brings the topic to rest";

/// What was found.
#[derive(Clone, Debug)]
pub struct Found<A> {
    /// Different states.
    pub states: usize,
    /// The most steps to any of them.
    pub depth: usize,
    /// Everything within the bounds was explored.
    pub complete: bool,
    /// The property that is broken, and a shortest way there.
    pub broken: Option<(&'static str, Vec<A>)>,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Most states.
    pub states: usize,
    /// Whether liveness is decided too.
    pub live: bool,
}

/// A fingerprint is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

const NOBODY: u32 = u32::MAX;

struct Seen<A> {
    numbers: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    /// From where, and by what.
    from: Vec<(u32, Option<A>)>,
}

impl<A: Copy> Seen<A> {
    fn way_to(&self, state: u32) -> Vec<A> {
        let mut way = Vec::new();
        let mut at = state;
        while let (before, Some(act)) = self.from[at as usize] {
            way.push(act);
            at = before;
        }
        way.reverse();
        way
    }
}

/// Explores until a property breaks, everything was seen, or `reach` is used up.
pub fn explore<W: World>(world: &mut W, reach: Reach) -> Found<W::Act> {
    let hasher = FixedState::with_seed(0);
    let start = world.start();
    let mut seen = Seen {
        numbers: HashMap::default(),
        from: vec![(NOBODY, None)],
    };
    seen.numbers.insert(hasher.hash_one(&start), 0);
    let mut rests = vec![world.is_rest(&start)];
    // To, from.
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut level = vec![(0_u32, start)];
    let mut next_level = Vec::new();
    let mut out = Vec::new();
    let mut depth = 0;
    while !level.is_empty() {
        for (number, state) in &level {
            let found = |complete, broken| Found {
                states: seen.from.len(),
                depth,
                complete,
                broken,
            };
            if let Some(property) = world.broken(state) {
                return found(false, Some((property, seen.way_to(*number))));
            }
            if seen.from.len() > reach.states {
                return found(false, None);
            }
            world.next(state, &mut out);
            for (act, next) in out.drain(..) {
                let print = hasher.hash_one(&next);
                let known = seen.numbers.get(&print).copied();
                let to = known.unwrap_or_else(|| {
                    let new = u32::try_from(seen.from.len()).unwrap_or(NOBODY);
                    seen.numbers.insert(print, new);
                    seen.from.push((*number, Some(act)));
                    rests.push(world.is_rest(&next));
                    next_level.push((new, next));
                    new
                });
                if reach.live && to != *number && world.helps(act) {
                    edges.push((to, *number));
                }
            }
        }
        level = std::mem::take(&mut next_level);
        depth += usize::from(!level.is_empty());
    }
    let stuck = reach.live.then(|| first_stuck(rests, edges)).flatten();
    Found {
        states: seen.from.len(),
        depth,
        complete: true,
        broken: stuck.map(|state| (STUCK, seen.way_to(state))),
    }
}

/// The first state from which no rest is reached. An edge is where it leads, and from where.
fn first_stuck(rests: Vec<bool>, edges: Vec<(u32, u32)>) -> Option<u32> {
    // By where they lead: `first[state]..first[state + 1]` are the places of those that lead there.
    let mut first = vec![0_usize; rests.len() + 1];
    for (to, _) in &edges {
        first[*to as usize + 1] += 1;
    }
    for index in 1..first.len() {
        first[index] += first[index - 1];
    }
    let mut free = first.clone();
    let mut from = vec![0_u32; edges.len()];
    for (to, before) in edges {
        let place = &mut free[to as usize];
        from[*place] = before;
        *place += 1;
    }
    let mut good = rests;
    let mut todo: Vec<usize> = (0..good.len()).filter(|state| good[*state]).collect();
    while let Some(state) = todo.pop() {
        for before in &from[first[state]..first[state + 1]] {
            let before = *before as usize;
            if !std::mem::replace(&mut good[before], true) {
                todo.push(before);
            }
        }
    }
    let stuck = good.iter().position(|good| !good)?;
    u32::try_from(stuck).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Reach = Reach {
        states: 1_000,
        live: true,
    };

    /// A counter below 100 that can be made larger in three ways.
    struct Counter {
        forbidden: Option<u8>,
        /// Where nothing but `Rescue` goes on.
        trap: Option<u8>,
    }

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Grow {
        One,
        Seven,
        Double,
        Rescue,
    }

    impl World for Counter {
        type State = u8;
        type Act = Grow;

        fn start(&mut self) -> u8 {
            1
        }

        fn next(&mut self, state: &u8, out: &mut Vec<(Grow, u8)>) {
            if self.trap == Some(*state) {
                out.push((Grow::Rescue, 99));
                return;
            }
            let grown = [
                (Grow::One, state + 1),
                (Grow::Seven, state + 7),
                (Grow::Double, state * 2),
            ];
            out.extend(grown.map(|(act, next)| (act, next.min(99))));
        }

        fn broken(&mut self, state: &u8) -> Option<&'static str> {
            (self.forbidden == Some(*state)).then_some("forbidden")
        }

        fn is_rest(&mut self, state: &u8) -> bool {
            *state == 99
        }

        fn helps(&self, act: Grow) -> bool {
            act != Grow::Rescue
        }
    }

    #[test]
    fn first_counter_example_is_a_shortest_one() {
        let mut world = Counter {
            forbidden: Some(18),
            trap: None,
        };
        let found = explore(&mut world, ALL);
        // 1, 2, 9, 18: nothing reaches it in two steps.
        let (property, way) = found.broken.unwrap();
        assert_eq!(property, "forbidden");
        assert_eq!(way, [Grow::One, Grow::Seven, Grow::Double]);
        assert!(!found.complete);
    }

    #[test]
    fn everything_is_seen_once_where_nothing_breaks() {
        let mut world = Counter {
            forbidden: None,
            trap: None,
        };
        let found = explore(&mut world, ALL);
        assert_eq!((found.states, found.complete), (99, true));
        assert_eq!(found.broken, None);
    }

    #[test]
    fn state_from_which_only_a_step_that_does_not_help_leads_to_rest_is_stuck() {
        let mut world = Counter {
            forbidden: None,
            trap: Some(8),
        };
        let (property, way) = explore(&mut world, ALL).broken.unwrap();
        assert_eq!(property, STUCK);
        assert_eq!(way, [Grow::Seven]);
    }

    #[test]
    fn exploration_that_was_given_up_does_not_call_itself_complete() {
        let mut world = Counter {
            forbidden: None,
            trap: None,
        };
        let reach = Reach {
            states: 10,
            live: true,
        };
        assert!(!explore(&mut world, reach).complete);
    }
}
