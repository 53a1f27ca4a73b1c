//! An exact store in this process, which several clients share through an `Arc` as they would share Redis.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    BoxFuture,
    dedup::{Claim, DedupStore, Fill, Owner},
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
    /// Most keys, pending and committed, of all topics and groups together. A full store answers `Throttled`; it forgets nothing early. Default
    /// 10 000 000, which is 115 messages a second for the default window; they take 400 to 800 MB, as they come.
    pub max_keys: usize,
}

impl Default for MemoryDedupOptions {
    fn default() -> Self {
        MemoryDedupOptions {
            window: Duration::from_secs(24 * 60 * 60),
            max_keys: 10_000_000,
        }
    }
}

/// The store. A claim lasts as long as its owner, however long that was frozen or suspended: owners have no lease here. It keeps fingerprints, 40 to
/// 80 bytes a key.
#[derive(Debug)]
pub struct MemoryDedup {
    options: MemoryDedupOptions,
    /// Their secrets are this store's own, so that nobody can make keys that collide.
    hashers: [RandomState; 2],
    started: Instant,
    shards: [Mutex<Shard>; SHARDS],
}

/// 128 bits of scope and key: two of 10 million are the same with a chance of 1 in 10^24.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fingerprint([u32; 4]);

impl Fingerprint {
    fn shard(self) -> usize {
        self.0[0] as usize % SHARDS
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[2]) << 32 | u64::from(self.0[3]));
    }
}

/// A fingerprint is a hash already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

type AsIs = BuildHasherDefault<AsItIs>;

#[derive(Debug, Default)]
struct Shard {
    /// Few: what is in handlers, or on its way there.
    pending: HashMap<Fingerprint, Owner, AsIs>,
    committed: HashSet<Fingerprint, AsIs>,
    /// Committed keys, oldest first.
    expiry: VecDeque<(Tick, Fingerprint)>,
}

/// Tenths of a second since the store was made; enough for 13 years.
type Tick = u32;

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
            hashers: [RandomState::new(), RandomState::new()],
            started: Instant::now(),
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

    fn fingerprint(&self, scope: &str, key: &IdempotencyKey) -> Fingerprint {
        let [a, b] = [0, 1].map(|n| self.hashers[n].hash_one((scope, key.as_str())));
        Fingerprint([a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32])
    }

    /// Rounded down.
    fn tick(&self, at: Instant) -> Tick {
        let tenths = at.saturating_duration_since(self.started).as_millis() / 100;
        Tick::try_from(tenths).unwrap_or(Tick::MAX)
    }

    fn shard(&self, key: Fingerprint) -> MutexGuard<'_, Shard> {
        let mut shard = lock(&self.shards[key.shard()]);
        shard.expire(self.tick(Instant::now()));
        shard
    }

    fn claim_now(&self, scope: &str, key: &IdempotencyKey, owner: &Owner) -> Result<Claim> {
        let key = self.fingerprint(scope, key);
        let mut shard = self.shard(key);
        if shard.committed.contains(&key) {
            return Ok(Claim::Committed);
        }
        if shard.pending.contains_key(&key) {
            return Ok(Claim::Pending);
        }
        if shard.len() >= self.options.max_keys.div_ceil(SHARDS) {
            return Err(self.full());
        }
        shard.pending.insert(key, Arc::clone(owner));
        Ok(Claim::First)
    }

    fn full(&self) -> Error {
        let MemoryDedupOptions { window, max_keys } = self.options;
        let rate = max_keys as f64 / window.as_secs_f64();
        Error::new(
            ErrorKind::Throttled,
            "claim",
            format!(
                "the deduplication store is full: {max_keys} keys in a window of {window:?} are {rate:.1} messages a second, and more were handled; \
                 raise dedup.max_keys or shorten dedup.window_ms"
            ),
        )
    }

    fn commit_now(&self, scope: &str, key: &IdempotencyKey, owner: &Owner) -> Result<()> {
        let key = self.fingerprint(scope, key);
        let mut shard = self.shard(key);
        // A commit that is repeated because its answer was lost.
        if shard.committed.contains(&key) {
            return Ok(());
        }
        if !shard.withdraw(key, owner) {
            return Err(Error::new(
                ErrorKind::StaleDelivery,
                "commit",
                "the claim is not this consumer's any more, and the message may be handled again",
            ));
        }
        shard.committed.insert(key);
        // One more, because both ends were rounded down: nothing is forgotten early.
        let until = self.tick(Instant::now() + self.options.window);
        shard.expiry.push_back((until.saturating_add(1), key));
        Ok(())
    }

    fn release_now(&self, scope: &str, key: &IdempotencyKey, owner: &Owner) {
        let key = self.fingerprint(scope, key);
        self.shard(key).withdraw(key, owner);
    }
}

impl Shard {
    fn len(&self) -> usize {
        self.pending.len() + self.committed.len()
    }

    /// Takes back a claim; false when it is not the owner's.
    fn withdraw(&mut self, key: Fingerprint, owner: &Owner) -> bool {
        let is_own = self.pending.get(&key) == Some(owner);
        is_own && self.pending.remove(&key).is_some()
    }

    fn expire(&mut self, now: Tick) {
        while let Some(&(at, key)) = self.expiry.front()
            && at <= now
        {
            self.expiry.pop_front();
            self.committed.remove(&key);
        }
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

    fn fill(&self) -> Option<Fill> {
        Some(Fill {
            keys: self.len() as u64,
            limit: self.options.max_keys as u64,
        })
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
        tokio::time::advance(Duration::from_secs(24 * 60 * 60 - 1)).await;
        for key in &kept {
            assert_eq!(store.claim(SCOPE, key, &a).await.unwrap(), Claim::Committed);
        }
        tokio::time::advance(Duration::from_millis(1_200)).await;
        for key in &kept {
            assert_eq!(store.claim(SCOPE, key, &a).await.unwrap(), Claim::First);
        }
    }

    #[tokio::test]
    async fn handled_key_costs_at_most_80_bytes() {
        let (store, a, _) = store(usize::MAX);
        for count in [10_000, 100_000, 200_000] {
            for number in store.len()..count {
                let key = key(&number.to_string());
                store.claim(SCOPE, &key, &a).await.unwrap();
                store.commit(SCOPE, &key, &a).await.unwrap();
            }
            assert_eq!(store.fill().unwrap().keys, count as u64);
            let bytes: usize = store
                .shards
                .iter()
                .map(|shard| {
                    let shard = lock(shard);
                    // The set fills 7 of 8 places and has a byte beside each.
                    let places = shard.committed.capacity() * 8 / 7;
                    places * (size_of::<Fingerprint>() + 1)
                        + shard.expiry.capacity() * size_of::<(Tick, Fingerprint)>()
                })
                .sum();
            assert!(bytes / count <= 80, "{} bytes a key", bytes / count);
        }
    }
}
