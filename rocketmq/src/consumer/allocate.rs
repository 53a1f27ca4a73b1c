//! Who reads which queue: each member computes the same from the same lists
//! (apache/rocketmq `AllocateMessageQueueAveragely.java`, so that Java members may be among them).

/// The part of `queues` for `member`; both lists sorted and without repeats.
pub(super) fn averagely<'a, T>(queues: &'a [T], members: &[String], member: &str) -> &'a [T] {
    let Some(index) = members.iter().position(|m| m == member) else {
        return &[];
    };
    let (each, more) = (queues.len() / members.len(), queues.len() % members.len());
    // The first `more` members have one queue more than the others.
    let start = index * each + index.min(more);
    let length = each + usize::from(index < more);
    &queues[start..start + length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_exactly_one_member() {
        for queue_count in 0..20 {
            let queues: Vec<usize> = (0..queue_count).collect();
            for member_count in 1..8 {
                let members: Vec<String> = (0..member_count).map(|m| format!("m{m}")).collect();
                let parts: Vec<&[usize]> = members
                    .iter()
                    .map(|m| averagely(&queues, &members, m))
                    .collect();
                assert_eq!(parts.concat(), queues);
                let sizes = parts.iter().map(|part| part.len());
                assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn a_stranger_gets_nothing() {
        assert!(averagely(&[1, 2], &["a".to_owned()], "b").is_empty());
        assert!(averagely(&[1, 2], &[], "b").is_empty());
    }
}
