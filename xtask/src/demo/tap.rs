//! Counts RTP at both ends, on their own interfaces: what leaves them, and what reaches them.

use crate::namespace::enter;
use crate::packet_socket::{PacketSocket, Received};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const INTERFACE: &str = "to-gateway";
const SIP_PORT: u16 = 5060;
/// A tap that hears nothing for this long looks whether it is wanted.
const PATIENCE: Duration = Duration::from_millis(200);

/// RTP packets of all calls in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) received: u64,
}

#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    received: AtomicU64,
    closing: AtomicBool,
}

/// A thread on each end's interface.
#[derive(Debug)]
pub(super) struct Taps {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Taps {
    /// Opens the taps on caller and callee of the lab `prefix`.
    ///
    /// # Errors
    /// The lab is not up.
    pub(super) fn open(prefix: &str) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let tap = |host: &str| {
            let socket = enter(&format!("{prefix}-{host}"), || PacketSocket::tap(INTERFACE, PATIENCE))?;
            let shared = Arc::clone(&shared);
            Ok(thread::spawn(move || count(&socket, &shared)))
        };
        let threads = ["caller", "callee"].into_iter().map(tap).collect::<Result<_>>()?;
        Ok(Self { shared, threads })
    }

    pub(super) fn counts(&self) -> Counts {
        let Shared { sent, received, .. } = &*self.shared;
        Counts { sent: sent.load(Ordering::Relaxed), received: received.load(Ordering::Relaxed) }
    }

    /// Waits until nothing comes any more, and ends.
    ///
    /// # Errors
    /// A tap failed, so that the counts are not to be trusted.
    pub(super) fn close(self) -> Result<Counts> {
        self.shared.closing.store(true, Ordering::Relaxed);
        let counts = Arc::clone(&self.shared);
        for thread in self.threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        let (sent, received) = (counts.sent.load(Ordering::Relaxed), counts.received.load(Ordering::Relaxed));
        Ok(Counts { sent, received })
    }
}

fn count(socket: &PacketSocket, shared: &Shared) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        match socket.receive(&mut buffer).context("tap on an end's interface")? {
            Some(Received { frame, outgoing, .. }) if is_rtp(frame) => {
                let counter = if outgoing { &shared.sent } else { &shared.received };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => {}
            None if shared.closing.load(Ordering::Relaxed) => return Ok(()),
            None => {}
        }
    }
}

/// Ethernet, IPv4 without options, UDP beside SIP, and RTP's version with a payload type that is none of RTCP's
/// (RFC 5761 section 4).
fn is_rtp(frame: &[u8]) -> bool {
    let Some((headers, payload)) = frame.split_first_chunk::<42>() else { return false };
    let port = |at: usize| u16::from_be_bytes([headers[at], headers[at + 1]]);
    let is_udp = headers[12..15] == [0x08, 0x00, 0x45] && headers[23] == libc::IPPROTO_UDP as u8;
    is_udp
        && port(34) != SIP_PORT
        && port(36) != SIP_PORT
        && matches!(payload, [first, second, ..] if first >> 6 == 2 && !(192..224).contains(second))
}
