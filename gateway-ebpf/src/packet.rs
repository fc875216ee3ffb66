//! Packet memory behind the cursor of `gateway_common`: every access is compared with the end of the packet
//! where the verifier can see it.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use core::{arch::asm, hint::black_box};
use gateway_common::{
    cursor::{Cursor, CursorMut},
    headers::{ETHERNET_LEN, IPV4_LEN, UDP_LEN},
};

/// The verifier gives up on packet pointers with offsets near 64 KiB; no frame that XDP sees is as long.
const OFFSET_MAX: usize = 0x7fff;

/// The frame that the program was called for.
pub struct Packet {
    pub context: XdpContext,
}

impl Packet {
    #[inline(always)]
    pub fn new(context: XdpContext) -> Self {
        Self { context }
    }

    #[inline(always)]
    pub fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    #[inline(always)]
    pub fn raw_context(&self) -> *mut xdp_md {
        self.context.ctx
    }

    /// Moves the start of the frame by `delta` octets; below zero makes room. `Err` leaves it as it was.
    #[inline(always)]
    pub fn move_start(&mut self, delta: i32) -> Result<(), ()> {
        // SAFETY: the context is the one that the kernel passed in; pointers are taken anew at each access.
        match unsafe { bpf_xdp_adjust_head(self.context.ctx, delta) } {
            0 => Ok(()),
            _ => Err(()),
        }
    }

    /// Cuts `octets` off the end.
    #[inline(always)]
    pub fn trim(&mut self, octets: i32) -> Result<(), ()> {
        // SAFETY: as above.
        match unsafe { bpf_xdp_adjust_tail(self.context.ctx, -octets) } {
            0 => Ok(()),
            _ => Err(()),
        }
    }

    /// Pointer to `len` octets at `offset` that are all within the packet.
    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        // For the verifier of all kernels: LLVM turns `start + 1 <= end` into `start < end`, from which the
        // verifier learns nothing about a pointer without a constant part, and folds a constant part below
        // zero into the pointer. Only the octet that counts RTP padding and the odd last one are read singly.
        let offset = if len == 1 { black_box(offset) } else { offset };
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.context.data() + offset;
        let start = if len == 1 { black_box(start) } else { start };
        (start + len <= self.context.data_end()).then_some(start as *mut u8)
    }
}

/// The same offset, of which the verifier does not know how it came about.
///
/// For the verifier of all kernels: each combination of VLAN tags and extension headers is an offset of its own,
/// and it would walk the whole rest of the program for each, past the million instructions that it grants. The
/// plain IPv4 packet keeps its constant, and the call is saved.
#[inline(always)]
pub fn forget(offset: usize) -> usize {
    const PLAIN: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;
    if offset == PLAIN { PLAIN } else { cw_forget(offset as u32) as usize }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_forget(value: u32) -> u32 {
    black_box(value)
}

impl Cursor for Packet {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // SAFETY: `at` compared the access with the end of the packet.
        self.at(offset, N).map(|pointer| unsafe { load(pointer) })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        let mut len = self.context.data_end();
        // For the verifier of all kernels: as plain Rust, the difference of two packet pointers is mixed with
        // other sums and cut to 32 bits, which pointers must not be.
        // SAFETY: arithmetic on registers.
        unsafe {
            asm!("{0} -= {1}", inout(reg) len, in(reg) self.context.data(),
                options(pure, nomem, nostack, preserves_flags))
        };
        len
    }
}

impl CursorMut for Packet {
    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, octets: [u8; N]) -> Option<()> {
        // SAFETY: as for reading.
        self.at(offset, N).map(|pointer| unsafe { store(pointer, octets) })
    }
}

/// One load or store of packet memory, whatever its alignment. In assembly, because fields of a packet are two
/// octets off, the compiler may not assume that the machine bears it, and takes such words octet by octet; the
/// verifier allows whole words where the machine does (x86-64, arm64).
macro_rules! access {
    ($load:ident, $store:ident, $int:ty, $width:literal) => {
        #[inline(always)]
        unsafe fn $load(pointer: *const u8) -> $int {
            let value: u64;
            // SAFETY: the caller proved the octets to be within the packet.
            unsafe {
                asm!(concat!("{0} = *(", $width, " *)({1} + 0)"), out(reg) value, in(reg) pointer,
                    options(pure, readonly, nostack, preserves_flags))
            };
            value as $int
        }

        #[inline(always)]
        unsafe fn $store(pointer: *mut u8, value: $int) {
            // SAFETY: the caller proved the octets to be within the packet.
            unsafe {
                asm!(concat!("*(", $width, " *)({1} + 0) = {0}"), in(reg) u64::from(value), in(reg) pointer,
                    options(nostack, preserves_flags))
            };
        }
    };
}

access!(load_64, store_64, u64, "u64");
access!(load_32, store_32, u32, "u32");
access!(load_16, store_16, u16, "u16");
access!(load_8, store_8, u8, "u8");

/// In as few words as possible, in order of their offsets.
#[inline(always)]
unsafe fn load<const N: usize>(pointer: *const u8) -> [u8; N] {
    let mut octets = [0; N];
    let mut at = 0;
    while at < N {
        // SAFETY: `at` and the width together stay within `N`, as the caller proved for the packet.
        unsafe {
            let (from, to) = (pointer.add(at), octets.as_mut_ptr().add(at));
            match N - at {
                8.. => to.cast::<u64>().write_unaligned(load_64(from)),
                4.. => to.cast::<u32>().write_unaligned(load_32(from)),
                2.. => to.cast::<u16>().write_unaligned(load_16(from)),
                _ => to.write(load_8(from)),
            }
        }
        at += width(N - at);
    }
    octets
}

#[inline(always)]
unsafe fn store<const N: usize>(pointer: *mut u8, octets: [u8; N]) {
    let mut at = 0;
    while at < N {
        // SAFETY: as for `load`.
        unsafe {
            let (to, from) = (pointer.add(at), octets.as_ptr().add(at));
            match N - at {
                8.. => store_64(to, from.cast::<u64>().read_unaligned()),
                4.. => store_32(to, from.cast::<u32>().read_unaligned()),
                2.. => store_16(to, from.cast::<u16>().read_unaligned()),
                _ => store_8(to, from.read()),
            }
        }
        at += width(N - at);
    }
}

#[inline(always)]
const fn width(left: usize) -> usize {
    match left {
        8.. => 8,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}
