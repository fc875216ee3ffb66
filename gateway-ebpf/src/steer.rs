//! Which flow a packet belongs to.

use crate::maps;
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use gateway_common::{
    admit,
    flow::{FlowConfig, FlowEntry, FlowKey},
    headers::Headers,
    index::{Entry, PLACES_PER_ELEMENT, Places, WAYS},
    learned::FlowState,
    verdict::Reason,
};

/// A flow's configuration and state, and the one time of this packet.
pub struct Flow {
    pub config: &'static FlowConfig,
    pub state: &'static mut FlowState,
    /// Kernel monotonic nanoseconds, or 0 for a time not taken.
    pub now: u64,
}

impl Flow {
    /// Takes the time of a packet for which it is `needed`, and of one that comes after a pause.
    #[inline(always)]
    pub fn take_time(&mut self, needed: bool) {
        // SAFETY: the helper takes nothing and returns a number; the kernel compiles it to one load.
        let ticks = unsafe { bpf_jiffies64() };
        if needed || ticks.wrapping_sub(self.state.ticks) >= TICKS_MAX {
            self.state.ticks = ticks;
            // SAFETY: the helper takes nothing and returns a number.
            self.now = unsafe { bpf_ktime_get_ns() };
        }
    }
}

/// Ticks that may pass without a time taken: a quarter of a second where 250 make a second.
const TICKS_MAX: u64 = 64;

/// The flow of the packet's local address and port; `None` when there is none.
#[inline(always)]
pub fn steer(headers: &Headers) -> Result<Option<Flow>, Reason> {
    let key = FlowKey::new(headers.destination, headers.destination_port);
    let places = Places::of(&key);
    for way in 0..WAYS {
        let place = places.place(way);
        let Some(element) = maps::CW_INDEX.get(place / PLACES_PER_ELEMENT) else { continue };
        let entry = &raw const element[(place % PLACES_PER_ELEMENT) as usize];
        // SAFETY: a whole aligned word, which control may change meanwhile.
        let entry = Entry::from_raw(unsafe { entry.read_volatile() });
        if !places.may_be(entry) {
            continue;
        }
        let (Some(versions), Some(state)) =
            (maps::CW_FLOWS.get(entry.slot()), maps::CW_STATES.get_ptr_mut(entry.slot()))
        else {
            return Err(Reason::StateMissing);
        };
        let [first, second] = &versions.0;
        let FlowEntry { key: found, config } = if entry.version() { second } else { first };
        if !found.names(headers.destination, headers.destination_port) {
            continue;
        }
        // SAFETY: array elements live as long as the map. Another processor may count in the same element,
        // which loses counts and nothing else: all its fields are integers.
        let state = unsafe { &mut *state };
        admit::begin(config, state);
        return Ok(Some(Flow { config, state, now: 0 }));
    }
    Ok(None)
}

/// State of another flow, read only.
#[inline(always)]
pub fn state_of(slot: u32) -> Option<&'static FlowState> {
    maps::CW_STATES.get(slot)
}
