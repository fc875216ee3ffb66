//! How long a packet takes from the sender's system call until the far host's kernel takes it in.
//!
//! The sender writes down when each packet left; the kernel stamps its arrival before any receiver is
//! woken. Both are the real-time clock of one host. Packets go one by one, far apart, so that every relay has
//! gone to sleep before the next one: what is seen is the delay of a quiet relay, wake-up included.

use super::contender::Contender;
use super::lab::{ENDPOINT_INTERFACE, Path, Side, enter};
use super::traffic::{Moment, PacketId, Replay};
use super::{PerRelay, Quiet};
use crate::packet_socket::{PacketSocket, Received};
use crate::report::{median, thousands};
use crate::steps::Steps;
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::HashMap;
use std::thread;
use std::time::Duration;

/// Packets that tell the latency in a turn, over all calls, and such turns.
const PACKETS: usize = 8_000;
const TURNS: u8 = 5;
/// Receivers give up when nothing came for this long.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two packets.
const GAP: Duration = Duration::from_micros(250);

/// In µs.
#[derive(Debug, Serialize)]
pub(super) struct Latencies {
    pub(super) latency_p50_us: PerRelay<f64>,
    pub(super) latency_p99_us: PerRelay<f64>,
    /// Above the empty redirect of the same turn.
    latency_added_p50_us: Added,
    latency_added_p99_us: Added,
}

impl Latencies {
    /// Turn by turn, one packet at a time.
    pub(super) fn measure(
        steps: &Steps,
        quiet: &mut Quiet,
        calls: u16,
        relays: PerRelay<&mut Contender<'_>>,
    ) -> Result<Self> {
        let rounds = PACKETS.div_ceil(2 * usize::from(calls));
        let turns = steps.run("latency", |step| {
            let mut turns = Vec::new();
            for turn in 0..TURNS {
                step.progress(turn.into(), TURNS.into(), "turns");
                turns.push(PerRelay {
                    empty: quiet.run(step, || relays.empty.latency(rounds))?,
                    causeway: quiet.run(step, || relays.causeway.latency(rounds))?,
                    rtpengine: quiet.run(step, || relays.rtpengine.latency(rounds))?,
                });
            }
            step.detail(format!("{TURNS} turns of {} packets", thousands(PACKETS as f64)));
            Ok(turns)
        })?;
        let whole = PerRelay {
            empty: sum(turns.iter().map(|turn| &turn.empty))?,
            causeway: sum(turns.iter().map(|turn| &turn.causeway))?,
            rtpengine: sum(turns.iter().map(|turn| &turn.rtpengine))?,
        };
        Ok(Self {
            latency_p50_us: whole.map(|latency| latency.microseconds(0.5)),
            latency_p99_us: whole.map(|latency| latency.microseconds(0.99)),
            latency_added_p50_us: Added::at(&turns, 0.5)?,
            latency_added_p99_us: Added::at(&turns, 0.99)?,
        })
    }

    pub(super) fn print_added(&self) {
        for (quantile, added) in [("p50", &self.latency_added_p50_us), ("p99", &self.latency_added_p99_us)] {
            let times = added.rtpengine_over_causeway.map_or("-".to_owned(), |times| format!("{times:.1}"));
            let (causeway, rtpengine) = (added.causeway, added.rtpengine);
            println!(
                "added latency, {quantile}: Causeway {causeway:.1} µs, rtpengine {rtpengine:.1} µs ({times} ×)"
            );
        }
    }
}

/// What a packet takes longer than through the empty redirect, in µs; below zero where the machine's noise is more.
#[derive(Debug, Serialize)]
struct Added {
    causeway: f64,
    rtpengine: f64,
    /// Absent where Causeway adds nothing that could be told from noise.
    rtpengine_over_causeway: Option<f64>,
}

impl Added {
    fn at(turns: &[PerRelay<Latency>], quantile: f64) -> Result<Self> {
        let added = |of: fn(&PerRelay<Latency>) -> &Latency| {
            let above = |turn| of(turn).microseconds(quantile) - turn.empty.microseconds(quantile);
            median(&turns.iter().map(above).collect::<Vec<_>>())
        };
        Ok(Self::of(added(|turn| &turn.causeway)?, added(|turn| &turn.rtpengine)?))
    }

    fn of(causeway: f64, rtpengine: f64) -> Self {
        let rtpengine_over_causeway = (causeway > 0.0).then(|| rtpengine / causeway);
        Self { causeway, rtpengine, rtpengine_over_causeway }
    }
}

/// What both receivers together saw.
#[derive(Debug)]
pub(crate) struct Latency {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Packets of a stream that came after a later one.
    pub(crate) reordered: u64,
    /// Nanoseconds.
    pub(crate) histogram: Histogram<u64>,
}

