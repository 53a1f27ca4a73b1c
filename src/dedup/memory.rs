//! An exact store in this process, which several clients share through an `Arc` as they would share Redis.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    BoxFuture,
    dedup::{Claim, DedupStore, Owner},
    error::{Error, ErrorKind, Result},
    message::IdempotencyKey,
};

/// Keys are spread over so many locks.
const SHARDS: usize = 16;

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemoryDedupOptions {
    /// How long a committed key is remembered. Default 24 h: RocketMQ's 16 retries span 4 h 46 min.
    pub window: Duration,
    /// Most keys, pending and committed. A full store answers `Throttled`; it forgets nothing early. Default 1 000 000.
    pub max_keys: usize,
}

impl Default for MemoryDedupOptions {
    fn default() -> Self {
        MemoryDedupOptions {
            window: Duration::from_secs(24 * 60 * 60),
            max_keys: 1_000_000,
        }
    }
}

/// The store. A claim lasts as long as its owner, however long that was frozen or suspended: owners have no lease here.
#[derive(Debug)]
pub struct MemoryDedup {
    options: MemoryDedupOptions,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

type Key = (Arc<str>, IdempotencyKey);

#[derive(Debug, Default)]
struct Shard {
    /// Few: what is in handlers, or on its way there.
    pending: HashMap<Key, Owner>,
    committed: HashSet<Key>,
    /// Committed keys, oldest first.
    expiry: VecDeque<(Instant, Key)>,
    /// One name a scope, so that keys share it.
    scopes: HashMap<Box<str>, Arc<str>>,
}

impl Default for MemoryDedup {
    fn default() -> Self {
        MemoryDedup::new(MemoryDedupOptions::default())
    }
}

impl MemoryDedup {
    /// An empty store.
    #[must_use]
    pub fn new(options: MemoryDedupOptions) -> Self {
        MemoryDedup {
            options,
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// Keys remembered now, pending and committed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &IdempotencyKey) -> MutexGuard<'_, Shard> {
        let mut shard = lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS]);
        shard.expire(Instant::now());
        shard
    }

    fn claim_now(&self, scope: &str, key: &IdempotencyKey, owner: &Owner) -> Result<Claim> {
        let mut shard = self.shard(key);
        let key = shard.key(scope, key);
        if shard.committed.contains(&key) {
            return Ok(Claim::Committed);
        }
        if shard.pending.contains_key(&key) {
            return Ok(Claim::Pending);
        }
        if shard.len() >= self.options.max_keys.div_ceil(SHARDS) {
            return Err(Error::new(
                ErrorKind::Throttled,
                "claim",
                format!(
                    "the deduplication window is full ({} keys): the message waits; raise dedup.max_keys or shorten dedup.window_ms",
                    self.options.max_keys
                ),
            ));
        }
        shard.pending.insert(key, Arc::clone(owner));
        Ok(Claim::First)
    }

    fn commit_now(&self, scope: &str, key: &IdempotencyKey, owner: &Owner) -> Result<()> {
        let mut shard = self.shard(key);
        let key = shard.key(scope, key);
        // A commit that is repeated because its answer was lost.
        if shard.committed.contains(&key) {
            return Ok(());
        }
        if !shard.withdraw(&key, owner) {
            return Err(Error::new(
                ErrorKind::StaleDelivery,
                "commit",
                "the claim is not this consumer's any more, and the message may be handled again",
            ));
        }
        let expires = Instant::now() + self.options.window;
        shard.expiry.push_back((expires, key.clone()));
        shard.committed.insert(key);
        Ok(())
    }

    fn release_now(&self, scope: &str, key: &IdempotencyKey, owner: &Owner) {
        let mut shard = self.shard(key);
        let key = shard.key(scope, key);
        shard.withdraw(&key, owner);
    }
}

impl Shard {
    fn len(&self) -> usize {
        self.pending.len() + self.committed.len()
    }

    /// Takes back a claim; false when it is not the owner's.
    fn withdraw(&mut self, key: &Key, owner: &Owner) -> bool {
        let is_own = self.pending.get(key).is_some_and(|by| by == owner);
        is_own && self.pending.remove(key).is_some()
    }

    fn expire(&mut self, now: Instant) {
        while self.expiry.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.expiry.pop_front() {
                self.committed.remove(&key);
            }
        }
    }

    fn key(&mut self, scope: &str, key: &IdempotencyKey) -> Key {
        let scope = match self.scopes.get(scope) {
            Some(scope) => Arc::clone(scope),
            None => {
                let name: Arc<str> = scope.into();
                self.scopes.insert(scope.into(), Arc::clone(&name));
                name
            }
        };
        (scope, key.clone())
    }
}

