//! Which flow a packet belongs to.

use crate::maps;
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use core::{arch::asm, mem::offset_of};
use gateway_common::{
    admit,
    flow::{FlowConfig, FlowEntry, FlowKey},
    headers::Headers,
    index::{Entry, Places, WAYS},
    learned::FlowState,
    verdict::Reason,
};

/// A flow's configuration and state, and the one time of this packet.
pub struct Flow {
    pub config: &'static FlowConfig,
    pub state: &'static mut FlowState,
    /// Of the configuration.
    pub revision: u32,
    /// Kernel monotonic nanoseconds, or 0 for a time not taken.
    pub now: u64,
}

impl Flow {
    /// Before anything that reads the state.
    #[inline(always)]
    pub fn begin(&mut self) {
        admit::begin(self.config, self.state);
    }

    /// Whether this packet comes after a pause.
    #[inline(always)]
    pub fn is_paused(&self) -> bool {
        ticks().wrapping_sub(self.state.ticks) >= TICKS_MAX
    }

    /// Takes the time of a packet for which it is `needed`, and of one that comes after a pause.
    #[inline(always)]
    pub fn take_time(&mut self, needed: bool) {
        if needed || self.is_paused() {
            self.state.ticks = ticks();
            // SAFETY: the helper takes nothing and returns a number.
            self.now = unsafe { bpf_ktime_get_ns() };
        }
    }
}

#[inline(always)]
fn ticks() -> u64 {
    // SAFETY: the helper takes nothing and returns a number; the kernel compiles it to one load.
    unsafe { bpf_jiffies64() }
}

/// Ticks that may pass without a time taken: a quarter of a second where 250 make a second.
const TICKS_MAX: u64 = 64;

/// The flow of the packet's local address and port; `None` when there is none.
#[inline(always)]
pub fn steer(headers: &Headers) -> Result<Option<Flow>, Reason> {
    let key = FlowKey::new(headers.destination, headers.destination_port);
    let places = Places::of(&key);
    let Some(index) = maps::CW_INDEX.get(0) else { return Err(Reason::StateMissing) };
    for way in 0..WAYS {
        let Some(entry) = index.get(places.place(way) as usize) else { continue };
        // SAFETY: a whole aligned word, which control may change meanwhile.
        let entry = Entry::from_raw(unsafe { (&raw const *entry).read_volatile() });
        if !places.may_be(entry) {
            continue;
        }
        let Some(slot) = maps::CW_FLOWS.get_ptr_mut(entry.slot()) else { return Err(Reason::StateMissing) };
        // SAFETY: array elements live as long as the map, and only the kernel writes the state, to which no reference
        // begins before this packet's own below.
        let ([first, second], state) = unsafe { (&(*slot).versions, &raw mut (*slot).state) };
        let flow = if entry.version() { second } else { first };
        fetch::<{ offset_of!(FlowState, shortcut) }, _>(state);
        fetch::<{ offset_of!(FlowState, highest) }, _>(state);
        if !flow.is_at(headers.destination, headers.destination_port) {
            continue;
        }
        let FlowEntry { revision, config, .. } = flow;
        // SAFETY: as above. Another processor may count in the same state, which loses counts and nothing else: all its
        // fields are integers.
        let state = unsafe { &mut *state };
        return Ok(Some(Flow { config, state, revision: *revision, now: 0 }));
    }
    Ok(None)
}

/// Loads a word of `memory` and forgets it: the lines of the cache that an RTP packet needs are then fetched side by
/// side, and not each when the program comes to it, too far on for the processor to see it from here.
#[inline(always)]
fn fetch<const AT: usize, T>(memory: *const T) {
    const { assert!(AT + size_of::<u64>() <= size_of::<T>()) };
    // SAFETY: within the structure, and nothing is made of what is read.
    unsafe {
        asm!("{0} = *(u64 *)({1} + {2})", out(reg) _, in(reg) memory, const AT,
            options(readonly, nostack, preserves_flags))
    };
}

/// State of another flow, read only.
#[inline(always)]
pub fn state_of(slot: u32) -> Option<&'static FlowState> {
    maps::CW_FLOWS.get(slot).map(|slot| &slot.state)
}
