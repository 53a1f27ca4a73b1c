//! The catalogue of gates: every code, once.

use crossfade::{Side, stage::Stage};

/// What a gate asks for. The text of a code is stable: it is never renamed and never used for anything else.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[allow(
    missing_docs,
    reason = "`Entry::about` says what each of them asks for"
)]
pub enum Code {
    InstancesAcked,
    InstancesLost,
    PlansRefused,
    ClustersAnswer,
    TopicManaged,
    TopicOnSource,
    TopicOnTarget,
    GroupsOnSource,
    GroupsOnTarget,
    GroupCount,
    GroupsKnown,
    MessageType,
    QueuesOnTarget,
    Permissions,
    RolesRegistered,
    ProducersRegistered,
    ConsumersOnTarget,
    UnmanagedConsumers,
    UnmanagedProducers,
    BroadcastGroups,
    PopGroups,
    SourceQuiet,
    TargetQuiet,
    SourceIdle,
    TargetIdle,
    GroupsSubscribedTarget,
    TargetWriteErrors,
    TargetLag,
    SourceDrained,
    TargetDrained,
    SourceBacklogKnown,
    TargetBacklogKnown,
    SourceSealed,
    TargetSealed,
    MovesPassed,
    MovingRetries,
    MovingLag,
    DelayLevels,
}

/// What there is to say about a code.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The stable text.
    pub text: &'static str,
    /// The same in a few Chinese words.
    pub chinese: &'static str,
    /// What must hold.
    pub about: &'static str,
    /// Whether an operator may go on without it.
    pub policy: Policy,
}

/// Whether an operator may go on although a gate is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// With a reason, which goes to the audit log.
    Override,
    /// Never, and why.
    Never(&'static str),
    /// It only tells, and keeps nobody from going on.
    Note,
}

use Policy::{Never, Note, Override};

impl Code {
    /// Every code, in the order in which they are shown.
    pub const ALL: [Code; 38] = [
        Code::InstancesAcked,
        Code::InstancesLost,
        Code::PlansRefused,
        Code::ClustersAnswer,
        Code::TopicManaged,
        Code::TopicOnSource,
        Code::TopicOnTarget,
        Code::GroupsOnSource,
        Code::GroupsOnTarget,
        Code::GroupCount,
        Code::GroupsKnown,
        Code::MessageType,
        Code::QueuesOnTarget,
        Code::Permissions,
        Code::RolesRegistered,
        Code::ProducersRegistered,
        Code::ConsumersOnTarget,
        Code::UnmanagedConsumers,
        Code::UnmanagedProducers,
        Code::BroadcastGroups,
        Code::PopGroups,
        Code::SourceQuiet,
        Code::TargetQuiet,
        Code::SourceIdle,
        Code::TargetIdle,
        Code::GroupsSubscribedTarget,
        Code::TargetWriteErrors,
        Code::TargetLag,
        Code::SourceDrained,
        Code::TargetDrained,
        Code::SourceBacklogKnown,
        Code::TargetBacklogKnown,
        Code::SourceSealed,
        Code::TargetSealed,
        Code::MovesPassed,
        Code::MovingRetries,
        Code::MovingLag,
        Code::DelayLevels,
    ];

