//! The coordinator against a small world: two brokers, instances that apply plans late, work that fails, restarts from the store.

mod brokers;
mod crash;
mod lost;
mod ordered;
mod outdated;
mod refused;
mod removal;
mod requests;
mod seal;
mod walk;
mod world;

use self::{
    brokers::{group, queue_id, settings},
    world::{World, consumes},
};
use super::*;
use crossfade::stage::{Routing, TopicPlan};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const QUEUES: u32 = 4;
