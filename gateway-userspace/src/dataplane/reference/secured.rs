//! Keys of flows over sockets: what arrives is unprotected before the relay sees it, what leaves is protected after.

use crate::srtp::{MasterKey, Protect, SrtpFault, Unprotect};
use gateway_common::net::Be32;
use gateway_common::srtp::{FlowCrypto, Source, Stream};
use gateway_common::verdict::Reason;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Most that protection adds to a packet: tag, word and the longest identifier.
pub(in crate::dataplane) const GROWTH_MAX: usize = 16 + 4 + 128;

/// Keys and counters of one worker's flows, by slot.
#[derive(Debug, Default)]
pub(super) struct Secured {
    flows: HashMap<u32, Keys>,
    /// Of far ends at a flow's port that checks tell from the first one, by slot and in order.
    forks: HashMap<u32, Vec<Option<Arriving>>>,
    /// By key, because all flows that lead to one peer share its counters: an index must not be met twice.
    leaving: HashMap<MasterKey, Leaving>,
}

/// A key, and what was counted of the packets that came with it.
type Arriving = (MasterKey, Box<Unprotect>);

#[derive(Debug, Default)]
struct Keys {
    arriving: Option<Arriving>,
    leaving: Option<MasterKey>,
}

#[derive(Debug)]
struct Leaving {
    protect: Protect,
    flows: u32,
}

impl Secured {
    /// The flow of `slot` has these keys from now on. Counters go on under a key that stays, and begin anew under
    /// another. Whether the key of what arrives is one that the flow did not have, and that of what leaves.
    pub(super) fn set(
        &mut self,
        slot: u32,
        arriving: Option<&MasterKey>,
        leaving: Option<&MasterKey>,
    ) -> [bool; 2] {
        let mut before = self.flows.remove(&slot).unwrap_or_default();
        let other =
            [arriving != before.arriving.as_ref().map(|(key, _)| key), leaving != before.leaving.as_ref()];
        let arriving = arriving.map(|key| match before.arriving.take() {
            Some((held, mut unprotect)) if held == *key => {
                unprotect.renegotiated();
                (held, unprotect)
            }
            _ => (key.clone(), Box::new(Unprotect::new(key))),
        });
        if let Some(key) = leaving {
            let fresh = || Leaving { protect: Protect::new(key), flows: 0 };
            self.leaving.entry(key.clone()).or_insert_with(fresh).flows += 1;
        }
        self.leave(before);
        let leaving = leaving.cloned();
        if arriving.is_some() || leaving.is_some() {
            self.flows.insert(slot, Keys { arriving, leaving });
        }
        other
    }

    /// What was counted of the source of an RTP or RTCP packet that arrived, as far as the flow has a key for that.
    pub(super) fn arrived(&self, slot: u32, packet: &[u8]) -> Option<CountedSource> {
        let (_, unprotect) = self.flows.get(&slot)?.arriving.as_ref()?;
        CountedSource::of(packet, |ssrc, is_rtcp| unprotect.counted(ssrc, is_rtcp))
    }

    /// Of one that leaves.
    pub(super) fn left(&self, slot: u32, packet: &[u8]) -> Option<CountedSource> {
        let leaving = self.leaving.get(self.flows.get(&slot)?.leaving.as_ref()?)?;
        CountedSource::of(packet, |ssrc, is_rtcp| leaving.protect.counted(ssrc, is_rtcp))
    }

    /// Goes on from what was written down of a flow, by a daemon before this one.
    pub(super) fn resume(&mut self, slot: u32, written: &FlowCrypto) {
        let Some(keys) = self.flows.get_mut(&slot) else { return };
        let sources = |stream: &Stream| {
            let of =
                |is_rtcp| stream.recorded(is_rtcp).map(move |source| (*source, is_rtcp)).collect::<Vec<_>>();
            [of(false), of(true)].concat()
        };
        if let Some((_, unprotect)) = &mut keys.arriving {
            for (Source { ssrc, highest, window, .. }, is_rtcp) in sources(&written.unprotect) {
                unprotect.resume(u32::from_be_bytes(ssrc.bytes()), is_rtcp, (highest, window));
            }
        }
        if let Some(leaving) = keys.leaving.as_ref().and_then(|key| self.leaving.get_mut(key)) {
            for (Source { ssrc, highest, window, .. }, is_rtcp) in sources(&written.protect) {
                leaving.protect.resume(u32::from_be_bytes(ssrc.bytes()), is_rtcp, (highest, window));
            }
        }
    }

