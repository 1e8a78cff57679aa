//! The ledger: every write that clients made is looked for once the stack is well again.
//!
//! An acknowledged write must be there exactly once; one without an acknowledgement may be there or not, but not
//! twice. Looking is asked again when the answer itself fails, since it measures the writes and not the service;
//! a key that cannot be looked for in the end is named, never taken for well. The ledger is made once for each
//! run, from the keys that the clients kept.

use std::{sync::Arc, time::Duration};

use evenkeel_core::drill::{Ledger, Plan, Writes};
use tokio::task::JoinSet;

use super::{
    client::{Ask, Client},
    load::Written,
};

/// Connections that look in parallel.
const LOOKERS: usize = 4;
/// How often a key is looked for until it counts as unverified.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Looks for all `written` keys of `plan`.
pub(super) async fn verify(plan: &Plan, writes: &Writes, written: Vec<Written>) -> Ledger {
    let share = written.len().div_ceil(LOOKERS).max(1);
    let verify: Arc<str> = writes.verify.as_str().into();
    let mut lookers = JoinSet::new();
    for keys in written.chunks(share) {
        let client = Client::new(plan.address, plan.host.as_deref());
        lookers.spawn(look_for_all(client, Arc::clone(&verify), keys.to_vec()));
    }
    let mut ledger = Ledger::default();
    for part in lookers.join_all().await {
        ledger.acknowledged += part.acknowledged;
        ledger.unacknowledged += part.unacknowledged;
        ledger.unacknowledged_there += part.unacknowledged_there;
        ledger.lost.extend(part.lost);
        ledger.doubled.extend(part.doubled);
        ledger.unverified.extend(part.unverified);
    }
    for keys in [&mut ledger.lost, &mut ledger.doubled, &mut ledger.unverified] {
        keys.sort();
    }
    ledger
}

async fn look_for_all(mut client: Client, verify: Arc<str>, keys: Vec<Written>) -> Ledger {
    let mut ledger = Ledger::default();
    for Written { key, acknowledged } in keys {
        *(if acknowledged { &mut ledger.acknowledged } else { &mut ledger.unacknowledged }) += 1;
        match look_for(&mut client, &verify.replace("{key}", &key)).await {
            Ok(0) if acknowledged => ledger.lost.push(key),
            Ok(1) if !acknowledged => ledger.unacknowledged_there += 1,
            Ok(0 | 1) => {}
            Ok(_) => ledger.doubled.push(key),
            Err(why) => ledger.unverified.push(format!("{key} ({why})")),
        }
    }
    ledger
}

/// How many entries there are, or why nobody knows.
async fn look_for(client: &mut Client, path: &str) -> Result<usize, String> {
    let mut why = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        why = match client.send(&Ask::Read(path)).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                match serde_json::from_slice::<Vec<serde_json::Value>>(&answer.body) {
                    Ok(entries) => return Ok(entries.len()),
                    Err(error) => format!("no JSON array: {error}"),
                }
            }
            Ok(answer) => format!("status {}", answer.status),
            Err(trouble) => trouble.to_string(),
        };
    }
    Err(why)
}
