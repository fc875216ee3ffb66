//! How long a packet takes from the sender's system call until the far host's kernel takes it in.
//!
//! Each packet carries the time at which it was sent; the kernel stamps its arrival before any receiver is
//! woken. Both are the real-time clock of one host. Packets go one by one, far apart, so that every relay has
//! gone to sleep before the next one: what is seen is the delay of a quiet relay, wake-up included.

use super::lab::{ENDPOINT_INTERFACE, Path, Side, enter};
use super::traffic::{HEADERS, Replay};
use crate::packet_socket::{PacketSocket, Received};
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Receivers give up when nothing came for this long.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two packets.
const GAP: Duration = Duration::from_micros(250);
/// In front of the time of sending: tells our packets from others.
const MARK: [u8; 8] = *b"causeway";

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
/// The lab is not up, or a packet arrives that was changed where a relay may not change it.
pub(crate) fn measure(path: &Path<'_>, replay: &mut Replay<'_>, rounds: usize) -> Result<Latency> {
    let receivers = Side::BOTH.map(|side| {
        enter(&path.endpoint_namespace(side), || PacketSocket::receiver(ENDPOINT_INTERFACE, PATIENCE))
    });
    let [caller, callee] = receivers;
    let receivers = [caller?, callee?];
    thread::scope(|scope| {
        let listening = receivers.each_ref().map(|socket| scope.spawn(|| listen(socket)));
        let mut sent = 0;
        for _ in 0..rounds {
            sent += replay.round(GAP, write_time)?;
        }
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Latency>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let seen = listening.into_iter().map(join).collect::<Result<Vec<_>>>()?;
        Ok(Latency { sent, ..sum(seen.iter())? })
    })
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

fn listen(socket: &PacketSocket) -> Result<Latency> {
    let mut seen = Latency { sent: 0, received: 0, reordered: 0, histogram: histogram()? };
    let mut last_sequence = std::collections::HashMap::new();
    let mut buffer = [0; 2048];
    while let Some(Received { frame, at: arrived, .. }) = socket.receive(&mut buffer).context("receive")? {
        let Some((headers, payload)) = frame.split_first_chunk::<HEADERS>() else { continue };
        let Some(sent_at) = read_time(payload) else { continue };
        let (sequence, ssrc) = (u16::from_be_bytes([headers[44], headers[45]]), &headers[50..54]);
        seen.received += 1;
        let delay = arrived.saturating_sub(sent_at);
        seen.histogram.record(delay.as_nanos() as u64).context("latency out of range")?;
        let previous = last_sequence.insert(<[u8; 4]>::try_from(ssrc).unwrap_or_default(), sequence);
        // RFC 1982: later means ahead by less than half of the number space.
        seen.reordered +=
            u64::from(previous.is_some_and(|previous| sequence.wrapping_sub(previous) > 0x7fff));
    }
    Ok(seen)
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_max(1_000_000_000, 3).context("histogram")
}

fn write_time(payload: &mut [u8]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some((mark, rest)) = payload.split_first_chunk_mut::<8>()
        && let Some((time, _)) = rest.split_first_chunk_mut::<8>()
    {
        *mark = MARK;
        *time = (now.as_nanos() as u64).to_be_bytes();
    }
}

fn read_time(payload: &[u8]) -> Option<Duration> {
    let (mark, rest) = payload.split_first_chunk::<8>()?;
    let (time, _) = rest.split_first_chunk::<8>()?;
    (*mark == MARK).then(|| Duration::from_nanos(u64::from_be_bytes(*time)))
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
