//! Which replica of a broker a queue is pulled from (apache/rocketmq `MQClientInstance.java`, `findBrokerAddressInSubscribe`).

use std::sync::Arc;

use crate::route::Broker;

/// Whom a pull goes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Source {
    pub(super) address: Arc<str>,
    /// It may know less than its master: what it says of offsets moves nothing.
    pub(super) replica: bool,
}

impl Source {
    /// The one with the id that was suggested, or the next one; else the master; else any.
    pub(super) fn choose(broker: &Broker, suggested: u64) -> Option<Source> {
        let addresses = &broker.addresses;
        let source = |(&id, address): (&u64, &Arc<str>)| Source {
            address: Arc::clone(address),
            replica: id != 0,
        };
        let near = suggested..=suggested.saturating_add(u64::from(suggested > 0));
        let found = addresses.range(near).next();
        found.or_else(|| addresses.iter().next()).map(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestion_is_followed_where_it_can_be_and_the_master_is_the_first_choice() {
        for (ids, suggested, chosen) in [
            (&[0, 1, 2][..], 0, Some(0)),
            (&[0, 1, 2], 2, Some(2)),
            (&[0, 2], 1, Some(2)),
            (&[0, 3], 1, Some(0)),
            (&[1, 2], 0, Some(1)),
            (&[2], 0, Some(2)),
            (&[1], u64::MAX, Some(1)),
            (&[], 0, None),
        ] {
            let broker = Broker {
                cluster: String::new(),
                name: "b".into(),
                addresses: ids.iter().map(|id| (*id, id.to_string().into())).collect(),
            };
            let expected = chosen.map(|id: u64| Source {
                address: id.to_string().into(),
                replica: id != 0,
            });
            assert_eq!(
                Source::choose(&broker, suggested),
                expected,
                "{suggested} of {ids:?}"
            );
        }
    }
}
