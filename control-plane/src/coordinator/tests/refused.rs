//! What makes no sense.

use crossfade::control::wire::LeaseMode;

use super::*;

#[test]
fn store_of_other_clusters_is_refused_unless_their_addresses_are_new() {
    let world = World::with_apps([LeaseMode::Continue; 2]);
    let records = || world.stored.values().cloned().collect::<Vec<_>>();
    let mut config = Config {
        clusters: Clusters {
            source: Some("memory://a".into()),
            target: Some("memory://b".into()),
        },
        ..Config::default()
    };
    assert!(Coordinator::restore(config.clone(), records(), world.now).is_err());
    config.accept_new_addresses = true;
    assert!(Coordinator::restore(config, records(), world.now).is_ok());
}

#[test]
fn commands_that_make_no_sense_are_refused_with_a_code() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    let topic = || Arc::<str>::from(TOPIC);
    let cases = [
        (
            Command::Advance {
                topic: "nobody".into(),
                to: None,
                terms: Terms::waiting(),
            },
            "not_found",
        ),
        (
            Command::Rollback {
                topic: topic(),
                to: Some(Stage::DualRead),
                terms: Terms::waiting(),
            },
            "conflict",
        ),
        (
            Command::Rollback {
                topic: topic(),
                to: None,
                terms: Terms::waiting(),
            },
            "conflict",
        ),
        (Command::Remove { topic: topic() }, "conflict"),
        (
            Command::Add {
                accepted: None,
                topic: topic(),
                groups: vec![GROUP.into()],
                weight: None,
                routing: Routing::Unordered,
                described: [None, None],
            },
            "conflict",
        ),
        (
            Command::Add {
                accepted: None,
                topic: "new".into(),
                groups: vec![GROUP.into()],
                weight: None,
                routing: Routing::Unordered,
                described: [None, None],
            },
            "not_found",
        ),
        (
            Command::Add {
                accepted: None,
                topic: "new".into(),
                groups: Vec::new(),
                weight: None,
                routing: Routing::Unordered,
                described: [None, None],
            },
            "invalid_request",
        ),
        (
            Command::ConfirmGone {
                instance: "nobody".into(),
                reason: "gone".into(),
            },
            "not_found",
        ),
    ];
    for (command, code) in cases {
        let text = format!("{command:?}");
        assert_eq!(world.command(command).unwrap_err().code, code, "{text}");
    }
}
