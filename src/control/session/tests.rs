use std::collections::VecDeque;

use tokio::time::Instant;

use super::*;
use crate::{
    BoxFuture,
    clock::TokioClock,
    control::{
        FixedPlans, PlanFile,
        wire::{PlanDocument, SyncRequest, SyncResponse, VERSION},
    },
    side::Revision,
    stage::{Routing, Stage, TopicPlan, Weight},
};

fn plan(topic: &str, revision: u64, previous: u64, stage: Stage) -> TopicPlan {
    TopicPlan {
        topic: topic.into(),
        stage,
        weight: Weight::ZERO,
        routing: Routing::Unordered,
        moves: Vec::new(),
        revision: Revision(revision),
        previous_revision: Revision(previous),
    }
}

/// What the script does with the next request.
enum Step {
    Answer(SyncResponse),
    Fail(ErrorKind),
    /// Waits as long as the request allows, then has nothing new.
    Hold {
        lease_ms: u64,
    },
    Hang,
}

/// Plays steps, then holds every request; notes all requests and when they came.
#[derive(Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    requests: Mutex<Vec<(Instant, SyncRequest)>>,
    lease_ms: u64,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Script::with_lease(0, steps)
    }

    fn with_lease(lease_ms: u64, steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Script {
            steps: Mutex::new(steps.into_iter().collect()),
            lease_ms,
            ..Script::default()
        })
    }

    fn requests(&self) -> Vec<(Instant, SyncRequest)> {
        self.requests.lock().unwrap().clone()
    }

    fn last(&self) -> SyncRequest {
        self.requests().pop().unwrap().1
    }
}

impl PlanSource for Script {
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>> {
        self.requests
            .lock()
            .unwrap()
            .push((Instant::now(), request.clone()));
        let step = self.steps.lock().unwrap().pop_front();
        let lease_ms = self.lease_ms;
        Box::pin(async move {
            match step.unwrap_or(Step::Hold { lease_ms }) {
                Step::Answer(response) => Ok(response),
                Step::Fail(kind) => Err(Error::new(kind, "sync", "scripted")),
                Step::Hold { lease_ms } => {
                    tokio::time::sleep(Duration::from_millis(request.wait_ms)).await;
                    let known = request.known_revision.0;
                    Ok(answer(1, known.max(1), lease_ms, []))
                }
                Step::Hang => std::future::pending().await,
            }
        })
    }
}

fn answer<const N: usize>(
    epoch: u64,
    revision: u64,
    lease_ms: u64,
    plans: [TopicPlan; N],
) -> SyncResponse {
    SyncResponse {
        epoch,
        lease_ms,
        plans: PlanDocument {
            version: VERSION,
            revision: Revision(revision),
            plans: plans.into(),
            ..PlanDocument::default()
        },
    }
}

struct Rig {
    table: Arc<PlanTable>,
    contact: Arc<Contact>,
    parts: Option<SessionParts>,
}

fn rig(source: Arc<dyn PlanSource>, options: SessionOptions) -> Rig {
    let table = Arc::new(PlanTable::default());
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::default());
    let contact = Arc::new(Contact::new(Arc::clone(&clock)));
    let parts = SessionParts {
        source,
        origin: "the script".into(),
        table: Arc::clone(&table),
        contact: Arc::clone(&contact),
        clock,
        identity: Identity {
            instance: "orders-7".into(),
            incarnation: "0123456789abcdef0123456789abcdef".into(),
            client_ids: vec!["orders-7@01234567@source".into()],
        },
        counters: Box::new(Vec::new),
        options,
        last_known: None,
        seed: 7,
    };
    Rig {
        table,
        contact,
        parts: Some(parts),
    }
}

impl Rig {
    async fn start(&mut self) -> Result<Session> {
        Session::start(self.parts.take().unwrap()).await
    }

    fn cache_in(&mut self, folder: &std::path::Path) -> LastKnown {
        let file = PlanFile::new(folder, "orders-7", "i1").unwrap();
        let cache = LastKnown::new(Arc::new(file), "orders-7");
        self.parts.as_mut().unwrap().last_known = Some(cache.clone());
        cache
    }

