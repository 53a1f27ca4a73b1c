//! The client: start, stage, shutdown.

use std::{
    ffi::c_char,
    sync::{Arc, Mutex},
};

use sdk::{Client, Error, ErrorKind, stage::Stage};

use crate::{
    config::crossfade_config,
    error::crossfade_error,
    guard::{Outcome, fallible, infallible},
    handle::{Out, Sized32, SizedOut, borrowed, free, into_raw, string},
    runtime::{Tasks, lock, milliseconds, sends_nothing},
};

/// One instance of the application: its registration, its plans, its connections, its two threads. Owned by the caller; shut it down,
/// then free it with crossfade_client_free().
///
/// Thread safety: every function may be called from any thread at any time; only crossfade_client_free() must be the last one.
/// It does not survive fork(): start it in the child.
#[derive(Debug)]
pub struct crossfade_client {
    core: Arc<Core>,
}

/// What a client shares with its producers and consumers.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) tasks: Tasks,
    /// `None` once it was shut down or freed.
    client: Mutex<Option<Client>>,
}

impl Core {
    pub(crate) fn client(&self, operation: &'static str) -> Outcome<Client> {
        let client = lock(&self.client).clone();
        Ok(client
            .ok_or_else(|| Error::new(ErrorKind::Closed, operation, "the client was shut down"))?)
    }
}

impl Drop for crossfade_client {
    fn drop(&mut self) {
        // The end of a process that crashes: nothing is said to anybody.
        let _inside = self.core.tasks.enter();
        let client = lock(&self.core.client).take();
        self.core.tasks.end();
        drop(client);
    }
}

/// Where a topic is.
///
/// cbindgen:rename-all=QualifiedScreamingSnakeCase
#[repr(i32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum crossfade_stage {
    /// Everything on the source.
    SourceOnly = 0,
    /// Writes to the source, reads from both.
    DualRead = 1,
    /// Each write to one of the two, drawn by weight; reads from both.
    DualWrite = 2,
    /// Writes to the target, reads from both.
    Draining = 3,
    /// Everything on the target.
    TargetOnly = 4,
}

impl From<Stage> for crossfade_stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::SourceOnly => crossfade_stage::SourceOnly,
            Stage::DualRead => crossfade_stage::DualRead,
            Stage::DualWrite => crossfade_stage::DualWrite,
            Stage::Draining => crossfade_stage::Draining,
            Stage::TargetOnly => crossfade_stage::TargetOnly,
        }
    }
}

/// A topic's plan, as this client has it now. Zero it and set struct_size = sizeof.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct crossfade_topic_stage {
    /// sizeof(crossfade_topic_stage), set by the caller.
    pub struct_size: u32,
    /// Where the topic is.
    pub stage: crossfade_stage,
    /// The target's share of writes, 0 to 10000; it counts in CROSSFADE_STAGE_DUAL_WRITE only.
    pub weight_basis_points: u32,
    /// 0.
    pub reserved: u32,
    /// Grows with every change.
    pub revision: u64,
}

// SAFETY: repr(C), struct_size first; 0 is a stage, the rest are numbers.
unsafe impl Sized32 for crossfade_topic_stage {
    const FIRST_SIZE: usize = 24;
    const NAME: &'static str = "crossfade_topic_stage";
}

/// Registers the instance and loads its plans. Reads `config`, which stays the caller's.
///
/// `*client_out` is written on success only; the caller owns it. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS).
/// The configuration must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_client_start(
    config: *const crossfade_config,
    timeout_ms: i64,
    client_out: *mut *mut crossfade_client,
) -> *mut crossfade_error {
    fallible("crossfade_client_start", || {
        // SAFETY: the header's contract.
        let (config, out) = unsafe {
            (
                borrowed(config, "config")?,
                Out::new(client_out, "client_out")?,
            )
        };
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        let tasks = Tasks::start()?;
        let client = tasks
            .block_on(
                "start",
                timeout,
                Client::builder().config(config.config.clone()).start(),
            )
            .map_err(sends_nothing)?;
        out.write(into_raw(crossfade_client {
            core: Arc::new(Core {
                tasks,
                client: Mutex::new(Some(client)),
            }),
        }));
        Ok(())
    })
}

/// Where a topic is, as far as this client knows: CROSSFADE_STAGE_UNKNOWN before a producer or consumer of the topic exists, or without a
/// plan for it.
///
/// Does not block. Thread-safe. `*stage_out` is written on success only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_client_stage(
    client: *const crossfade_client,
    topic: *const c_char,
    stage_out: *mut crossfade_topic_stage,
) -> *mut crossfade_error {
    fallible("crossfade_client_stage", || {
        // SAFETY: the header's contract.
        let (client, topic, out) = unsafe {
            (
                borrowed(client, "client")?,
                string(topic, "topic")?,
                SizedOut::new(stage_out, "stage_out")?,
            )
        };
        let plan = client.core.client("stage")?.plan(topic).ok_or_else(|| {
            Error::new(
                ErrorKind::StageUnknown,
                "stage",
                format!("no plan for topic {topic} is known here"),
            )
        })?;
        out.write(&crossfade_topic_stage {
            struct_size: 0,
            stage: plan.stage.into(),
            weight_basis_points: plan.weight.basis_points().into(),
            reserved: 0,
            revision: plan.revision.0,
        });
        Ok(())
    })
}

/// Ends the instance in order: consumers stop and commit, sends under way end, the registration is taken back. All calls on its
/// producers and consumers fail with CROSSFADE_CLOSED from then on. The handle must still be freed. A second call is no error.
///
/// Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
/// CROSSFADE_TIMEOUT when something was left undone: what was not acked is delivered again to others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_client_shutdown(
    client: *mut crossfade_client,
    timeout_ms: i64,
) -> *mut crossfade_error {
    fallible("crossfade_client_shutdown", || {
        // SAFETY: the header's contract.
        let core = unsafe { &borrowed(client, "client")?.core };
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        let Some(running) = lock(&core.client).take() else {
            return Ok(());
        };
        core.tasks
            // The client keeps to the time itself; the slack lets it say what was left.
            .block_on(
                "shutdown",
                timeout + std::time::Duration::from_millis(100),
                running.shutdown(timeout),
            )
            .map_err(sends_nothing)
    })
}

/// Frees a client; NULL is allowed. Without crossfade_client_shutdown() before it, this is what a crash is: tasks end at once, nothing is
/// committed, nobody is told. Its producers and consumers fail with CROSSFADE_CLOSED from then on and must still be freed.
///
/// Does not wait for anything. From any thread, once; calls on the client itself must have returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_client_free(client: *mut crossfade_client) {
    // SAFETY: the header's contract.
    infallible((), || unsafe { free(client) });
}

impl crossfade_client {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}
