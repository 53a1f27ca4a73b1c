//! `crossfade-model`: explores, prints what held and what broke.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use crossfade::stage::Stage;
use crossfade_model::{engine::Reach, fleet::{Bounds, FLEETS, Faults, Scene}, mutation::ALL, run::run};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let num = |key: &str, default: u64| args.iter().find_map(|arg| arg.strip_prefix(key)).map_or(default, |v| v.parse().unwrap());
    let has = |key: &str| args.iter().any(|arg| arg == key);
    let lie = args.iter().find_map(|arg| arg.strip_prefix("lie=")).map(|name| ALL.iter().find(|entry| entry.name == name).unwrap().mutation);
    let fleets = num("fleet=", 99);
    let from = num("from=", 99);
    for (number, fleet) in FLEETS.iter().enumerate() {
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            if fleets != 99 && fleets != number as u64 || from != 99 && from != place as u64 { continue; }
            let scene = Scene { fleet: *fleet, from: stage, bounds: Bounds { changes: num("changes=", 1), sends: num("sends=", 1) as u8, faults: num("faults=", 0) as u8, kinds: if has("half") { Faults::HALF } else { Faults::MOST } } };
            let outcome = run(scene, lie, Reach { states: num("cap=", 5_000_000) as usize, live: !has("nolive") });
            println!("{:16} {:12} states {:8} planes {:6} depth {:3} {} {:.1}s {:?}", fleet.name, stage.as_str(), outcome.found.states, outcome.planes, outcome.found.depth, if outcome.found.complete {"complete"} else {"cut"}, outcome.took.as_secs_f64(), outcome.found.broken.as_ref().map(|b| (b.0, b.1.len())));
            if outcome.found.broken.is_some() && has("trace") {
                for (number, step) in (1..).zip(&outcome.steps) { println!("    {number:2}. {step}"); }
            }
            if has("why") && let Some((_, way)) = &outcome.found.broken {
                use crossfade_model::engine::World as _;
                let mut world = crossfade_model::World::new(scene, lie);
                let mut state = world.start();
                for act in way { let mut out = vec![]; world.next(&state, &mut out); state = out.into_iter().find(|(a, _)| a == act).unwrap().1; }
                let mut seen = std::collections::HashSet::new(); let mut todo = std::collections::VecDeque::new(); todo.push_back((state, 0, None)); seen.insert(state);
                while let Some((s, depth, by)) = todo.pop_front() {
                    if seen.len() < 60 || has("all") { eprintln!("{depth} {by:?} {:?} late {:?} broken {:?} procs {:?}", world.brief(&s), s.late, s.broken, s.processes.iter().map(|p| (p.run, p.plan.map(|k| k.stage), p.contact, p.member, p.acked, p.reads, p.send)).collect::<Vec<_>>()); }
                    let mut out = vec![]; world.next(&s, &mut out);
                    for (a, n) in out { if world.helps(a) && seen.insert(n) { todo.push_back((n, depth + 1, Some(a))); } }
                }
                eprintln!("{} states", seen.len());
            }
            if outcome.found.broken.is_some() && has("first") { return; }
        }
    }
}