    /// Further far ends of the flow of `slot` have these keys: those that an offer rings at beside the one that media goes
    /// to. Which one that is changes in the first seconds of a stream only, whose counters start where they were.
    pub(super) fn set_forks<'a>(&mut self, slot: u32, keys: impl Iterator<Item = Option<&'a MasterKey>>) {
        let mut held: Vec<_> = self.forks.remove(&slot).into_iter().flatten().flatten().collect();
        let forks: Vec<_> = keys.map(|key| key.map(|key| kept(&mut held, key))).collect();
        if !forks.is_empty() {
            self.forks.insert(slot, forks);
        }
    }

    /// The flow of `slot` is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.forks.remove(&slot);
        let before = self.flows.remove(&slot).unwrap_or_default();
        self.leave(before);
    }

    /// Unprotects what arrived at the flow from its far end at this place, 0 for the one that media goes to; in place. The
    /// length that is left.
    pub(super) fn unprotect(&mut self, slot: u32, fork: usize, packet: &mut [u8]) -> Result<usize, Reason> {
        let arriving = match fork.checked_sub(1) {
            None => self.flows.get_mut(&slot).and_then(|keys| keys.arriving.as_mut()),
            Some(further) => self.forks.get_mut(&slot).and_then(|forks| forks.get_mut(further)?.as_mut()),
        };
        let Some((_, unprotect)) = arriving else { return Ok(packet.len()) };
        let unprotected = if is_rtcp(packet) { unprotect.rtcp(packet) } else { unprotect.rtp(packet) };
        unprotected.map_err(reason)
    }

    /// Protects the first `length` octets of `buffer`, which leave by the flow; the length that leaves.
    pub(super) fn protect(&mut self, slot: u32, buffer: &mut [u8], length: usize) -> Result<usize, Reason> {
        let key = self.flows.get(&slot).and_then(|keys| keys.leaving.as_ref());
        let Some(key) = key else { return Ok(length) };
        let leaving = self.leaving.get_mut(key).ok_or(Reason::KeysMissing)?;
        let protected = match is_rtcp(buffer) {
            true => leaving.protect.rtcp(buffer, length),
            false => leaving.protect.rtp(buffer, length),
        };
        protected.map_err(reason)
    }

    fn leave(&mut self, keys: Keys) {
        if let Some(Entry::Occupied(mut entry)) = keys.leaving.map(|key| self.leaving.entry(key)) {
            entry.get_mut().flows -= 1;
            if entry.get().flows == 0 {
                entry.remove();
            }
        }
    }
}

/// What is to be written down of a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountedSource {
    pub(super) ssrc: Be32,
    pub(super) is_rtcp: bool,
    pub(super) counted: (u64, [u64; 2]),
}

impl CountedSource {
    fn of(packet: &[u8], counted: impl FnOnce(u32, bool) -> Option<(u64, [u64; 2])>) -> Option<Self> {
        let is_rtcp = is_rtcp(packet);
        let ssrc = *packet.get(if is_rtcp { 4 } else { 8 }..)?.first_chunk()?;
        let counted = counted(u32::from_be_bytes(ssrc), is_rtcp)?;
        Some(Self { ssrc: Be32::from_bytes(ssrc), is_rtcp, counted })
    }
}

/// What packets with this key are unprotected with: with the counters of before, if it is one of those that were `held`.
fn kept(held: &mut Vec<Arriving>, key: &MasterKey) -> Arriving {
    match held.iter().position(|(known, _)| known == key) {
        Some(position) => held.swap_remove(position),
        None => (key.clone(), Box::new(Unprotect::new(key))),
    }
}

/// RFC 5761 section 4: what its second octet says where both come to one port, which SRTP leaves in clear.
fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet.get(1), Some(192..=223))
}

