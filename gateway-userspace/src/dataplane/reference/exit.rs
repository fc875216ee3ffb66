//! The one way out of the engine: what leaves by a flow is protected with its keys, copied for captures, given to the
//! carrier, and counted as dropped after all where it could not leave.

use super::engine::{Carrier, GROWTH_MAX, Way};
use super::relay::Relay;
use super::secured::{CountedSource, Secured};
use crate::base::id::FlowId;
use crate::dataplane::record::Record;
use crate::observe::capture::{Link, datagram, shortened};
use gateway_common::flow::{FlowConfig, FlowKey, NO_SLOT, flag};
use gateway_common::verdict::{Reason, Traffic};

/// What stands at the way out.
pub(super) struct Exit<'a, C> {
    pub(super) relay: &'a mut Relay,
    pub(super) secured: &'a mut Secured,
    pub(super) captures: &'a mut Captures,
    pub(super) carrier: &'a mut C,
}

impl<C: Carrier> Exit<'_, C> {
    /// The first `octets` of `buffer`, counted as `counted` sent by the flow at this key, leave: protected where the flow
    /// has keys of [`super::engine::Engine::secure`], with [`GROWTH_MAX`] octets of room behind them.
    pub(super) fn leave(
        &mut self,
        now: u64,
        at: FlowKey,
        way: Way,
        (buffer, octets): (&mut [u8], usize),
        counted: usize,
    ) {
        let Some(config) = self.relay.config(at).copied() else { return };
        if let Err(reason) = self.send(now, &config, way, (buffer, octets)) {
            self.relay.not_sent(at, buffer.get(..octets).unwrap_or_default(), counted, reason);
        }
    }

    /// An RTP packet that was made here leaves in the stream of the flow at this key, by way of `buffer`; whether it did,
    /// which it does not while the flow is muted.
    pub(super) fn leave_made(&mut self, now: u64, at: FlowKey, packet: &[u8], buffer: &mut Vec<u8>) -> bool {
        let way = match self.relay.send_made(now, at, packet) {
            Ok(Some(way)) => way,
            Ok(None) => return false,
            Err(reason) => {
                self.relay.refuse(at, reason);
                return false;
            }
        };
        self.leave_by(now, at, way, packet, buffer)
    }

    /// RTCP that was made here leaves by the flow at this key, by way of `buffer`; whether it did, which it does not before
    /// somebody has said where it is to go.
    pub(super) fn leave_report(
        &mut self,
        now: u64,
        at: FlowKey,
        compound: &[u8],
        buffer: &mut Vec<u8>,
    ) -> bool {
        let Ok(way) = self.relay.send_report(at) else { return false };
        self.leave_by(now, at, way, compound, buffer)
    }

    fn leave_by(&mut self, now: u64, at: FlowKey, way: Way, packet: &[u8], buffer: &mut Vec<u8>) -> bool {
        buffer.clear();
        buffer.extend_from_slice(packet);
        if let Err(reason) = self.relay.protect(at, buffer) {
            self.relay.not_sent(at, packet, packet.len(), reason);
            return false;
        }
        let octets = buffer.len();
        buffer.resize(octets + GROWTH_MAX, 0);
        self.leave(now, at, way, (buffer, octets), packet.len());
        true
    }

    fn send(
        &mut self,
        now: u64,
        config: &FlowConfig,
        way: Way,
        (buffer, octets): (&mut [u8], usize),
    ) -> Result<(), Reason> {
        let FlowConfig { slot, crypto_slot, .. } = *config;
        let leaving = self.secured.protect(slot, buffer, octets)?;
        if crypto_slot != NO_SLOT
            && let Some(CountedSource { ssrc, is_rtcp, counted }) = self.secured.left(slot, buffer)
            // Before it leaves: an index must not be met twice, by no daemon (RFC 3711 section 9.1).
            && !self.relay.count(crypto_slot, |written| written.protect.record(ssrc, is_rtcp, counted))
        {
            return Err(Reason::TooManySources);
        }
        let leaving = buffer.get(..leaving).ok_or(Reason::NoTailroom)?;
        if config.flags & flag::CAPTURE != 0 && !self.captures.copy(config, now, true, way, leaving) {
            self.relay.counters().count(Traffic::CapturesLost);
        }
        self.carrier.send(way.from, way.to, way.traffic_class, leaving)
    }
}

/// Copies for captures, until the host takes them.
#[derive(Debug, Default)]
pub(super) struct Captures {
    waiting: Vec<Record>,
}

/// Copies that may wait for the host to take them: what a second of one call amounts to.
const WAITING_MAX: usize = 1_024;

impl Captures {
    /// Copies a packet as it came or, with `sent`, as it leaves; false where there is no room.
    pub(super) fn copy(
        &mut self,
        config: &FlowConfig,
        now: u64,
        sent: bool,
        way: Way,
        payload: &[u8],
    ) -> bool {
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        let keep = shortened(payload, config.flags & flag::CAPTURE_AUDIO != 0);
        let octets = datagram(way.from, way.to, way.traffic_class, payload, keep);
        let length = u32::try_from(octets.len() + payload.len() - keep).unwrap_or(u32::MAX);
        let flow = FlowId { slot: config.slot, epoch: config.epoch };
        self.waiting.push(Record::Captured { flow, at: now, sent, link: Link::Ip, length, octets });
        true
    }

    /// Those since the last call.
    pub(super) fn records(&mut self) -> std::vec::Drain<'_, Record> {
        self.waiting.drain(..)
    }
}
