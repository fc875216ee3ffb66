//! Listens on the interfaces of both ends: counts the RTP that leaves and reaches them, and times the set-up of
//! each call as the caller's interface sees it. SIPp's own clock has steps of some milliseconds.

use crate::namespace::enter;
use crate::packet_socket::{PacketSocket, Received};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const INTERFACE: &str = "to-gateway";
const SIP_PORT: u16 = 5060;
/// A tap that hears nothing for this long looks whether it is wanted.
const PATIENCE: Duration = Duration::from_millis(200);

/// RTP packets of all calls in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// What the taps saw, once they are closed.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) counts: Counts,
    /// From INVITE to 200 of each answered call, in order of size.
    pub(crate) setup_ms: Vec<f64>,
}

/// Times of calls by Call-ID. Both ends have the same calls, by Call-IDs of their own.
#[derive(Debug, Default)]
struct SetUps {
    /// When the first INVITE left.
    invited: HashMap<Vec<u8>, Duration>,
    milliseconds: Vec<f64>,
}

#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    received: AtomicU64,
    closing: AtomicBool,
    set_ups: Mutex<SetUps>,
}

/// A thread on each end's interface.
#[derive(Debug)]
pub(crate) struct Taps {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Taps {
    /// Opens the taps on caller and callee of the lab `prefix`.
    ///
    /// # Errors
    /// The lab is not up.
    pub(crate) fn open(prefix: &str) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let tap = |host: &str| {
            let socket = enter(&format!("{prefix}-{host}"), || PacketSocket::tap(INTERFACE, PATIENCE))?;
            let shared = Arc::clone(&shared);
            Ok(thread::spawn(move || listen(&socket, &shared)))
        };
        let threads = ["caller", "callee"].into_iter().map(tap).collect::<Result<_>>()?;
        Ok(Self { shared, threads })
    }

    pub(crate) fn counts(&self) -> Counts {
        let Shared { sent, received, .. } = &*self.shared;
        Counts { sent: sent.load(Ordering::Relaxed), received: received.load(Ordering::Relaxed) }
    }

    /// Waits until nothing comes any more, and ends.
    ///
    /// # Errors
    /// A tap failed, so that what was seen is not to be trusted.
    pub(crate) fn close(self) -> Result<Seen> {
        self.shared.closing.store(true, Ordering::Relaxed);
        let counts = self.shared.clone();
        for thread in self.threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        let counts = Counts {
            sent: counts.sent.load(Ordering::Relaxed),
            received: counts.received.load(Ordering::Relaxed),
        };
        let mut set_ups = self.shared.set_ups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut setup_ms = std::mem::take(&mut set_ups.milliseconds);
        setup_ms.sort_by(f64::total_cmp);
        Ok(Seen { counts, setup_ms })
    }
}

fn listen(socket: &PacketSocket, shared: &Shared) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let received = socket.receive(&mut buffer).context("tap on an end's interface")?;
        let Some(Received { frame, at, outgoing }) = received else {
            if shared.closing.load(Ordering::Relaxed) {
                return Ok(());
            }
            continue;
        };
        match carried(frame) {
            Some(Carried::Rtp) => {
                let counter = if outgoing { &shared.sent } else { &shared.received };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Some(Carried::Sip(message)) => {
                let mut set_ups = shared.set_ups.lock().unwrap_or_else(PoisonError::into_inner);
                set_ups.see(message, at, outgoing);
            }
            None => {}
        }
    }
}

impl SetUps {
    /// A caller sends an INVITE and receives a 200; a callee does neither.
    fn see(&mut self, message: &[u8], at: Duration, outgoing: bool) {
        let Some(call) = header(message, b"Call-ID:") else { return };
        if outgoing && message.starts_with(b"INVITE ") {
            self.invited.entry(call.to_vec()).or_insert(at);
        } else if !outgoing
            && message.starts_with(b"SIP/2.0 200 ")
            && header(message, b"CSeq:").is_some_and(|value| value.ends_with(b"INVITE"))
            && let Some(invited) = self.invited.remove(call)
        {
            self.milliseconds.push(at.saturating_sub(invited).as_secs_f64() * 1e3);
        }
    }
}

/// The value of a header that SIPp and Causeway write in this spelling.
fn header<'a>(message: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    message.split(|octet| *octet == b'\n').find_map(|line| Some(line.strip_prefix(name)?.trim_ascii()))
}

enum Carried<'a> {
    Rtp,
    Sip(&'a [u8]),
}

/// What a frame of Ethernet, IPv4 without options and UDP carries: SIP by its port, RTP by its version and a
/// payload type that is none of RTCP's (RFC 5761 section 4).
fn carried(frame: &[u8]) -> Option<Carried<'_>> {
    let (headers, payload) = frame.split_first_chunk::<42>()?;
    if headers[12..15] != [0x08, 0x00, 0x45] || headers[23] != libc::IPPROTO_UDP as u8 {
        return None;
    }
    let port = |at: usize| u16::from_be_bytes([headers[at], headers[at + 1]]);
    if port(34) == SIP_PORT || port(36) == SIP_PORT {
        return Some(Carried::Sip(payload));
    }
    match payload {
        [first, second, ..] if first >> 6 == 2 && !(192..224).contains(second) => Some(Carried::Rtp),
        _ => None,
    }
}

/// The smallest of the ordered `values` that is not below `quantile` of them; 0 when there are none.
pub(crate) fn quantile(values: &[f64], quantile: f64) -> f64 {
    let rank = (values.len() as f64 * quantile).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_up_lasts_from_the_first_invite_to_the_answer() {
        let mut set_ups = SetUps::default();
        let at = Duration::from_millis;
        let message = |start: &str| format!("{start}\r\nCall-ID: a@b\r\nCSeq: 1 INVITE\r\n\r\n").into_bytes();
        set_ups.see(&message("INVITE sip:x SIP/2.0"), at(100), true);
        set_ups.see(&message("INVITE sip:x SIP/2.0"), at(600), true);
        set_ups.see(&message("SIP/2.0 180 Ringing"), at(650), false);
        set_ups.see(&message("SIP/2.0 200 OK"), at(700), false);
        set_ups.see(&message("SIP/2.0 200 OK"), at(900), false);
        assert_eq!(set_ups.milliseconds, [600.0]);
    }

    #[test]
    fn sip_rtp_and_rtcp_are_told_apart() {
        let frame = |port: u16, payload: &[u8]| {
            let mut frame = vec![0; 42];
            frame[12] = 0x08;
            frame[14] = 0x45;
            frame[23] = 17;
            frame[36..38].copy_from_slice(&port.to_be_bytes());
            frame.extend(payload);
            frame
        };
        assert!(matches!(carried(&frame(5060, b"INVITE")), Some(Carried::Sip(b"INVITE"))));
        assert!(matches!(carried(&frame(20_000, &[0x80, 0x88])), Some(Carried::Rtp)));
        assert!(carried(&frame(20_000, &[0x80, 200])).is_none());
        assert!(carried(&[0; 20]).is_none());
    }

    #[test]
    fn quantiles_are_measured_values() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([quantile(&values, 0.5), quantile(&values, 0.99), quantile(&[], 0.5)], [50.0, 99.0, 0.0]);
    }
}