    /// The stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.entry().text
    }

    /// The code of a text.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        Code::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// The gates of the step from `stage` to `next` that a look at the brokers decides. Those of the instances come before every step.
    #[must_use]
    pub fn of_step(stage: Stage, next: Stage) -> &'static [Code] {
        use Code::*;
        match (stage, next) {
            (Stage::SourceOnly, Stage::DualRead) => &[
                ClustersAnswer,
                TopicOnSource,
                TopicOnTarget,
                GroupsOnSource,
                GroupsOnTarget,
                GroupCount,
                GroupsKnown,
                MessageType,
                DelayLevels,
                QueuesOnTarget,
                Permissions,
                RolesRegistered,
                ProducersRegistered,
                ConsumersOnTarget,
                UnmanagedConsumers,
                UnmanagedProducers,
                BroadcastGroups,
                PopGroups,
                TargetQuiet,
                SourceIdle,
            ],
            (Stage::DualRead, Stage::DualWrite) => &[
                ClustersAnswer,
                TopicOnTarget,
                GroupsKnown,
                Permissions,
                ConsumersOnTarget,
                TargetQuiet,
                GroupsSubscribedTarget,
            ],
            (Stage::DualWrite, Stage::Draining) => {
                &[ClustersAnswer, TargetWriteErrors, TargetLag, TargetIdle]
            }
            (Stage::Draining, Stage::TargetOnly) => &[
                ClustersAnswer,
                UnmanagedConsumers,
                PopGroups,
                SourceQuiet,
                TargetIdle,
                SourceBacklogKnown,
                SourceDrained,
            ],
            (Stage::TargetOnly, Stage::Draining) => {
                &[ClustersAnswer, TopicOnSource, GroupsOnSource]
            }
            (Stage::DualRead, Stage::SourceOnly) => &[
                ClustersAnswer,
                PopGroups,
                TargetQuiet,
                TargetBacklogKnown,
                TargetDrained,
            ],
            _ => &[ClustersAnswer],
        }
    }

    /// The gates that come before keys of an ordered topic change sides.
    #[must_use]
    pub fn of_move() -> &'static [Code] {
        &[
            Code::ClustersAnswer,
            Code::MovesPassed,
            Code::MovingRetries,
            Code::MovingLag,
        ]
    }

    /// The code of a side's own gate.
    pub(super) fn on(side: Side, source: Code, target: Code) -> Code {
        match side {
            Side::Source => source,
            Side::Target => target,
        }
    }

    /// What there is to say about it.
    #[must_use]
    pub fn entry(self) -> Entry {
        let (text, chinese, policy, about) = match self {
            Code::InstancesAcked => (
                "instances_acked",
                "实例已确认",
                Never(
                    "an instance that has not applied the plan still acts by an older one: wait for it, or stop it",
                ),
                "every live instance with a role in the topic has fully applied the plan in force",
            ),
            Code::InstancesLost => (
                "instances_lost",
                "无失联实例",
                Never("it is lifted by name: `crossfade instance confirm-gone NAME --reason TEXT`"),
                "no instance is out of contact and perhaps still running with an old plan",
            ),
            Code::PlansRefused => (
                "plans_refused",
                "计划未被拒绝",
                Never(
                    "an instance that refuses the plan acts by another one: read its reason, update or stop it",
                ),
                "no instance refuses the plan",
            ),
            Code::ClustersAnswer => (
                "clusters_answer",
                "集群可达",
                Never("nothing is known of a cluster that does not answer"),
                "both clusters answered all questions since the check was asked for; what is unknown blocks",
            ),
            Code::TopicManaged => (
                "topic_managed",
                "主题已导入",
                Never("there is nothing to move: `crossfade topic add`"),
                "the topic is managed here",
            ),
            Code::TopicOnSource => (
                "topic_on_source",
                "源端主题存在",
                Never("there is nothing to move"),
                "the topic exists on the source and has queues",
            ),
            Code::TopicOnTarget => (
                "topic_on_target",
                "目标端主题存在",
                Never("there is nothing to write to: create it"),
                "the topic exists on the target and has queues",
            ),
            Code::GroupsOnSource => (
                "groups_on_source",
                "源端消费组存在",
                Never(
                    "what is owed to a group that does not exist cannot be known: create it, one command",
                ),
                "every managed group exists on the source",
            ),
            Code::GroupsOnTarget => (
                "groups_on_target",
                "目标端消费组存在",
                Never(
                    "a group without a place on the target would begin at the wrong message: create it, one command",
                ),
                "every managed group exists on the target",
            ),
            Code::GroupCount => (
                "group_count",
                "消费组数量一致",
                Override,
                "the same groups belong to the topic on both sides",
            ),
            Code::GroupsKnown => (
                "groups_known",
                "消费组均已导入",
                Override,
                "every group that reads the topic on the source is managed",
            ),
            Code::MessageType => (
                "message_type",
                "消息类型一致",
                Override,
                "the topic takes the same type of messages on both sides, and one that fits its routing: `FIFO` with `--ordered` only, `DELAY` and `TRANSACTION` without it only; no batches in one message (`BatchCQ`), and the same type on every broker",
            ),
            Code::QueuesOnTarget => (
                "queues_on_target",
                "目标端队列足够",
                Override,
                "the target has at least as many queues as the source",
            ),
            Code::Permissions => (
                "permissions",
                "读写权限正确",
                Never(
                    "the control plane puts them right by itself; a step on wrong ones would open or close the wrong side",
                ),
                "what writers may do on each side is what the stage says, on every broker",
            ),
            Code::RolesRegistered => (
                "roles_registered",
                "消费者已接入",
                Override,
                "every managed group has a live registered consumer",
            ),
            Code::ProducersRegistered => (
                "producers_registered",
                "生产者已接入",
                Note,
                "a live registered instance sends to the topic",
            ),
            Code::ConsumersOnTarget => (
                "consumers_on_target",
                "目标端无多余消费者",
                Override,
                "no consumer other than the registered instances is connected on the target in the topic's groups",
            ),
            Code::UnmanagedConsumers => (
                "unmanaged_consumers",
                "源端无未接入消费者",
                Override,
                "no consumer other than the registered instances is connected on the source in the topic's groups",
            ),
            Code::UnmanagedProducers => (
                "unmanaged_producers",
                "源端无未接入生产者",
                Override,
                "the source's end offsets grow by no more than the registered producers report",
            ),
            Code::BroadcastGroups => (
                "broadcast_groups",
                "无广播消费组",
                Override,
                "no group broadcasts: such a group keeps its offsets on its clients, so nothing about it can be proved",
            ),
            Code::PopGroups => (
                "pop_groups",
                "无 POP 消费组",
                Never(
                    "a POP consumer's offset moves before its ack, so a drain cannot be proved: let the group pull while the topic moves",
                ),
                "no group consumes by POP",
            ),
            Code::SourceQuiet => (
                "source_quiet",
                "源端无新消息",
                Override,
                "nothing new was written to the source between the last two looks",
            ),
            Code::TargetQuiet => (
                "target_quiet",
                "目标端无新消息",
                Override,
                "nothing is written to the target before the stage allows it",
            ),
            Code::SourceIdle => (
                "source_idle",
                "源端有写入",
                Note,
                "messages are being written to the source: a topic without any may be the wrong one",
            ),
            Code::TargetIdle => (
                "target_idle",
                "目标端有写入",
                Note,
                "messages are being written to the target",
            ),
            Code::GroupsSubscribedTarget => (
                "groups_subscribed_target",
                "目标端队列均被订阅",
                Override,
                "live registered instances of every group read every queue of the target",
            ),
            Code::TargetWriteErrors => (
                "target_write_errors",
                "目标端写入无错误",
                Override,
                "no producer reported a failed send to the target lately",
            ),
            Code::TargetLag => (
                "target_lag",
                "目标端堆积未超限",
                Override,
                "no group lags on the target by more messages than the limit",
            ),
            Code::SourceDrained => (
                "source_drained",
                "源端消息已消费完",
                Override,
                "the source owes nothing to any group: topic, retry, delayed and half messages, by exact offsets",
            ),
            Code::TargetDrained => (
                "target_drained",
                "目标端消息已消费完",
                Override,
                "the target owes nothing to any group: topic, retry, delayed and half messages, by exact offsets",
            ),
            Code::SourceBacklogKnown => (
                "source_backlog_known",
                "源端堆积可知",
                Override,
                "what the source owes to every managed group can be known, delayed and half messages included",
            ),
            Code::TargetBacklogKnown => (
                "target_backlog_known",
                "目标端堆积可知",
                Override,
                "what the target owes to every managed group can be known, delayed and half messages included",
            ),
            Code::SourceSealed => (
                "source_sealed",
                "源端已封闭",
                Never(
                    "the seal turns a stray writer's loss into an error, and the proof under it is what `drained` means",
                ),
                "the source refuses every send on every broker, and two looks under the seal found the same",
            ),
            Code::TargetSealed => (
                "target_sealed",
                "目标端已封闭",
                Never(
                    "the seal turns a stray writer's loss into an error, and the proof under it is what `drained` means",
                ),
                "the target refuses every send on every broker, and two looks under the seal found the same",
            ),
            Code::MovesPassed => (
                "moves_passed",
                "迁移屏障未超限",
                Never(
                    "a plan carries every move until all groups have passed it, and it must not grow for ever",
                ),
                "few earlier moves of the topic's keys wait for a group to pass their barriers",
            ),
            Code::MovingRetries => (
                "moving_retries",
                "待迁移端无重试消息",
                Override,
                "no retry and no delayed message waits on the side that keys are to leave: no barrier covers those",
            ),
            Code::MovingLag => (
                "moving_lag",
                "待迁移端堆积未超限",
                Override,
                "no group has more messages waiting on the side that keys are to leave than the limit: the moved keys wait for them",
            ),
            Code::DelayLevels => (
                "delay_levels",
                "延迟级别一致",
                Override,
                "the brokers that have the topic, on both sides, are configured to take the numbered delays for the same times: delayed messages and retries go by them, except those of an ordered topic",
            ),
        };
        Entry {
            text,
            chinese,
            about,
            policy,
        }
    }
}
