//! An exact store in this process, which several clients share through an `Arc` as they would share Redis.

use std::{
    collections::{HashMap, VecDeque},
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
    /// How long an owner that is not renewed keeps its pending claims. Default 10 s.
    pub owner_lease: Duration,
}

impl Default for MemoryDedupOptions {
    fn default() -> Self {
        MemoryDedupOptions {
            window: Duration::from_secs(24 * 60 * 60),
            max_keys: 1_000_000,
            owner_lease: Duration::from_secs(10),
        }
    }
}

/// The store.
#[derive(Debug)]
pub struct MemoryDedup {
    options: MemoryDedupOptions,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// When each owner was heard of last.
    owners: Mutex<HashMap<Owner, Instant>>,
}

type Key = (Arc<str>, IdempotencyKey);

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<Key, State>,
    /// Committed keys, oldest first.
    expiry: VecDeque<(Instant, Key)>,
    /// One name a scope, so that keys share it.
    scopes: HashMap<Box<str>, Arc<str>>,
}

#[derive(Debug)]
enum State {
    Pending(Owner),
    Committed,
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
            owners: Mutex::default(),
        }
    }

    /// Keys remembered now, pending and committed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).keys.len()).sum()
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

    fn is_alive(&self, owner: &Owner, now: Instant) -> bool {
        let heard = lock(&self.owners).get(owner).copied();
        heard.is_some_and(|heard| now.duration_since(heard) < self.options.owner_lease)
    }

    fn claim_now(&self, scope: &str, key: &IdempotencyKey, owner: &Owner) -> Result<Claim> {
        let now = Instant::now();
        // Whoever claims is alive.
        lock(&self.owners).insert(Arc::clone(owner), now);
        let mut shard = self.shard(key);
        let key = shard.key(scope, key);
        match shard.keys.get(&key) {
            Some(State::Committed) => return Ok(Claim::Committed),
            Some(State::Pending(other)) if self.is_alive(other, now) => return Ok(Claim::Pending),
            Some(State::Pending(_)) => {}
            None if shard.keys.len() >= self.options.max_keys.div_ceil(SHARDS) => {
                return Err(Error::new(
                    ErrorKind::Throttled,
                    "claim",
                    format!(
                        "the deduplication window is full ({} keys): the message waits; raise dedup.max_keys or shorten dedup.window_ms",
                        self.options.max_keys
                    ),
                ));
            }
            None => {}
        }
        shard.keys.insert(key, State::Pending(Arc::clone(owner)));
        Ok(Claim::First)
    }

    fn commit_now(&self, scope: &str, key: &IdempotencyKey, owner: &Owner) -> Result<()> {
        let mut shard = self.shard(key);
        let key = shard.key(scope, key);
        match shard.keys.get(&key) {
            // A commit that is repeated because its answer was lost.
            Some(State::Committed) => Ok(()),
            Some(State::Pending(by)) if by == owner => {
                shard
                    .expiry
                    .push_back((Instant::now() + self.options.window, key.clone()));
                shard.keys.insert(key, State::Committed);
                Ok(())
            }
            _ => Err(Error::new(
                ErrorKind::StaleDelivery,
                "commit",
                "the claim is not this consumer's any more: its lease was over, and the message may be handled again",
            )),
        }
    }

    fn release_now(&self, scope: &str, key: &IdempotencyKey, owner: &Owner) {
        let mut shard = self.shard(key);
        let key = shard.key(scope, key);
        if matches!(shard.keys.get(&key), Some(State::Pending(by)) if by == owner) {
            shard.keys.remove(&key);
        }
    }

    fn renew_now(&self, owner: &Owner) {
        let now = Instant::now();
        let mut owners = lock(&self.owners);
        owners.insert(Arc::clone(owner), now);
        // Owners that are long gone need no entry: an unknown owner is not alive.
        owners.retain(|_, heard| now.duration_since(*heard) < self.options.owner_lease * 2);
    }
}

impl Shard {
    fn expire(&mut self, now: Instant) {
        while self.expiry.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.expiry.pop_front() {
                self.keys.remove(&key);
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

    fn renew<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<()>> {
        self.renew_now(owner);
        Box::pin(std::future::ready(Ok(())))
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
    async fn claim_of_a_dead_owner_falls_free_and_its_late_commit_is_refused() {
        let (store, a, b) = store(1_000);
        store.claim(SCOPE, &key("1"), &a).await.unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(
            store.claim(SCOPE, &key("1"), &b).await.unwrap(),
            Claim::Pending
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(
            store.claim(SCOPE, &key("1"), &b).await.unwrap(),
            Claim::First
        );
        let late = store.commit(SCOPE, &key("1"), &a).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::StaleDelivery);
    }

    #[tokio::test(start_paused = true)]
    async fn claim_of_a_renewed_owner_stays_however_long_the_handler_takes() {
        let (store, a, b) = store(1_000);
        store.claim(SCOPE, &key("1"), &a).await.unwrap();
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(5)).await;
            store.renew(&a).await.unwrap();
        }
        assert_eq!(
            store.claim(SCOPE, &key("1"), &b).await.unwrap(),
            Claim::Pending
        );
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
