//! The conformance vectors of `tests/spec/*.json`: the same files hold for every language.

use crossfade::{
    Access, ErrorKind, Side,
    control::wire::PlanDocument,
    stage::{Adoption, Stage, TopicPlan, Weight, WritePlan, adopt, bucket_of},
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct StageSpec {
    stages: Vec<StageRow>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct StageRow {
    stage: Stage,
    writes: Vec<Side>,
    reads: Vec<Side>,
    source: Access,
    target: Access,
}

#[derive(Deserialize)]
struct Step {
    from: Stage,
    to: Stage,
    legal: bool,
}

fn plan_in(stage: Stage) -> TopicPlan {
    serde_json::from_value(serde_json::json!({
        "topic": "orders", "stage": stage, "weight_basis_points": 5000, "revision": 2, "previous_revision": 1,
    }))
    .unwrap()
}

#[test]
fn stage_table_matches_the_vectors() {
    let spec: StageSpec = serde_json::from_str(include_str!("spec/stages.json")).unwrap();
    assert_eq!(spec.stages.len(), Stage::ALL.len());
    for row in spec.stages {
        let plan = plan_in(row.stage);
        let writes = match plan.write_plan() {
            WritePlan::One(side) => vec![side],
            WritePlan::Weighted { .. } => Side::BOTH.to_vec(),
        };
        let reads: Vec<Side> = Side::BOTH
            .into_iter()
            .filter(|side| plan.read_plan().includes(*side))
            .collect();
        assert_eq!(writes, row.writes, "{}", row.stage);
        assert_eq!(reads, row.reads, "{}", row.stage);
        assert_eq!(row.stage.access(Side::Source), row.source, "{}", row.stage);
        assert_eq!(row.stage.access(Side::Target), row.target, "{}", row.stage);
    }
    for step in spec.steps {
        assert_eq!(
            step.from.is_neighbour(step.to),
            step.legal,
            "{} to {}",
            step.from,
            step.to
        );
        let next = step.from.toward(step.to).unwrap();
        assert!(
            step.from.is_neighbour(next),
            "{} toward {}",
            step.from,
            step.to
        );
        assert!(
            !step.legal || next == step.to,
            "{} toward {}",
            step.from,
            step.to
        );
    }
}

#[test]
fn every_side_that_is_written_is_read_in_both_neighbouring_stages() {
    for stage in Stage::ALL {
        for neighbour in Stage::ALL
            .into_iter()
            .filter(|other| other.is_neighbour(stage))
        {
            let reads = plan_in(neighbour).read_plan();
            match plan_in(stage).write_plan() {
                WritePlan::One(side) => assert!(reads.includes(side), "{stage} beside {neighbour}"),
                WritePlan::Weighted { .. } => {
                    assert!(
                        Side::BOTH.into_iter().all(|side| reads.includes(side)),
                        "{stage} beside {neighbour}"
                    );
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct BucketSpec {
    vectors: Vec<BucketRow>,
}

#[derive(Deserialize)]
struct BucketRow {
    ordering_key: String,
    bucket: u16,
}

#[test]
fn buckets_match_the_vectors() {
    let spec: BucketSpec = serde_json::from_str(include_str!("spec/buckets.json")).unwrap();
    assert!(!spec.vectors.is_empty());
    for row in spec.vectors {
        assert_eq!(
            bucket_of(row.ordering_key.as_bytes()),
            row.bucket,
            "{:?}",
            row.ordering_key
        );
    }
}

#[derive(Deserialize)]
struct WeightSpec {
    draws: Vec<DrawRow>,
    refused: Vec<u32>,
}

#[derive(Deserialize)]
struct DrawRow {
    weight_basis_points: u32,
    draw: u32,
    side: Side,
}

#[test]
fn weights_match_the_vectors() {
    let spec: WeightSpec = serde_json::from_str(include_str!("spec/weights.json")).unwrap();
    assert!(!spec.draws.is_empty());
    for row in spec.draws {
        let target = Weight::from_basis_points(row.weight_basis_points).unwrap();
        let side = WritePlan::Weighted { target }.side(None, || row.draw);
        assert_eq!(
            side, row.side,
            "weight {} draw {}",
            row.weight_basis_points, row.draw
        );
    }
    for basis_points in spec.refused {
        let error = Weight::from_basis_points(basis_points).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidPlan);
    }
}

#[derive(Deserialize)]
struct PlanSpec {
    current: TopicPlan,
    next: Vec<NextRow>,
    malformed: Vec<MalformedRow>,
}

#[derive(Deserialize)]
struct NextRow {
    name: String,
    plan: TopicPlan,
    outcome: String,
}

#[derive(Deserialize)]
struct MalformedRow {
    name: String,
    plan: Value,
}

#[test]
fn plans_are_adopted_or_refused_as_the_vectors_say() {
    let spec: PlanSpec = serde_json::from_str(include_str!("spec/plans.json")).unwrap();
    assert!(!spec.next.is_empty() && !spec.malformed.is_empty());
    for row in spec.next {
        let outcome = match adopt(Some(&spec.current), &row.plan) {
            Ok(Adoption::Adopt) => "adopt",
            Ok(Adoption::Known) => "known",
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidPlan, "{}", row.name);
                "refuse"
            }
        };
        assert_eq!(outcome, row.outcome, "{}", row.name);
    }
    for row in spec.malformed {
        let document =
            serde_json::json!({"version": 1, "revision": 9, "plans": [row.plan, spec.current]});
        let document: PlanDocument = serde_json::from_value(document).unwrap();
        assert_eq!(
            document.plans,
            std::slice::from_ref(&spec.current),
            "{}",
            row.name
        );
        assert_eq!(document.malformed.len(), 1, "{}", row.name);
    }
}
