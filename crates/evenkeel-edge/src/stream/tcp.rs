//! A connection of a TCP listener: led to one instance of the listener's service, and then bytes both ways.
//!
//! The instance is chosen as for a request that cannot be moved: the same balance, health, bounds, holds and fallbacks.
//! While connecting fails nothing was sent, so another instance is tried, within the service's retries and their budget;
//! once the connection stands nothing is ever tried again. What an instance does not say speaks against nobody here, so
//! such connections are never taken for silence. A reset by the instance counts as a failure, an orderly end as a
//! success; an end by idleness says nothing.

use std::{convert::Infallible, rc::Rc, task::Poll, time::Duration};

use evenkeel_core::retry::{self, Attempt, Sent};
use tokio::net::TcpStream;

use super::pass::{Over, Passed, Side, pass};
use crate::{
    buffers::Input,
    hold::{Answers, Refused, Seeker, acquire},
    http::{
        attempt::connect,
        client::Client,
        exchange::{Cause, note_failure},
    },
    local::ServiceLocal,
    messages::Failure,
    pick::{Flight, Tie, Tried, all_tried},
    slots::Signal,
};

/// Serves one connection until it ends.
pub(crate) async fn serve(mut client: Client) {
    let Some(mut service) = client.place.stream_service() else { return };
    service.cell().requests.add(1);
    service.unreported.set(service.unreported.get().wrapping_add(1));
    let (mut flight, mut stream) = match reach(&client, &mut service).await {
        Ok(reached) => reached,
        Err(Refused::ClientGone) => return service.cell().cancelled.add(1),
        Err(Refused::Unavailable) => {
            service.cell().aborted.add(1);
            // An orderly end could be taken for an empty answer.
            return client.reset();
        }
    };
    client.place.let_go();
    flight.settle();
    drop(service);
    let passed = pass(&mut client, &flight, &mut stream, Input::default(), true).await;
    note_end(&client, &flight, passed);
    if passed.over == Over::Broken(Side::Client) {
        reset(&stream);
    }
    // A client that is slow to take what came last does not keep the instance.
    drop((flight, stream));
    match passed.over {
        // Closing on a client that still sends would reset, and could destroy what was said last.
        Over::Closed if !passed.client_done => client.linger().await,
        Over::Broken(Side::Instance) => client.reset_when_sent().await,
        _ => {}
    }
}

/// Counts how a connection ended.
fn note_end(client: &Client, flight: &Flight, passed: Passed) {
    let (cell, service) = (flight.instance.cell(), flight.service.cell());
    match passed.over {
        Over::Closed => {
            cell.answered.add(1);
            cell.failed_in_row.set(0);
            service.connections.add(1);
        }
        Over::Idle => service.connections.add(1),
        Over::Broken(Side::Client) => service.cancelled.add(1),
        Over::Broken(Side::Instance) => {
            flight.cut_off();
            if passed.client_done {
                // Some close at once when their client is done, with bytes of it unread: that resets too.
                service.connections.add(1);
            } else {
                note_failure(client, flight, Cause::Instance(Failure::CutOff));
                service.aborted.add(1);
            }
        }
    }
}

/// An instance and a connection to it.
async fn reach(client: &Client, service: &mut Rc<ServiceLocal>) -> Result<(Flight, TcpStream), Refused> {
    let (mut tried, mut count, mut waited_ms) = (Tried::default(), 0u8, 0);
    loop {
        let seeker = Seeker {
            thread: &client.thread,
            slot: &client.slot,
            stream: &client.stream,
            client: client.address,
            tried,
            movable: false,
            tie: Tie::default(),
            main: None,
        };
        let flight = match acquire(seeker, service).await? {
            Answers::Instance(flight) => flight,
            // A page is an answer of HTTP.
            Answers::Page => return Err(Refused::Unavailable),
        };
        flight.set_waiting(false);
        if count > 0 {
            service.cell().retries.add(1);
        }
        count = count.saturating_add(1);
        tried.push(&flight.instance);
        let cause = match connect(client, &flight).await {
            Ok(stream) => return Ok((flight, stream)),
            Err(failed) => failed.cause,
        };
        note_failure(client, &flight, cause);
        drop(flight);
        if cause == Cause::Scarce || all_tried(service, &tried) {
            // Nobody can be reached: it waits as if that were known, and then everybody may be tried anew.
            let pause_ms = retry::pause_ms(waited_ms, &service.config().hold).ok_or(Refused::Unavailable)?;
            pause(client, pause_ms).await;
            waited_ms += pause_ms;
            (tried, count) = (Tried::default(), count - 1);
        } else if !may_try_again(count, service) || !client.thread.may_spend(service) {
            return Err(Refused::Unavailable);
        }
        client.thread.read_clock();
        client.thread.refresh(service);
    }
}

/// Nothing was sent, so only the number of tries bounds it.
fn may_try_again(tries: u8, service: &ServiceLocal) -> bool {
    let so_far =
        Attempt { idempotent: true, keyed: false, sent: Sent::Nothing, replayable: true, answered: false, tries };
    retry::may_repeat(so_far, &service.config().retry)
}

async fn pause(client: &Client, pause_ms: u64) {
    client.thread.read_clock();
    client.arm(pause_ms);
    let Err(_expired) = client.slot.until(Signal::Expired as u8, |_| Poll::<Infallible>::Pending).await;
}

/// Makes the end unmistakable: a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}