    fn stage(&self, topic: &str) -> Option<Stage> {
        Some(self.table.cell(topic).load()?.plan().stage)
    }
}

/// Lets the paused clock run.
async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn stop() -> SessionOptions {
    SessionOptions {
        lease_mode: LeaseMode::Stop,
        ..SessionOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn instance_registers_before_traffic_and_role_is_answered_only_after_a_request_that_named_it()
{
    let script = Script::new([
        Step::Answer(answer(1, 5, 0, [plan("orders", 5, 0, Stage::SourceOnly)])),
        Step::Hang,
    ]);
    let mut rig = rig(script.clone(), SessionOptions::default());
    let session = rig.start().await.unwrap();
    assert!(script.last().roles.is_empty());
    pass(10).await;
    // A poll is open and would never be answered.
    let cell = rig.table.cell("orders");
    let role = cell.add_producer();
    let begun = Instant::now();
    session.join(&cell).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(10));
    let requests = script.requests();
    let answered = requests.iter().find(|(_, r)| !r.roles.is_empty()).unwrap();
    assert!(answered.1.roles[0].produces);
    assert_eq!(answered.1.wait_ms, 0);
    assert_eq!(answered.1.acks.get("orders"), Some(&Revision(5)));
    drop(role);
    pass(10).await;
    assert!(script.last().roles.is_empty());
}

#[tokio::test(start_paused = true)]
async fn topic_that_is_not_managed_is_stage_unknown() {
    let mut rig = rig(Arc::new(FixedPlans::new([])), SessionOptions::default());
    let session = rig.start().await.unwrap();
    let cell = rig.table.cell("nowhere");
    let _role = cell.add_producer();
    let error = session.join(&cell).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StageUnknown);
}

