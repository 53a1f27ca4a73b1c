//! The calls to the brokers that the coordinator asks for, each with a bound.

use std::{sync::Arc, time::Duration};

use crossfade::Result;
use tokio::time::timeout;

use super::{
    clusters::Clusters,
    inspect::{Look, inspect},
};
use crate::coordinator::{Event, Work};

/// How long a change of access may take on all brokers together.
const CHANGE: Duration = Duration::from_secs(30);

/// Does one piece of work; the event tells the coordinator how it ended. `now` is the coordinator's clock.
pub(super) async fn perform(clusters: Arc<Clusters>, work: Work, now: Duration) -> Event {
    match work {
        Work::Inspect {
            topic,
            token,
            groups,
            settings,
        } => {
            let look = Look {
                topic,
                groups,
                settings,
            };
            let facts = inspect(&clusters, &look, now).await;
            Event::Facts {
                topic: look.topic,
                token,
                facts,
            }
        }
        Work::SetAccess {
            topic,
            side,
            settings,
            access,
            token,
        } => {
            let changing = async {
                let admin = clusters.admin(side).await?;
                admin.set_access(&topic, &settings, access).await
            };
            let result = bounded(changing).await;
            Event::AccessChanged {
                topic,
                side,
                access,
                token,
                result,
            }
        }
        Work::CommitFirstOffsets {
            topic,
            side,
            groups,
            settings,
            token,
        } => {
            let committing = async {
                let admin = clusters.admin(side).await?;
                for group in &groups {
                    admin.commit_first_offsets(&topic, group, &settings).await?;
                }
                Ok(())
            };
            let result = bounded(committing).await;
            Event::FirstOffsets {
                topic,
                token,
                result,
            }
        }
    }
}

async fn bounded(call: impl Future<Output = Result<()>>) -> Result<(), String> {
    match timeout(CHANGE, call).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer from the brokers within {CHANGE:?}")),
    }
}
