//! Ways of consuming, on real clusters: `CROSSFADE_TEST_SOURCE` and `CROSSFADE_TEST_TARGET` name them as `rocketmq://host:port`.
//! Without them a test says that it is skipped; with `CROSSFADE_TEST_NO_SKIP=1` it fails instead. What takes minutes is a rehearsal:
//! `CROSSFADE_TEST_REHEARSALS=1` runs it.
#![allow(clippy::print_stdout)]

mod broadcast;
mod clusters;
mod filter;
mod inner_batch;
mod limits;
mod ordered;
mod replica;
mod reset;
mod started_anew;
mod support;
