//! Many executions at a time, each with tasks of its own.

use std::{
    panic,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rand::rngs::StdRng;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
};

use crate::{
    draw, memory,
    run::{KEPT, Report},
};

/// Executions `from..from + count`, so many `at_once`. Must not run twice at a time: it counts the process's panics.
pub(crate) fn run<F: Future<Output = ()> + Send + 'static>(
    target: &'static str,
    (seed, from, count): (u64, u64, u64),
    at_once: usize,
    execute: fn(StdRng) -> F,
) -> Report {
    let panics = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&panics);
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let earlier = panic::take_hook();
    // Those of the client's own tasks are seen nowhere else.
    panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < KEPT {
            heard.push(info.to_string());
        }
    }));
    let begun = Instant::now();
    let (peak, mut report) = memory::peak_of(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                let mut report = Report::new(target);
                let places = Arc::new(Semaphore::new(at_once));
                let mut running = JoinSet::new();
                for execution in from..from.saturating_add(count) {
                    let place = Arc::clone(&places).acquire_owned().await;
                    running.spawn(async move {
                        let _place = place;
                        let one = tokio::spawn(execute(draw::of(seed, execution)));
                        (execution, one.await)
                    });
                    while let Some(ended) = running.try_join_next() {
                        end(&mut report, ended);
                    }
                }
                while let Some(ended) = running.join_next().await {
                    end(&mut report, ended);
                }
                report
            }),
            Err(error) => panic!("no runtime: {error}"),
        }
    });
    panic::set_hook(earlier);
    report.said = std::mem::take(&mut said.lock().unwrap_or_else(PoisonError::into_inner));
    report.took = begun.elapsed();
    report.peak_bytes = peak;
    report.peak_execution = from + report.executions.saturating_sub(1);
    report.panics = panics.load(Ordering::SeqCst);
    report
}

type Ended = Result<(u64, Result<(), JoinError>), JoinError>;

fn end(report: &mut Report, ended: Ended) {
    report.executions += 1;
    if let Ok((execution, Err(failed))) = ended
        && let Ok(panic) = failed.try_into_panic()
    {
        report.fail(execution, &*panic);
    }
}
