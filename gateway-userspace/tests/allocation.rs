//! The media bridge allocates nothing for a packet, once its buffers have the size of those that come.
#![expect(unsafe_code, reason = "an allocator that counts")]

use gateway_userspace::base::id::Side;
use gateway_userspace::base::time::Time;
use gateway_userspace::codec::{Coding, Encoder};
use gateway_userspace::media::bridge::{
    Bridge, Events, JitterSettings, KeysFrom, KeysTo, LegSettings, Output, PayloadTypes, Stream,
};
use gateway_userspace::signal::dtmf::body::Press;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator; counts what each thread asks of it.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every request goes to the system's allocator as it came, and so does its answer.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CODECS: [(&str, &str); 6] = [
    ("PCMU/8000", ""),
    ("PCMA/8000", ""),
    ("G722/8000", ""),
    ("opus/48000/2", "useinbandfec=1"),
    ("AMR/8000", ""),
    ("AMR-WB/16000", "octet-align=1"),
];
/// Packets of 20 ms before allocations are counted, and while they are.
const WARM_UP: usize = 150;
const COUNTED: usize = 150;

struct Nowhere;

impl Output for Nowhere {
    fn packet(&mut self, _to: Side, _at: Time, _packet: &[u8]) {}

    fn key(&mut self, _to: Side, _press: Press) {}

    fn played(&mut self, _to: Side) {}
}

#[test]
fn a_warm_bridge_allocates_nothing_for_packets_of_any_two_codecs() {
    let codings: Vec<Coding> = CODECS
        .iter()
        .filter_map(|(codec, fmtp)| Coding::of(&codec.parse().expect("a codec"), Some(fmtp)).ok())
        .collect();
    for (caller, callee) in
        codings.iter().flat_map(|caller| codings.iter().map(move |callee| (caller, callee)))
    {
        let packets = [packets(caller), packets(callee)];
        let mut bridge = Bridge::new(&leg(caller), &leg(callee)).expect("the libraries set up");
        let mut before = 0;
        for (at, (one, other)) in packets[0].iter().zip(&packets[1]).enumerate() {
            if at == WARM_UP {
                before = COUNT.with(Cell::get);
            }
            let now = Time(at as u64 * 20_000);
            // One in fifteen is lost, and concealed.
            if at % 15 != 7 {
                bridge.receive(now, Side::Caller, one, &mut Nowhere);
            }
            bridge.receive(now, Side::Callee, other, &mut Nowhere);
            bridge.run(now, &mut Nowhere);
        }
        let allocated = COUNT.with(Cell::get) - before;
        assert_eq!(allocated, 0, "{caller:?} and {callee:?}, in {COUNTED} packets of each side");
    }
}

fn leg(coding: &Coding) -> LegSettings {
    let types = PayloadTypes { from: 101, to: 101 };
    LegSettings {
        coding: coding.clone(),
        speech_from: [Some(96), None],
        speech_to: 96,
        packet_ms: 20,
        comfort_noise: None,
        events: Some(Events { types, clock_rate: coding.clock_rate() }),
        keys_from: KeysFrom::Tones,
        keys_to: KeysTo::Events,
        stream: Stream::default(),
        jitter: JitterSettings::default(),
    }
}

/// RTP packets of a tone that comes and goes.
fn packets(coding: &Coding) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(coding).expect("the library sets up");
    let (rate, samples) = (f64::from(coding.sampling_rate()), coding.sampling_rate() as usize / 50);
    let packet = |at: usize| {
        let sample = |n: usize| {
            let time = (at * samples + n) as f64 / rate;
            (8_000.0 * (time * 1_500.0).sin() * (time * 9.0).sin()) as i16
        };
        let mut packet = vec![0x80, 96];
        packet.extend((at as u16).to_be_bytes());
        packet.extend((at as u32 * coding.clock_rate() / 50).to_be_bytes());
        packet.extend(1u32.to_be_bytes());
        encoder.encode(&(0..samples).map(sample).collect::<Vec<_>>(), &mut packet).expect("a whole frame");
        packet
    };
    (0..WARM_UP + COUNTED).map(packet).collect()
}