fn reason(fault: SrtpFault) -> Reason {
    match fault {
        SrtpFault::Malformed => Reason::SrtpShort,
        SrtpFault::WrongMki | SrtpFault::Unauthentic => Reason::BadTag,
        SrtpFault::Replayed => Reason::Replayed,
        SrtpFault::Exhausted => Reason::TooManySources,
        SrtpFault::NoRoom => Reason::NoTailroom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::Suite;

    fn key(octet: u8) -> MasterKey {
        MasterKey::new(Suite::AesCm128HmacSha1_80, &[octet; 30]).unwrap()
    }

    fn packet(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet.extend([5; 160]);
        packet
    }

    fn report() -> Vec<u8> {
        vec![0x80, 201, 0, 1, 1, 2, 3, 4]
    }

    fn sealed(secured: &mut Secured, slot: u32, packet: &[u8]) -> Result<Vec<u8>, Reason> {
        let mut buffer = [packet, &[0; GROWTH_MAX]].concat();
        let length = secured.protect(slot, &mut buffer, packet.len())?;
        buffer.truncate(length);
        Ok(buffer)
    }

    #[test]
    fn a_flow_without_keys_is_left_alone() {
        let mut secured = Secured::default();
        secured.set(1, None, None);
        assert_eq!(sealed(&mut secured, 1, &packet(1)), Ok(packet(1)));
        assert_eq!(secured.unprotect(1, 0, &mut packet(1)), Ok(172));
        assert!(secured.flows.is_empty());
    }

    // Statement 138.
    #[test]
    fn counters_go_on_under_a_key_that_stays_and_begin_anew_under_another() {
        let mut secured = Secured::default();
        secured.set(1, Some(&key(1)), None);
        let mut far = Secured::default();
        far.set(1, None, Some(&key(1)));
        // A turn and a half.
        for step in 0..100u32 {
            let mut arrived = sealed(&mut far, 1, &packet((step * 1_000) as u16)).unwrap();
            assert_eq!(secured.unprotect(1, 0, &mut arrived), Ok(172), "{step}");
        }
        secured.set(1, Some(&key(1)), None);
        let mut arrived = sealed(&mut far, 1, &packet(100_000u32 as u16)).unwrap();
        assert_eq!(secured.unprotect(1, 0, &mut arrived), Ok(172), "the counter was kept");

        secured.set(1, Some(&key(2)), None);
        far.set(1, None, Some(&key(2)));
        let mut arrived = sealed(&mut far, 1, &packet(100_001u32 as u16)).unwrap();
        assert_eq!(secured.unprotect(1, 0, &mut arrived), Ok(172), "both began again");
        let mut of_before = Secured::default();
        of_before.set(1, None, Some(&key(1)));
        let mut arrived = sealed(&mut of_before, 1, &packet(7)).unwrap();
        assert_eq!(secured.unprotect(1, 0, &mut arrived), Err(Reason::BadTag));
    }

    #[test]
    fn reports_that_leave_by_two_flows_to_one_peer_never_share_an_index() {
        let mut secured = Secured::default();
        secured.set(1, None, Some(&key(1)));
        secured.set(2, None, Some(&key(1)));
        let packets = [1, 2, 1].map(|slot| sealed(&mut secured, slot, &report()).unwrap());
        let index = |packet: &Vec<u8>| packet[8..12].to_vec();
        assert_eq!(packets.each_ref().map(index), [0u8, 1, 2].map(|index| vec![0x80, 0, 0, index]));
        secured.forget(1);
        assert_eq!(index(&sealed(&mut secured, 2, &report()).unwrap()), [0x80, 0, 0, 3]);
        secured.forget(2);
        assert!(secured.leaving.is_empty() && secured.flows.is_empty());
    }

    // Statement 136.
    #[test]
    fn each_refusal_has_its_reason() {
        let mut secured = Secured::default();
        secured.set(1, Some(&key(1)), None);
        let mut far = Secured::default();
        far.set(1, None, Some(&key(1)));
        let arrived = sealed(&mut far, 1, &packet(1)).unwrap();
        secured.unprotect(1, 0, &mut arrived.clone()).unwrap();
        assert_eq!(secured.unprotect(1, 0, &mut arrived.clone()), Err(Reason::Replayed));
        assert_eq!(secured.unprotect(1, 0, &mut packet(2)), Err(Reason::BadTag));
        assert_eq!(secured.unprotect(1, 0, &mut packet(3)[..12]), Err(Reason::SrtpShort));
    }
}
