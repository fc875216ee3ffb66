//! SRTP of the plain-socket path: keys and states by crypto slot, and the shared rules over them.

use super::states::States;
use gateway_common::srtp::{self, FlowCrypto, FlowKeys, Scratch, Straight};
use gateway_common::verdict::Reason;
use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;

/// What the kernel has in maps of its own.
#[derive(Default)]
pub(super) struct Crypto {
    keys: HashMap<u32, FlowKeys>,
    states: States<FlowCrypto>,
    scratch: Box<Scratch>,
}

impl Crypto {
    pub(super) fn over(states: States<FlowCrypto>) -> Self {
        Self { states, ..Self::default() }
    }

    pub(super) fn keys(&self, slot: u32) -> FlowKeys {
        self.keys.get(&slot).copied().unwrap_or(FlowKeys::NONE)
    }

    pub(super) fn set(&mut self, slot: u32, keys: FlowKeys) {
        self.keys.insert(slot, keys);
    }

    /// Forgets keys and what was counted with them.
    pub(super) fn wipe(&mut self, slot: u32) {
        if let Some(keys) = self.keys.get_mut(&slot) {
            *keys = FlowKeys::NONE;
            black_box(keys);
        }
        self.keys.remove(&slot);
    }

    pub(super) fn state(&self, slot: u32) -> FlowCrypto {
        self.states.read(slot)
    }

    pub(super) fn count<R>(&mut self, slot: u32, change: impl FnOnce(&mut FlowCrypto) -> R) -> R {
        self.states.change(slot, change)
    }

    /// The payload becomes what it protected.
    pub(super) fn unprotect(&mut self, slot: u32, payload: &mut Vec<u8>) -> Result<(), Reason> {
        self.scratch.load(payload)?;
        let keys = self.keys.get(&slot).ok_or(Reason::KeysMissing)?;
        let changed = self.states.change(slot, |state| {
            let stream = &mut state.unprotect;
            srtp::unprotect(&mut Straight, &keys.unprotect, stream, &mut self.scratch, payload.len())
        })?;
        payload.clear();
        payload.extend(self.scratch.octets(changed.len));
        Ok(())
    }

    /// The payload becomes what protects it.
    pub(super) fn protect(&mut self, slot: u32, payload: &mut Vec<u8>) -> Result<(), Reason> {
        self.scratch.load(payload)?;
        let keys = self.keys.get(&slot).ok_or(Reason::KeysMissing)?;
        let changed = self.states.change(slot, |state| {
            let stream = &mut state.protect;
            srtp::protect(&mut Straight, &keys.protect, stream, &mut self.scratch, payload.len())
        })?;
        payload.clear();
        payload.extend(self.scratch.octets(changed.len));
        Ok(())
    }

    /// Octets by which protection makes an RTP packet longer, or an RTCP packet.
    pub(super) fn growth(&self, slot: u32, is_rtcp: bool) -> usize {
        let second = if is_rtcp { 200 } else { 0 };
        self.keys.get(&slot).map_or(0, |keys| keys.protect.overhead(u32::from_ne_bytes([0x80, second, 0, 0])))
    }
}

impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypto").field("flows", &self.keys.len()).finish_non_exhaustive()
    }
}