impl DedupStore for MemoryDedup {
    fn claim<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<Claim>> {
        Box::pin(std::future::ready(self.claim_now(scope, key, owner)))
    }

    fn commit<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(self.commit_now(scope, key, owner)))
    }

    fn release<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<()>> {
        self.release_now(scope, key, owner);
        Box::pin(std::future::ready(Ok(())))
    }

    fn renew<'a>(&'a self, _: &'a Owner) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn forget(&self, owner: &Owner) {
        for shard in &self.shards {
            lock(shard).pending.retain(|_, by| by != owner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &str = "orders/billing";

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::new(text).unwrap()
    }

    fn store(max_keys: usize) -> (MemoryDedup, Owner, Owner) {
        let options = MemoryDedupOptions {
            max_keys,
            ..MemoryDedupOptions::default()
        };
        (MemoryDedup::new(options), "a".into(), "b".into())
    }

    #[tokio::test(start_paused = true)]
    async fn key_is_first_then_pending_then_committed() {
        let (store, a, b) = store(1_000);
        assert_eq!(
            store.claim(SCOPE, &key("1"), &a).await.unwrap(),
            Claim::First
        );
        assert_eq!(
            store.claim(SCOPE, &key("1"), &b).await.unwrap(),
            Claim::Pending
        );
        assert_eq!(
            store.claim("orders/audit", &key("1"), &b).await.unwrap(),
            Claim::First
        );
        store.commit(SCOPE, &key("1"), &a).await.unwrap();
        store.commit(SCOPE, &key("1"), &a).await.unwrap();
        assert_eq!(
            store.claim(SCOPE, &key("1"), &b).await.unwrap(),
            Claim::Committed
        );
    }

    #[tokio::test(start_paused = true)]
    async fn released_key_is_first_again_and_only_for_its_owner() {
        let (store, a, b) = store(1_000);
        store.claim(SCOPE, &key("1"), &a).await.unwrap();
        store.release(SCOPE, &key("1"), &b).await.unwrap();
        assert_eq!(
            store.claim(SCOPE, &key("1"), &b).await.unwrap(),
            Claim::Pending
        );
        store.release(SCOPE, &key("1"), &a).await.unwrap();
        assert_eq!(
            store.claim(SCOPE, &key("1"), &b).await.unwrap(),
            Claim::First
        );
    }

    #[tokio::test(start_paused = true)]
    async fn pending_claims_of_an_owner_that_is_gone_fall_free_and_make_room() {
        let (store, a, b) = store(SHARDS);
        for number in 0..1_000 {
            let _full = store.claim(SCOPE, &key(&number.to_string()), &a).await;
        }
        assert_eq!(store.len(), SHARDS);
        let claimed = |claim: Result<Claim>| claim.is_ok_and(|claim| claim == Claim::Pending);
        let mut pending = Vec::new();
        for number in 0..1_000 {
            let key = key(&number.to_string());
            if claimed(store.claim(SCOPE, &key, &b).await) {
                pending.push(key);
            }
        }
        let (kept, lost) = pending.split_first().unwrap();
        store.commit(SCOPE, kept, &a).await.unwrap();
        store.forget(&a);
        assert_eq!(store.len(), 1);
        assert_eq!(
            store.claim(SCOPE, kept, &b).await.unwrap(),
            Claim::Committed
        );
        for key in lost {
            let late = store.commit(SCOPE, key, &a).await.unwrap_err();
            assert_eq!(late.kind(), ErrorKind::StaleDelivery);
            assert_eq!(store.claim(SCOPE, key, &b).await.unwrap(), Claim::First);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn claim_stays_while_its_owner_is_frozen_however_long() {
        let (store, a, b) = store(1_000);
        store.claim(SCOPE, &key("1"), &a).await.unwrap();
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(
            store.claim(SCOPE, &key("1"), &b).await.unwrap(),
            Claim::Pending
        );
        store.commit(SCOPE, &key("1"), &a).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn full_window_pushes_back_and_forgets_only_what_is_old() {
        let (store, a, _) = store(SHARDS);
        let mut kept = Vec::new();
        let mut pushed_back = 0;
        for number in 0..1_000 {
            match store.claim(SCOPE, &key(&number.to_string()), &a).await {
                Ok(_) => kept.push(key(&number.to_string())),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Throttled);
                    pushed_back += 1;
                }
            }
        }
        assert_eq!((kept.len(), pushed_back), (SHARDS, 1_000 - SHARDS));
        for key in &kept {
            store.commit(SCOPE, key, &a).await.unwrap();
            assert_eq!(store.claim(SCOPE, key, &a).await.unwrap(), Claim::Committed);
        }
        tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
        for key in &kept {
            assert_eq!(store.claim(SCOPE, key, &a).await.unwrap(), Claim::First);
        }
    }
}