#[tokio::test(start_paused = true)]
async fn ack_goes_out_within_milliseconds_of_the_end_of_the_last_older_send() {
    let script = Script::new([
        Step::Answer(answer(1, 1, 0, [plan("orders", 1, 0, Stage::SourceOnly)])),
        Step::Hold { lease_ms: 0 },
    ]);
    let mut rig = rig(script.clone(), SessionOptions::default());
    let session = rig.start().await.unwrap();
    let cell = rig.table.cell("orders");
    let _role = cell.add_producer();
    session.join(&cell).await.unwrap();
    let sends: Vec<_> = (0..100).map(|_| cell.load().unwrap()).collect();
    cell.publish(plan("orders", 2, 1, Stage::DualRead)).unwrap();
    pass(3_000).await;
    assert_eq!(script.last().acks.get("orders"), None);
    let before = script.requests().len();
    drop(sends);
    pass(5).await;
    let requests = script.requests();
    assert_eq!(requests[before].1.acks.get("orders"), Some(&Revision(2)));
    // A hundred ends are one piece of news.
    assert_eq!(requests.len(), before + 1);
    assert!(
        requests
            .windows(2)
            .all(|w| w[0].1.sequence < w[1].1.sequence)
    );
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_with_bounded_pauses_and_plans_stay() {
    let good = || Step::Answer(answer(1, 1, 0, [plan("orders", 1, 0, Stage::SourceOnly)]));
    let failures = (0..20).map(|_| Step::Fail(ErrorKind::Unavailable));
    let script = Script::new(std::iter::once(good()).chain(failures));
    let mut rig = rig(script.clone(), SessionOptions::default());
    let _session = rig.start().await.unwrap();
    pass(120_000).await;
    let requests = script.requests();
    assert!(requests.len() > 21);
    let pauses = requests[1..22].windows(2).map(|w| w[1].0 - w[0].0);
    let bound = Duration::from_millis(5_001);
    assert!(pauses.clone().all(|pause| pause <= bound));
    assert!(pauses.sum::<Duration>() > Duration::from_secs(5));
    assert_eq!(rig.stage("orders"), Some(Stage::SourceOnly));
    assert_eq!(rig.contact.state(), ContactState::Valid);
}

#[tokio::test(start_paused = true)]
async fn refused_plan_is_reported_until_answered_and_the_last_good_one_stays() {
    let script = Script::new([
        Step::Answer(answer(1, 5, 0, [plan("orders", 5, 0, Stage::SourceOnly)])),
        Step::Answer(answer(1, 6, 0, [plan("orders", 6, 5, Stage::DualWrite)])),
        Step::Fail(ErrorKind::Unavailable),
        Step::Answer(answer(1, 6, 0, [])),
    ]);
    let mut rig = rig(script.clone(), SessionOptions::default());
    let _session = rig.start().await.unwrap();
    pass(1_000).await;
    let requests = script.requests();
    let reported: Vec<_> = requests.iter().map(|(_, r)| r.refused.len()).collect();
    assert_eq!(reported[..5], [0, 0, 1, 1, 0]);
    assert_eq!(requests[2].1.refused[0].revision, Revision(6));
    assert_eq!(rig.stage("orders"), Some(Stage::SourceOnly));
}

#[tokio::test(start_paused = true)]
async fn malformed_row_beside_a_good_one_is_reported_and_costs_only_itself() {
    let read = |text: String| Step::Answer(serde_json::from_str(&text).unwrap());
    let row = |topic: &str, stage: &str, weight: u32, revision: u64, previous: u64| {
        format!(
            r#"{{"topic":"{topic}","stage":"{stage}","weight_basis_points":{weight},"revision":{revision},"previous_revision":{previous}}}"#
        )
    };
    let answer = |revision: u64, rows: &[String]| {
        read(format!(
            r#"{{"version":1,"epoch":1,"revision":{revision},"lease_ms":3000,"plans":[{}]}}"#,
            rows.join(",")
        ))
    };
    let whole = || {
        let good = row("orders", "dual_read", 0, 6, 5);
        let unordered = row("shipped", "source_only", 0, 7, 5);
        let newer = unordered.replacen('{', r#"{"routing":"by_moonlight","#, 1);
        answer(
            7,
            &[
                good,
                newer,
                row("other", "dual_read", 10_001, 7, 5),
                row("new", "?", 0, 7, 0),
            ],
        )
    };
    let script = Script::with_lease(
        3_000,
        [
            answer(
                5,
                &["orders", "other", "shipped"].map(|topic| row(topic, "source_only", 0, 5, 0)),
            ),
            whole(),
        ],
    );
    let mut rig = rig(script.clone(), stop());
    let session = rig.start().await.unwrap();
    pass(30_000).await;
    rig.contact.check("send").unwrap();
    assert_eq!(rig.stage("orders"), Some(Stage::DualRead));
    assert_eq!(rig.stage("other"), Some(Stage::SourceOnly));
    assert_eq!(rig.stage("shipped"), Some(Stage::SourceOnly));
    let requests = script.requests();
    let refused = &requests[2].1.refused;
    let rows: Vec<_> = refused
        .iter()
        .map(|row| (&*row.topic, row.revision.0))
        .collect();
    assert_eq!(rows, [("shipped", 7), ("other", 7), ("new", 7)]);
    assert!(requests.last().unwrap().1.refused.is_empty());

    // A role without a plan asks for everything: what cannot be read is there all the same.
    script.steps.lock().unwrap().push_back(whole());
    let cell = rig.table.cell("new");
    let _role = cell.add_producer();
    let error = session.join(&cell).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidPlan);
    assert_eq!(rig.stage("other"), Some(Stage::SourceOnly));
}

#[tokio::test(start_paused = true)]
async fn lower_epoch_and_lower_revision_are_not_followed() {
    let script = Script::new([
        Step::Answer(answer(4, 5, 0, [plan("orders", 5, 0, Stage::DualRead)])),
        Step::Answer(answer(3, 9, 0, [plan("orders", 9, 5, Stage::SourceOnly)])),
        Step::Answer(answer(4, 4, 0, [plan("other", 4, 0, Stage::SourceOnly)])),
        Step::Answer(answer(5, 6, 0, [plan("orders", 6, 5, Stage::DualWrite)])),
        Step::Hang,
    ]);
    let mut rig = rig(script.clone(), SessionOptions::default());
    let _session = rig.start().await.unwrap();
    pass(1_000).await;
    assert_eq!(rig.stage("orders"), Some(Stage::DualWrite));
    assert_eq!(rig.stage("other"), None);
    let known: Vec<_> = script
        .requests()
        .iter()
        .map(|(_, r)| r.known_revision.0)
        .collect();
    assert_eq!(known, [0, 5, 5, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn removed_topics_are_withdrawn() {
    let plans = FixedPlans::new([
        plan("a", 2, 0, Stage::SourceOnly),
        plan("b", 3, 0, Stage::SourceOnly),
    ]);
    let mut rig = rig(Arc::new(plans.clone()), SessionOptions::default());
    let _session = rig.start().await.unwrap();
    plans.remove("a");
    plans.publish(plan("b", 9, 3, Stage::DualRead));
    pass(1).await;
    assert_eq!(
        (rig.stage("a"), rig.stage("b")),
        (None, Some(Stage::DualRead))
    );
}

#[tokio::test(start_paused = true)]
async fn lease_counts_from_the_sending_and_stop_refuses_when_it_is_over() {
    let script = Script::with_lease(
        30_000,
        [
            Step::Answer(answer(1, 1, 30_000, [])),
            Step::Hang,
            Step::Hang,
            Step::Hang,
        ],
    );
    let mut rig = rig(script.clone(), stop());
    let _session = rig.start().await.unwrap();
    pass(29_990).await;
    rig.contact.check("send").unwrap();
    pass(20).await;
    assert_eq!(
        rig.contact.check("send").unwrap_err().kind(),
        ErrorKind::LeaseOver
    );
    assert_eq!(rig.contact.state(), ContactState::Stopped);
    // The hanging requests are given up one by one; the answer after them brings a new lease.
    pass(90_000).await;
    rig.contact.check("send").unwrap();
    assert_eq!(rig.contact.state(), ContactState::Valid);
}

/// Tokio's clock, and the time that the machine was suspended, of which no timer knows.
#[derive(Debug, Default)]
struct Suspendable {
    clock: TokioClock,
    suspended_ms: AtomicU64,
}

impl Clock for Suspendable {
    fn boot_time(&self) -> Duration {
        self.clock.boot_time() + Duration::from_millis(self.suspended_ms.load(Ordering::SeqCst))
    }

    fn wall_time(&self) -> std::time::SystemTime {
        self.clock.wall_time()
    }
}

#[tokio::test(start_paused = true)]
async fn lease_that_ended_while_the_machine_slept_ends_its_session_before_the_next_answer_counts() {
    for options in [stop(), SessionOptions::default()] {
        let script = Script::with_lease(3_000, [Step::Answer(answer(1, 1, 3_000, []))]);
        let mut rig = rig(script.clone(), options);
        let clock = Arc::new(Suspendable::default());
        rig.contact = Arc::new(Contact::new(clock.clone()));
        let parts = rig.parts.as_mut().unwrap();
        (parts.clock, parts.contact) = (clock.clone(), Arc::clone(&rig.contact));
        let _session = rig.start().await.unwrap();
        let before = rig.contact.session();
        // The open poll is answered before the session has looked at its lease.
        clock.suspended_ms.store(60_000, Ordering::SeqCst);
        pass(1_100).await;
        assert_eq!(rig.contact.state(), ContactState::Valid);
        assert_ne!(rig.contact.session(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn lease_is_renewed_in_time_by_long_polls() {
    let script = Script::with_lease(3_000, [Step::Answer(answer(1, 1, 3_000, []))]);
    let mut rig = rig(script.clone(), stop());
    let _session = rig.start().await.unwrap();
    for _ in 0..600 {
        pass(100).await;
        rig.contact.check("send").unwrap();
    }
    assert!(script.requests().len() < 100);
}

#[tokio::test(start_paused = true)]
async fn endless_news_do_not_keep_the_lease_from_being_renewed() {
    let script = Script::with_lease(3_000, [Step::Answer(answer(1, 1, 3_000, []))]);
    let mut rig = rig(script.clone(), stop());
    let _session = rig.start().await.unwrap();
    let cell = rig.table.cell("orders");
    let mut role = None;
    for round in 0..2_000 {
        role = (round % 2 == 0).then(|| cell.add_producer());
        pass(5).await;
        rig.contact.check("send").unwrap();
    }
    drop(role);
}

#[tokio::test(start_paused = true)]
async fn superseded_ends_the_session_and_refuses_sends() {
    let script = Script::new([
        Step::Answer(answer(1, 1, 0, [plan("orders", 1, 0, Stage::SourceOnly)])),
        Step::Fail(ErrorKind::Superseded),
    ]);
    let mut rig = rig(script.clone(), SessionOptions::default());
    let session = rig.start().await.unwrap();
    pass(60_000).await;
    assert_eq!(
        rig.contact.check("send").unwrap_err().kind(),
        ErrorKind::Superseded
    );
    assert_eq!(script.requests().len(), 2);
    let cell = rig.table.cell("orders");
    let _role = cell.add_producer();
    assert_eq!(
        session.join(&cell).await.unwrap_err().kind(),
        ErrorKind::Superseded
    );
}

#[tokio::test(start_paused = true)]
async fn start_without_contact_and_without_disk_is_the_sources_error_after_the_timeout() {
    let script = Script::new((0..1_000).map(|_| Step::Fail(ErrorKind::Unavailable)));
    let begun = Instant::now();
    let error = rig(script, SessionOptions::default())
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(begun.elapsed() <= Duration::from_secs(10));
    let begun = Instant::now();
    let error = rig(Script::new([Step::Hang]), SessionOptions::default())
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    let begun = Instant::now();
    let refused = Script::new([Step::Fail(ErrorKind::PermissionDenied)]);
    let error = rig(refused, SessionOptions::default())
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn plans_on_disk_start_a_client_without_contact_and_give_way_to_the_first_answer() {
    let folder = tempfile::tempdir().unwrap();
    let good = answer(3, 5, 0, [plan("orders", 5, 0, Stage::DualRead)]);
    let mut first = rig(Script::new([Step::Answer(good)]), SessionOptions::default());
    let cache = first.cache_in(folder.path());
    let session = first.start().await.unwrap();
    session.leave(Duration::from_secs(5)).await.unwrap();
    assert_eq!(cache.load().await.unwrap().unwrap().epoch, 3);

    let script = Script::new([
        Step::Fail(ErrorKind::Unavailable),
        Step::Fail(ErrorKind::Unavailable),
        Step::Answer(answer(4, 8, 0, [plan("orders", 8, 7, Stage::Draining)])),
    ]);
    let mut second = rig(script.clone(), SessionOptions::default());
    second.cache_in(folder.path());
    let begun = std::time::Instant::now();
    let session = second.start().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(second.stage("orders"), Some(Stage::DualRead));
    assert_eq!(second.contact.state(), ContactState::Lost);
    let cell = second.table.cell("orders");
    let _role = cell.add_producer();
    session.join(&cell).await.unwrap();
    let mut changes = cell.changes();
    let draining = changes.wait_for(|revision| *revision == Some(Revision(8)));
    tokio::time::timeout(Duration::from_secs(10), draining)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(second.stage("orders"), Some(Stage::Draining));
}

#[tokio::test]
async fn mode_stop_started_from_disk_refuses_sends_until_there_is_contact() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(
        Script::new((0..1_000).map(|_| Step::Fail(ErrorKind::Unavailable))),
        stop(),
    );
    let cache = rig.cache_in(folder.path());
    cache
        .save(&crate::control::Saved {
            instance: "orders-7".into(),
            epoch: 1,
            plans: answer(1, 5, 0, [plan("orders", 5, 0, Stage::DualRead)]).plans,
        })
        .await
        .unwrap();
    let _session = rig.start().await.unwrap();
    assert_eq!(
        rig.contact.check("send").unwrap_err().kind(),
        ErrorKind::LeaseOver
    );
}

#[tokio::test]
async fn control_plane_that_knows_less_than_the_disk_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let old = || Step::Answer(answer(1, 3, 0, [plan("orders", 3, 0, Stage::SourceOnly)]));
    let script = Script::new((0..1_000).map(|_| old()));
    let mut rig = rig(script.clone(), SessionOptions::default());
    let cache = rig.cache_in(folder.path());
    let saved = crate::control::Saved {
        instance: "orders-7".into(),
        epoch: 1,
        plans: answer(1, 5, 0, [plan("orders", 5, 3, Stage::DualRead)]).plans,
    };
    cache.save(&saved).await.unwrap();
    let _session = rig.start().await.unwrap();
    while script.requests().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.stage("orders"), Some(Stage::DualRead));
    assert_eq!(cache.load().await.unwrap(), Some(saved));
}

#[tokio::test]
async fn broken_plans_on_disk_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(
        Script::new([Step::Fail(ErrorKind::PermissionDenied)]),
        SessionOptions::default(),
    );
    rig.cache_in(folder.path());
    let file = folder.path().join("orders-7.plans");
    std::fs::write(file, "crossfade-plans 1 2 00000000\n{}").unwrap();
    let error = rig.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(rig.table.cells().is_empty());
}

#[tokio::test(start_paused = true)]
async fn role_taken_during_an_outage_goes_on_with_the_plan_at_hand() {
    let failures = (0..1_000).map(|_| Step::Fail(ErrorKind::Unavailable));
    let good = answer(1, 1, 0, [plan("orders", 1, 0, Stage::SourceOnly)]);
    let script = Script::new(std::iter::once(Step::Answer(good)).chain(failures));
    let mut rig = rig(script, SessionOptions::default());
    let session = rig.start().await.unwrap();
    pass(60_000).await;
    let cell = rig.table.cell("orders");
    let _role = cell.add_producer();
    let begun = Instant::now();
    session.join(&cell).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_millis(200));
    let unknown = rig.table.cell("nowhere");
    let _role = unknown.add_producer();
    let error = session.join(&unknown).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn role_is_not_usable_while_its_registration_is_unanswered_and_the_lease_is_in_force() {
    let good = answer(1, 1, 30_000, [plan("orders", 1, 0, Stage::SourceOnly)]);
    let steps = [
        Step::Answer(good),
        Step::Hold { lease_ms: 30_000 },
        Step::Fail(ErrorKind::Unavailable),
    ];
    let hangs = (0..100).map(|_| Step::Hang);
    let options = SessionOptions {
        start_timeout: Duration::from_secs(20),
        ..SessionOptions::default()
    };
    let mut rig = rig(Script::new(steps.into_iter().chain(hangs)), options);
    let begun = Instant::now();
    let session = rig.start().await.unwrap();
    pass(10).await;
    let cell = rig.table.cell("orders");
    let _role = cell.add_producer();
    let error = session.join(&cell).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed().as_secs(), 20);
    // Once the lease is over, the plan at hand will do.
    session.join(&cell).await.unwrap();
    assert_eq!(rig.contact.state(), ContactState::Lost);
    assert!((30..=31).contains(&begun.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn leaving_is_said_while_a_poll_is_open_and_is_the_last_word() {
    let script = Script::new([Step::Answer(answer(1, 1, 0, [])), Step::Hang]);
    let mut rig = rig(script.clone(), SessionOptions::default());
    let session = rig.start().await.unwrap();
    pass(10).await;
    let begun = Instant::now();
    session.leave(Duration::from_secs(5)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(10));
    assert!(script.last().leaving);
    let requests = script.requests().len();
    pass(60_000).await;
    assert_eq!(script.requests().len(), requests);
    let again = session.leave(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn dropped_session_ends_at_once_and_says_nothing() {
    let script = Script::with_lease(3_000, [Step::Answer(answer(1, 1, 3_000, []))]);
    let mut rig = rig(script.clone(), SessionOptions::default());
    let session = rig.start().await.unwrap();
    pass(10_000).await;
    drop(session);
    let requests = script.requests().len();
    pass(60_000).await;
    assert_eq!(script.requests().len(), requests);
    assert!(!script.last().leaving);
}