impl Latency {
    pub(crate) fn microseconds(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Sends `rounds` packets of each call in each direction. Nothing may be attached to the endpoints.
///
/// # Errors
/// The lab is not up.
pub(crate) fn measure(path: &Path<'_>, replay: &mut Replay<'_>, rounds: usize) -> Result<Latency> {
    let receivers = Side::BOTH.map(|side| {
        enter(&path.endpoint_namespace(side), || PacketSocket::receiver(ENDPOINT_INTERFACE, PATIENCE))
    });
    let [caller, callee] = receivers;
    let receivers = [caller?, callee?];
    thread::scope(|scope| {
        let listening = receivers.each_ref().map(|socket| scope.spawn(|| listen(socket)));
        let mut departures = Vec::new();
        for _ in 0..rounds {
            replay.round(GAP, &mut departures)?;
        }
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Vec<Moment>>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let arrivals = listening.into_iter().map(join).collect::<Result<Vec<_>>>()?;
        between(&departures, arrivals.iter().flatten())
    })
}

/// What was sent and what arrived, each stream's in its order.
fn between<'a>(departures: &[Moment], arrivals: impl Iterator<Item = &'a Moment>) -> Result<Latency> {
    let sent: HashMap<_, _> = departures.iter().copied().collect();
    let mut seen =
        Latency { sent: departures.len() as u64, received: 0, reordered: 0, histogram: histogram()? };
    let mut last_sequence = HashMap::new();
    for (packet, arrived) in arrivals {
        let Some(departed) = sent.get(packet) else { continue };
        seen.received += 1;
        let delay = arrived.saturating_sub(*departed);
        seen.histogram.record(delay.as_nanos() as u64).context("latency out of range")?;
        let previous: Option<u16> = last_sequence.insert(packet.ssrc, packet.sequence);
        // RFC 1982: later means ahead by less than half of the number space.
        seen.reordered +=
            u64::from(previous.is_some_and(|previous| packet.sequence.wrapping_sub(previous) > 0x7fff));
    }
    Ok(seen)
}

/// Several measurements as one.
pub(crate) fn sum<'a>(all: impl Iterator<Item = &'a Latency>) -> Result<Latency> {
    let mut total = Latency { sent: 0, received: 0, reordered: 0, histogram: histogram()? };
    for seen in all {
        total.sent += seen.sent;
        total.received += seen.received;
        total.reordered += seen.reordered;
        total.histogram.add(&seen.histogram).context("sum of latencies")?;
    }
    Ok(total)
}

fn listen(socket: &PacketSocket) -> Result<Vec<Moment>> {
    let (mut arrivals, mut buffer) = (Vec::new(), [0; 2048]);
    while let Some(Received { frame, at, .. }) = socket.receive(&mut buffer).context("receive")? {
        arrivals.extend(PacketId::of(frame).map(|packet| (packet, at)));
    }
    Ok(arrivals)
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_max(1_000_000_000, 3).context("histogram")
}

/// A latency figure is only as good as the delivery behind it.
///
/// # Errors
/// Packets were lost or overtook each other.
pub(crate) fn complete(name: &str, latency: &Latency) -> Result<()> {
    ensure!(
        latency.received == latency.sent && latency.reordered == 0,
        "{name}: of {} packets sent one by one {} arrived, {} of them late",
        latency.sent,
        latency.received,
        latency.reordered
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(ssrc: u32, sequence: u16, microseconds: u64) -> Moment {
        (PacketId { ssrc, sequence }, Duration::from_micros(microseconds))
    }

    #[test]
    fn a_packet_s_delay_is_from_its_own_departure_and_foreign_ones_have_none() {
        let departures = [moment(1, 7, 100), moment(2, 7, 300), moment(1, 8, 500)];
        let arrivals = [moment(1, 7, 140), moment(1, 8, 520), moment(9, 7, 900)];
        let latency = between(&departures, arrivals.iter()).unwrap();
        assert_eq!((latency.sent, latency.received, latency.reordered), (3, 2, 0));
        assert_eq!(latency.microseconds(0.0).round(), 20.0);
        assert_eq!(latency.microseconds(1.0).round(), 40.0);
        assert!(complete("a relay", &latency).is_err());
    }

    #[test]
    fn a_packet_behind_a_later_one_of_its_stream_is_told_also_where_sequence_numbers_wrap() {
        let departures = [moment(1, 0xffff, 0), moment(1, 0, 10), moment(2, 5, 20)];
        let in_order = between(&departures, departures.iter()).unwrap();
        assert_eq!((in_order.received, in_order.reordered), (3, 0));
        let late = [departures[1], departures[2], departures[0]];
        assert_eq!(between(&departures, late.iter()).unwrap().reordered, 1);
    }

    #[test]
    fn added_latency_has_a_quotient_only_where_something_was_added() {
        assert_eq!(Added::of(2.0, 30.0).rtpengine_over_causeway, Some(15.0));
        assert_eq!(Added::of(0.0, 30.0).rtpengine_over_causeway, None);
        assert_eq!(Added::of(-0.5, 30.0).rtpengine_over_causeway, None);
    }
}
