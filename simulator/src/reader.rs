//! Somebody who only reads the plans: `GET /v1/plan`, with the tag of those already read.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crossfade::{
    ErrorKind, Revision,
    control::{HttpPlans, PlanSource, Token, UrlPlans, wire::SyncRequest},
};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    effect::Effects,
    http::{ADDRESS, Counts, Http, READER_TOKEN},
    instance::Ground,
    wire::Wire,
};

/// How often it asks.
const EVERY: Duration = Duration::from_millis(500);

/// Owns the task that reads.
#[derive(Debug)]
pub(crate) struct Reader {
    task: JoinHandle<()>,
    complaint: Arc<Mutex<Option<String>>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    pub(crate) fn start(ground: &Ground, counts: Counts, seed: u64) -> Self {
        let wire = Wire::new(Effects::default(), seed);
        // Its own network is bad all the time.
        wire.change(|faults| faults.bad = true);
        let transport = Http::new(ground.address.clone(), wire, counts.clone());
        let stranger = Wire::new(Effects::default(), seed);
        let stranger = Http::new(ground.address.clone(), stranger, counts);
        let complaint = Arc::new(Mutex::new(None));
        let told = Arc::clone(&complaint);
        let task = tokio::spawn(async move {
            let outcome = match refused(stranger).await {
                Ok(()) => read(transport).await,
                Err(why) => Err(why),
            };
            if let Err(why) = outcome {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            }
        });
        Reader { task, complaint }
    }

    /// What was wrong, once.
    pub(crate) fn complaint(&self) -> Option<String> {
        let mut complaint = self.complaint.lock();
        complaint
            .as_mut()
            .map_or(None, |complaint| complaint.take())
    }
}

/// The token of a reader registers nobody.
async fn refused(transport: Http) -> Result<(), String> {
    let token = Token::Text(READER_TOKEN.to_owned());
    let plans = HttpPlans::over(Arc::new(transport), ADDRESS, token);
    let request = SyncRequest {
        version: 1,
        instance: "stranger".to_owned(),
        incarnation: "0".repeat(32),
        ..SyncRequest::default()
    };
    let plans = plans.map_err(|error| error.to_string())?;
    match plans.sync(&request).await {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        other => Err(format!("a reader's token registers an instance: {other:?}")),
    }
}

/// Plans never go back, whatever the network does.
async fn read(transport: Http) -> Result<(), String> {
    let token = Token::Text(READER_TOKEN.to_owned());
    let address = format!("{ADDRESS}/v1/plan");
    let plans = UrlPlans::over(Arc::new(transport), &address, token, EVERY);
    let plans = plans.map_err(|error| error.to_string())?;
    let mut known = Revision(0);
    loop {
        let request = SyncRequest {
            known_revision: known,
            wait_ms: 5_000,
            ..SyncRequest::default()
        };
        match plans.sync(&request).await {
            Ok(response) if response.plans.revision < known => {
                let now = response.plans.revision;
                return Err(format!("GET /v1/plan went back from {known} to {now}"));
            }
            Ok(response) => known = response.plans.revision,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(format!("GET /v1/plan: {error}"));
            }
            Err(_) => sleep(EVERY).await,
        }
    }
}
