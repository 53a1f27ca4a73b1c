//! What these tests cannot do without.

use std::env;

/// A cluster under test.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// `source` or `target`.
    pub(crate) name: String,
    /// Its name server.
    pub(crate) address: String,
}

/// Says that something is skipped; fails where nothing may be.
pub(crate) fn skip(what: &str, why: &str) {
    let forbidden = env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
    assert!(!forbidden, "{what}: {why}, and nothing may be skipped");
    println!("skipped: {what}: {why}");
}

/// Both clusters, or none.
pub(crate) fn clusters(test: &str) -> Option<Vec<Cluster>> {
    let mut clusters = Vec::new();
    for (name, variable) in [
        ("source", "CROSSFADE_TEST_SOURCE"),
        ("target", "CROSSFADE_TEST_TARGET"),
    ] {
        let Ok(address) = env::var(variable) else {
            skip(test, &format!("no broker ({variable})"));
            return None;
        };
        // One name server is enough for every client.
        let address = address.trim_start_matches("rocketmq://");
        let address = address.split([';', '?']).next().unwrap_or_default();
        clusters.push(Cluster {
            name: name.to_owned(),
            address: address.to_owned(),
        });
    }
    Some(clusters)
}
